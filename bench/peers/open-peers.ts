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
  { opened }: { readonly opened: Opened },
): Promise<readonly Peer[]> {
  const { url, descriptors } = scene;
  const daemon = opened.add(await startDaemon("--descriptors", descriptors, "--database", url));
  const peers = [await openSameProtocol(OURS, daemon)];
  const pbflags = await findPeer("pbflags", PBFLAGS_PROGRAM, "PBFLAGS_BIN");
  if (pbflags !== undefined) {
    const server = opened.add(await startPbflags(pbflags, scene));
    peers.push(await openSameProtocol("pbflags v0.10", server));
  }
  const flagd = await findPeer("flagd", FLAGD_PROGRAM, "FLAGD_BIN");
  if (flagd !== undefined) {
    const peer = await openFlagd(flagd, scene);
    opened.add(peer.server);
    peers.push(peer);
  }
  return peers;
}

/** Where the variable says, or else on PATH. Undefined, and a line says why: it is nowhere. */
async function findPeer(name: string, program: string, variable: string): Promise<string | undefined> {
  const path = process.env[variable] ?? "";
  const found = await findProgram(path === "" ? program : path);
  if (found === undefined) {
    const why =
      path === "" ? `no ${program} on PATH, no ${variable}` : `${variable} names no program: ${path}`;
    console.log(`${name} is left out: ${why}`);
  }
  return found;
}
