import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { answers, type ServerProcess, startProgram } from "../servers/server-process.ts";
import { freePorts } from "./free-ports.ts";
import type { PeerScene } from "./peer.ts";

/** Its program at v0.10. */
export const PBFLAGS_PROGRAM = "pbflags-server";

/** It remembers an override a flag and an entity, where the daemon remembers an entity: this is room for all. */
const CONFIG = "cache:\n  override_max_entries: 2000000\n";

/** Starts an evaluator of pbflags on the same database, with its defaults but for the room that it has. */
export async function startPbflags(program: string, scene: PeerScene): Promise<ServerProcess> {
  const { url, descriptors, folder } = scene;
  const config = join(folder, "pbflags.yaml");
  await writeFile(config, CONFIG);
  const [port = 0] = await freePorts(1);
  const args = ["--config", config, "--database", url, "--descriptors", descriptors];
  return startProgram(
    { program, args: [...args, "--listen", `127.0.0.1:${port}`] },
    { port, isReady: () => answers(`http://127.0.0.1:${port}/healthz`) },
  );
}
