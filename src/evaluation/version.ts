/**
 * How old and new states of a store are told apart. Revisions compare within one epoch only:
 * a store restored from a backup is another epoch.
 */
export interface Version {
  readonly epoch: string;
  readonly revision: number;
}

/** From which state of the store something was learnt, and when the question set out. */
export interface Stamp {
  /** Undefined where the store has no versions. */
  readonly version: Version | undefined;
  /** On the clock's monotonic scale, in milliseconds. */
  readonly askedAt: number;
  /** When the root read it, on the same scale. Unset: as soon as it was asked for. */
  readonly readAt?: number;
}

/**
 * Whether `a` is older than `b`: by revision within one epoch, between two epochs by which was read first, and where
 * there are no versions by which question set out first. Another epoch that was read later is never older: "never older"
 * must not turn into "never again". One that was only asked for later may come from an evaluator that has lost the store.
 */
export function isOlder(a: Stamp, b: Stamp): boolean {
  if (a.version === undefined || b.version === undefined) return a.askedAt < b.askedAt;
  if (a.version.epoch === b.version.epoch) return a.version.revision < b.version.revision;
  const [readA, readB] = [a.readAt ?? a.askedAt, b.readAt ?? b.askedAt];
  return readA === readB ? a.askedAt < b.askedAt : readA < readB;
}

export function isSameVersion(a: Version, b: Version): boolean {
  return a.epoch === b.epoch && a.revision === b.revision;
}

/** Whether `version` is of the epoch of `other` and not older. False where either is missing. */
export function isAtLeast(version: Version | undefined, other: Version | undefined): boolean {
  if (version === undefined || other === undefined || version.epoch !== other.epoch) return false;
  return version.revision >= other.revision;
}

/** `epoch:revision`, as `feature_flags.version()` prints it. */
export function formatVersion(version: Version): string {
  return `${version.epoch}:${version.revision}`;
}

/** Reads `epoch:revision`; undefined if the text is none. */
export function parseVersion(text: string): Version | undefined {
  const [, epoch, revision] = /^(.+):(\d{1,15})$/.exec(text) ?? [];
  return epoch === undefined || revision === undefined ? undefined : { epoch, revision: Number(revision) };
}
