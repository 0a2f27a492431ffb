import { kill } from "node:process";

/** Sends a signal to the process group that `leader` leads. Does nothing if it has no members any more. */
export function signalGroup(leader: number, signal: "SIGTERM" | "SIGKILL"): void {
  // To the system, -1 means everybody.
  if (leader <= 1) return;
  try {
    kill(-leader, signal);
  } catch {
    // Gone, or (macOS) nobody in it is left who could take a signal.
  }
}
