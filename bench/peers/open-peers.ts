import type { Opened } from "../../src/system/opened.ts";
import { findProgram } from "../load/tools.ts";
import { startDaemon } from "../servers/server-process.ts";
import { FLAGD_PROGRAM, openFlagd } from "./flagd.ts";
import { PBFLAGS_PROGRAM, startPbflags } from "./pbflags.ts";
import type { Peer, PeerScene } from "./peer.ts";
import { openSameProtocol } from "./same-protocol.ts";

/** As the table calls the daemon. */
export const OURS = "pbflagd";

/** The daemon, and whoever of its peers is installed; a line says who is not. */
export async function openPeers(
  scene: PeerScene,
  { opened, programs }: { readonly opened: Opened; readonly programs: PeerPrograms },
): Promise<readonly Peer[]> {
  const { url, descriptors } = scene;
  const daemon = opened.add(await startDaemon("--descriptors", descriptors, "--database", url));
  const peers = [await openSameProtocol(OURS, daemon)];
  const pbflags = programs.pbflags ?? (await findProgram(PBFLAGS_PROGRAM));
  if (pbflags === undefined)
    console.log(`pbflags is left out: no ${PBFLAGS_PROGRAM} on PATH, no PBFLAGS_BIN`);
  else {
    const server = opened.add(await startPbflags(pbflags, scene));
    peers.push(await openSameProtocol("pbflags v0.10", server));
  }
  const flagd = programs.flagd ?? (await findProgram(FLAGD_PROGRAM));
  if (flagd === undefined) console.log(`flagd is left out: no ${FLAGD_PROGRAM} on PATH, no FLAGD_BIN`);
  else {
    const peer = await openFlagd(flagd, scene);
    opened.add(peer.server);
    peers.push(peer);
  }
  return peers;
}

/** Paths. Unset: looked for on PATH. */
export interface PeerPrograms {
  readonly pbflags: string | undefined;
  readonly flagd: string | undefined;
}
