import { startDaemon, type TestDaemon } from "../test/support/daemon.ts";
import { eventually } from "../test/support/eventually.ts";

/** A root, a proxy before it, and a proxy before that one. Each is a process of its own, with the defaults. */
export interface ThreeTiers extends AsyncDisposable {
  readonly root: TestDaemon;
  readonly middle: TestDaemon;
  readonly edge: TestDaemon;
}

export async function openThreeTiers(
  database: string,
  { descriptors }: { readonly descriptors: string },
): Promise<ThreeTiers> {
  const opened: TestDaemon[] = [];
  const close = async () => {
    for (const daemon of opened.toReversed()) await daemon[Symbol.asyncDispose]();
  };
  const open = async (...source: readonly string[]) => {
    const daemon = await startDaemon({ args: ["--descriptors", descriptors, ...source] });
    opened.push(daemon);
    await daemon.whenReady();
    const isFed = async () => (await daemon.metric("pbflags_feed_connected"))[""] === 1;
    await eventually(isFed, { timeoutMs: 20_000, what: "changes are told to the daemon" });
    return daemon;
  };
  try {
    const root = await open("--database", database);
    const middle = await open("--server", root.url);
    const edge = await open("--server", middle.url);
    return { root, middle, edge, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
