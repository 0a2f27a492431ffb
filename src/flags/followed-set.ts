import { hashBytes } from "../system/hash-bytes.ts";
import type { Latest } from "../system/latest.ts";
import { Announcements } from "./announcements.ts";
import type { DescriptorSet, FlagTable } from "./definition.ts";
import { parseDescriptorSet } from "./load-descriptors.ts";
import { isInForce, type ReloadResult, type TakeTableOptions, takeTable, toRejection } from "./take-table.ts";

/** What an upstream answers that is asked for its descriptor set. */
export interface FetchedSet {
  /** SHA-256 of the set, in hexadecimal. */
  readonly hash: string;
  /** Undefined: they are those of the hash that is known. */
  readonly bytes: Uint8Array | undefined;
}

export interface FollowedSetOptions {
  /** The table in force; replaced as a whole. Either empty, or one that was kept to bridge a restart. */
  readonly table: Latest<FlagTable>;
  /** Asks the upstream; a set with the known hash need not be sent again. Rejects if it cannot be had now. */
  readonly fetch: (knownHash: string, signal: AbortSignal) => Promise<FetchedSet>;
  /** The upstream cannot be asked, for another reason than before. */
  readonly onFetchFailed?: (reason: string) => void;
  /** Given every set that comes into force. */
  readonly keep?: (set: DescriptorSet) => void;
}

/** Why to ask the upstream. */
export interface Question {
  readonly force: boolean;
  /** An operator wants it, and is to be told what became of it. */
  readonly isAsked: boolean;
}

/** What became of the set that the upstream was last seen to have. */
interface Judgement {
  readonly hash: string;
  readonly result: ReloadResult;
}

type Answer = {
  /** `failed`: the upstream could not be asked, and nothing is known of its set. */
  readonly kind: "seen" | "failed";
  readonly result: ReloadResult;
};

const SOURCE = "the upstream's descriptor set";
const UNCHANGED: ReloadResult = { kind: "unchanged" };

/** What is known of an upstream's descriptor set. One question at a time. */
export class FollowedSet {
  readonly #options: FollowedSetOptions;
  readonly #signal: AbortSignal;
  readonly #announcements = new Announcements();
  #judged: Judgement | undefined;
  /** Whether what is in force came from the upstream, or was found to be the same. */
  #isConfirmed = false;
  #isSettled = false;
  #fetchFailure: string | undefined;
  #lastTold: ReloadResult | undefined;

  constructor(options: FollowedSetOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    const { descriptorSet } = options.table.value;
    if (descriptorSet !== undefined) this.#judged = { hash: descriptorSet.hash, result: UNCHANGED };
  }

  /** The last question brought what was to be had. False: it should be asked again soon. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** Why the last question was not answered. */
  get fetchFailure(): string | undefined {
    return this.#fetchFailure;
  }

  /** The upstream says that it has the set with this hash now, and had another before. */
  announce(hash: string): void {
    this.#announcements.announce(hash);
  }

  /** `isTold`: it is news, or was asked for. */
  async ask(question: Question): Promise<{ readonly result: ReloadResult; readonly isTold: boolean }> {
    const answer = await this.#answer(question);
    const { result } = answer;
    const isTold = question.isAsked || (answer.kind === "seen" && this.#isNews(result));
    if (isTold) this.#lastTold = result;
    return { result, isTold };
  }

  async #answer({ force, isAsked }: Question): Promise<Answer> {
    const judged = this.#judged;
    // What cannot be used is not held on to: to judge it again it has to be sent again.
    const known = force && judged !== undefined && !isInForce(judged.result) ? undefined : judged;
    const fetched = await this.#fetch(known?.hash ?? "", isAsked);
    if (fetched === undefined) {
      const reason = `${SOURCE}: it must be possible to ask for it, got ${this.#fetchFailure ?? "nothing"}`;
      return { kind: "failed", result: { kind: "rejected", reason } };
    }
    if (fetched.hash === known?.hash) return { kind: "seen", result: this.#confirm(known) };
    if (!this.#isSettled && judged !== undefined && this.#isAnythingInForce)
      return { kind: "seen", result: judged.result };
    return { kind: "seen", result: await this.#take(fetched, force) };
  }

  get #isAnythingInForce(): boolean {
    return this.#options.table.value.descriptorSet !== undefined;
  }

  /** `isPatient`: until somebody has the set that was announced, or it is sure that nobody has. */
  async #fetch(knownHash: string, isPatient: boolean): Promise<FetchedSet | undefined> {
    try {
      let answer = await this.#fetchOnce(knownHash);
      if (isPatient) while (!this.#isSettled) answer = await this.#fetchOnce(knownHash);
      this.#fetchFailure = undefined;
      return answer;
    } catch (error) {
      this.#isSettled = false;
      const before = this.#fetchFailure;
      this.#fetchFailure = error instanceof Error ? error.message : String(error);
      const isNews = this.#fetchFailure !== before && !this.#signal.aborted;
      if (isNews) this.#options.onFetchFailed?.(this.#fetchFailure);
      return undefined;
    }
  }

  async #fetchOnce(knownHash: string): Promise<FetchedSet> {
    const answer = await this.#options.fetch(knownHash, this.#signal);
    this.#isSettled = !this.#announcements.isStray(answer.hash);
    return answer;
  }

  #confirm({ result }: Judgement): ReloadResult {
    if (isInForce(result)) this.#isConfirmed = true;
    return result;
  }

  async #take({ hash, bytes }: FetchedSet, force: boolean): Promise<ReloadResult> {
    if (bytes === undefined)
      return {
        kind: "rejected",
        reason: `${SOURCE}: it must be sent where it is not known, got its hash alone`,
      };
    // Nothing is known of a set that was damaged on its way: the next question is to bring it again.
    if ((await hashBytes(bytes)) !== hash)
      return { kind: "rejected", reason: `${SOURCE}: it must be what its hash says, got other bytes` };
    const { table, keep } = this.#options;
    const next = await parseDescriptorSet(SOURCE, { bytes, hash }).catch(toRejection);
    const result = "kind" in next ? next : await takeTable(table, next, this.#manner(force));
    if (isInForce(result)) this.#isConfirmed = true;
    this.#judged = { hash, result: isInForce(result) ? UNCHANGED : result };
    if (result.kind === "replaced") keep?.({ bytes, hash });
    return result;
  }

  #manner(force: boolean): TakeTableOptions {
    if (!this.#isConfirmed) return { name: SOURCE, occasion: "start" };
    return { name: SOURCE, occasion: force ? "forced reload" : "reload" };
  }

  #isNews(result: ReloadResult): boolean {
    const last = this.#lastTold;
    if (last === undefined || result.kind === "replaced") return true;
    if (isInForce(result)) return !isInForce(last);
    return (
      result.kind !== last.kind ||
      !("reason" in last) ||
      !("reason" in result) ||
      result.reason !== last.reason
    );
  }
}
