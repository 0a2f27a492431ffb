import { watch } from "chokidar";

export interface DirectoryListener {
  /** Something happened in one of them, or the watch has just begun. What, is for the listener to find out. */
  readonly onEvent: () => void;
  /** The operating system cannot watch, for example because its limit of watches is reached. */
  readonly onError: (error: unknown) => void;
}

/** Hands on what the operating system says about these directories, not about those below them. */
export type WatchDirectories = (
  directories: readonly string[],
  listener: DirectoryListener,
) => AsyncDisposable;

export const watchDirectories: WatchDirectories = (directories, { onEvent, onError }) => {
  const wanted = new Set(directories);
  const watcher = watch([...directories], {
    depth: 0,
    ignoreInitial: true,
    // Not a watch for each file: a directory's own covers what happens in it.
    ignored: (path) => !wanted.has(path),
    followSymlinks: false,
  });
  // "all" leaves out what is ignored, and looks at links from behind; "raw" is every event of the operating system.
  watcher.on("raw", onEvent).on("ready", onEvent).on("error", onError);
  return { [Symbol.asyncDispose]: () => watcher.close() };
};
