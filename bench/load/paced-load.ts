import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type Paced, type PaceOptions, pace } from "./pace.ts";

/** A process that does nothing but send requests at their times. One for all runs: it has to get warm too. */
export interface PacedLoad extends AsyncDisposable {
  run(options: PaceOptions): Promise<Paced>;
}

/** The option of the command line that makes this program that process. */
export const PACED_LOAD_OPTION = "paced-load";

export function openPacedLoad(): PacedLoad {
  const child = fork(process.argv[1] ?? "", [`--${PACED_LOAD_OPTION}`], {
    // JSON has no Infinity, which is how long an answer took that never came.
    serialization: "advanced",
  });
  const exited = once(child, "exit");
  return {
    run: (options) => askChild(child, options),
    async [Symbol.asyncDispose]() {
      child.kill();
      await exited;
    },
  };
}

async function askChild(child: ChildProcess, options: PaceOptions): Promise<Paced> {
  const ended = new AbortController();
  try {
    child.send(options);
    const answer = once(child, "message", { signal: ended.signal });
    const exit = once(child, "exit", { signal: ended.signal }).then(() => {
      throw new Error("Cannot measure: the process that puts the load on has ended");
    });
    const [paced] = await Promise.race([answer, exit]);
    return paced;
  } finally {
    ended.abort();
  }
}

/** What that process does until it is killed. */
export function servePacedLoad(): void {
  process.on("message", (options: PaceOptions) => {
    void pace(options).then((paced) => process.send?.(paced));
  });
  process.on("disconnect", () => process.exit());
}
