import { fork } from "node:child_process";
import type { Socket } from "node:net";
import { type Channel, isToPrimary, type ToPrimary, type ToWorker, WORKER_COMMAND } from "./messages.ts";

/** How a process ended. Both are null if it could not be started. */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

/** A worker in a process of its own. */
export interface WorkerProcess extends Channel<ToPrimary, ToWorker> {
  /** Undefined if it could not be started. */
  readonly pid: number | undefined;
  /** Resolves once all has been heard that it said. */
  readonly exited: Promise<Exit>;
  kill(): void;
}

/** Starts a worker of this program. `main` is the path of its entry. Its output goes where ours goes. */
export function launchWorker(main: string, worker: number): WorkerProcess {
  const child = fork(main, [WORKER_COMMAND, String(worker)], {
    serialization: "advanced",
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  return {
    pid: child.pid,
    exited: new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        // What it said last may still be on its way.
        if (child.connected) child.once("disconnect", () => resolve({ code, signal }));
        else resolve({ code, signal });
      });
      // What else may go wrong shows in its end.
      child.on("error", () => {
        if (child.pid === undefined) resolve({ code: null, signal: null });
      });
    }),
    send(message: ToWorker, socket?: Socket) {
      if (child.connected) child.send(message, socket, { keepOpen: true }, () => {});
    },
    receive(listener) {
      child.on("message", (message) => {
        if (isToPrimary(message)) listener(message, undefined);
      });
    },
    kill: () => void child.kill("SIGKILL"),
  };
}
