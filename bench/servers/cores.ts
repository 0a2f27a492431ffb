import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Where the load, this process and the database run. */
export const LOAD_CORE = 0;
/** Where the server that is measured runs, alone. */
export const SERVER_CORE = 1;

/** Puts this process, and all that it starts from now on, on the core of the load. */
export async function pinThisProcess(): Promise<void> {
  await promisify(execFile)("taskset", ["-acp", String(LOAD_CORE), String(process.pid)]);
}
