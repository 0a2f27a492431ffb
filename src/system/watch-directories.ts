import { watch } from "node:fs";
import { basename } from "node:path";
import { Opened } from "./opened.ts";

export interface DirectoryListener {
  /** Something happened to one of the names, or the watch has just begun. What, is for the listener to find out. */
  readonly onEvent: () => void;
  /** The operating system cannot watch, for example because its limit of watches is reached. */
  readonly onError: (error: unknown) => void;
}

/** Directories, and in each the names that matter. Undefined: all that are in it. */
export type Places = ReadonlyMap<string, ReadonlySet<string> | undefined>;

/** Hands on what the operating system says about these names, not about what is below them. */
export type WatchDirectories = (places: Places, listener: DirectoryListener) => AsyncDisposable;

export const watchDirectories: WatchDirectories = (places, { onEvent, onError }) => {
  const opened = new Opened();
  for (const [directory, names] of places) {
    try {
      const watcher = watch(directory, (_, name) => {
        // Of its own end a directory tells under its own name.
        const matters =
          names === undefined || name === null || names.has(name) || name === basename(directory);
        if (matters) onEvent();
      });
      watcher.on("error", onError);
      opened.defer(() => watcher.close());
    } catch (error) {
      onError(error);
    }
  }
  onEvent();
  return opened;
};
