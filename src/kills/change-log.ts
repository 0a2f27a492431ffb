import { isSameVersion, type Version } from "../evaluation/version.ts";
import type { Changes } from "../store/flag-store.ts";

/** What changed between two polls. */
interface Step {
  readonly from: Version;
  readonly to: Version;
  readonly flagIds: readonly string[];
  readonly entityIds: readonly string[];
}

const STEPS_MAX = 1_000;
const IDS_MAX = 20_000;
const UNKNOWN: Changes = { kind: "unknown" };

/** Remembers what the last polls said had changed, so that other evaluators need not ask the database. */
export class ChangeLog {
  #steps: Step[] = [];
  #idCount = 0;
  #newest: Version | undefined;

  /** A poll was applied. A gap, or another epoch, begins anew: what was before cannot be told any more. */
  add(to: Version | undefined, changes: Changes): void {
    const from = this.#newest;
    this.#newest = to;
    if (to === undefined || from === undefined || from.epoch !== to.epoch || changes.kind === "unknown") {
      this.#steps = [];
      this.#idCount = 0;
      return;
    }
    if (isSameVersion(from, to)) return;
    const { flagIds, entityIds } = changes;
    this.#steps.push({ from, to, flagIds, entityIds });
    this.#idCount += flagIds.length + entityIds.length;
    while (this.#steps.length > STEPS_MAX || this.#idCount > IDS_MAX) this.#forgetOldest();
  }

  /** All that changed after this version, up to the newest poll. */
  since(version: Version | undefined): Changes {
    const newest = this.#newest;
    if (version === undefined || newest === undefined || version.epoch !== newest.epoch) return UNKNOWN;
    const oldest = this.#steps[0]?.from ?? newest;
    if (version.revision < oldest.revision) return UNKNOWN;
    const later = this.#steps.filter(({ to }) => to.revision > version.revision);
    return {
      kind: "listed",
      flagIds: [...new Set(later.flatMap(({ flagIds }) => flagIds))],
      entityIds: [...new Set(later.flatMap(({ entityIds }) => entityIds))],
    };
  }

  #forgetOldest(): void {
    const [oldest, ...rest] = this.#steps;
    if (oldest === undefined) return;
    this.#steps = rest;
    this.#idCount -= oldest.flagIds.length + oldest.entityIds.length;
  }
}
