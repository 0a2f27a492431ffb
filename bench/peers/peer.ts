import type { Load } from "../load/load.ts";
import type { ProtocolName } from "../load/requests.ts";
import type { ServerProcess } from "../servers/server-process.ts";

/** One who does what the daemon does, and is measured in turn with it. */
export interface Peer {
  /** As the table calls it. */
  readonly name: string;
  readonly server: ServerProcess;
  /**
   * How it is asked what the daemon is asked, once its answers have been found right. Undefined: it has no such call.
   */
  askedFor(protocol: ProtocolName, question: string): Promise<Load | undefined>;
}

/** What a peer is started with. */
export interface PeerScene {
  /** Of the database. */
  readonly url: string;
  readonly descriptors: string;
  readonly folder: string;
}
