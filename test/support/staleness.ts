/** A write of one key. Nothing else writes it, and each begins after the one before was acknowledged. */
export interface Write {
  readonly value: string;
  /** When it was sent, and when its commit was acknowledged, in milliseconds: it happened somewhere in between. */
  readonly sentAt: number;
  readonly acknowledgedAt: number;
}

/** What somebody who asks one daemon, one question after the other, was answered. */
export interface Read {
  readonly value: string;
  readonly sentAt: number;
  readonly answeredAt: number;
  /** `epoch:revision` that the answer says; undefined: it says none. */
  readonly version: string | undefined;
}

/** While a daemon could not hear of changes. */
export interface Outage {
  readonly from: number;
  readonly until: number;
}

export interface Bounds {
  /** An answer is of a state that was current so long ago at most, in milliseconds. */
  readonly staleMs: number;
  /** How long after an outage the answer may still be of the time before it. */
  readonly recoveryMs: number;
  readonly outages: readonly Outage[];
}

/** Says which answers were not current within the bounds, and in how far; in the order of the reads. */
export function findStale(
  writes: readonly Write[],
  reads: readonly Read[],
  { staleMs, recoveryMs, outages }: Bounds,
): readonly string[] {
  return reads.flatMap((read) => {
    const excuses = outages.filter(
      ({ from, until }) => from <= read.answeredAt && read.sentAt <= until + recoveryMs,
    );
    const earliest = Math.min(read.sentAt, ...excuses.map(({ from }) => from)) - staleMs;
    const wasCurrent = writes.some(({ value, sentAt }, i) => {
      const replacedAt = writes[i + 1]?.acknowledgedAt ?? Infinity;
      return value === read.value && sentAt <= read.answeredAt && replacedAt >= earliest;
    });
    if (wasCurrent) return [];
    const at = writes.findLastIndex(({ value }) => value === read.value);
    const replacedAt = writes[at + 1]?.acknowledgedAt ?? Infinity;
    const age = at < 0 ? "never written" : `replaced ${Math.round(read.sentAt - replacedAt)} ms before`;
    return [`${read.value} at ${Math.round(read.sentAt)}: ${age}`];
  });
}

/** Says where a daemon's version went back within an epoch, or was missing. */
export function findSteppedBack(reads: readonly Read[]): readonly string[] {
  const newest = new Map<string, number>();
  return reads.flatMap(({ version, sentAt }) => {
    const [, epoch, revision] = /^(.+):(\d+)$/.exec(version ?? "") ?? [];
    if (epoch === undefined || revision === undefined) return [`no version at ${Math.round(sentAt)}`];
    const before = newest.get(epoch) ?? 0;
    newest.set(epoch, Math.max(before, Number(revision)));
    return Number(revision) < before ? [`${revision} after ${before} at ${Math.round(sentAt)}`] : [];
  });
}
