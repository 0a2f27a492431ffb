import type { Version } from "../../evaluation/version.ts";
import type { Clock } from "../../system/clock.ts";
import { UpstreamError } from "../upstream-error.ts";
import type { ScoreSettings, Strategy } from "../upstream-settings.ts";
import type { Condition, Member } from "./member.ts";
import { pick } from "./pick.ts";
import { PoolIdentity } from "./pool-identity.ts";
import { ScoredList } from "./scored-list.ts";
import type { PoolCall, PoolEvents, UpstreamKind, UpstreamReport } from "./upstream-pool.ts";

export interface RotationOptions {
  readonly strategy: Strategy;
  readonly score: ScoreSettings;
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
  readonly events: Pick<
    PoolEvents,
    "onRejected" | "onStateChange" | "onDegraded" | "onUsable" | "onDescriptorHash"
  >;
  /** Others may be the best to follow now. */
  readonly onRankingChange: () => void;
}

/** An upstream's words in the message that says why nobody can be asked. */
const WORDS_MAX = 200;
const NAMED_MAX = 10;

const NOBODY: ReadonlySet<string> = new Set();

/** Who is in the pool, what is held of each, and whose turn it is. */
export class Rotation {
  readonly #options: RotationOptions;
  readonly #identity = new PoolIdentity();
  readonly #scores: ScoredList;
  /** Last said to the events. */
  readonly #states = new Map<Member, UpstreamReport["state"]>();
  /** The same of those whose own stores do not answer. */
  readonly #degraded = new WeakSet<Member>();
  #strategy: Strategy;
  #members: readonly Member[] = [];
  #turn = 0;
  #isAvailable = false;
  #triedUnusableAt = -Infinity;

  /** Throws a RangeError for scores that contradict each other. */
  constructor(options: RotationOptions) {
    this.#options = options;
    this.#strategy = options.strategy;
    this.#scores = new ScoredList(options.score, []);
  }

  /** Undefined: nobody has said yet what they are. */
  get kind(): UpstreamKind | undefined {
    return this.#identity.kind;
  }

  get members(): readonly Member[] {
    return this.#members;
  }

  /** Of all members, by name. */
  get scores(): ReadonlyMap<string, number> {
    return this.#scoresOf(this.#members);
  }

  /**
   * Those that stay keep what is held of them; those that are new under an old name begin anew, unless `scores` says
   * with what.
   */
  replace(
    members: readonly Member[],
    { strategy, score }: Pick<RotationOptions, "strategy" | "score">,
    scores: ReadonlyMap<string, number> = this.#scoresOf(members),
  ): void {
    const stay = new Set(this.#members.filter((member) => members.includes(member)).map(({ name }) => name));
    this.#identity.retain(stay);
    this.#scores.reconcile(
      score,
      members.map(({ name }) => name),
      scores,
    );
    this.#strategy = strategy;
    this.#members = members;
    for (const member of [...this.#states.keys()]) if (!members.includes(member)) this.#states.delete(member);
    for (const member of members)
      if (!this.#states.has(member)) this.#states.set(member, this.stateOf(member));
    this.noticeChanges();
    this.#options.onRankingChange();
  }

  /**
   * Those that can be followed and than which none is better: in the rotation, their own stores well if any is, and
   * for `priority` the highest. A plain evaluator tells nothing by itself; who has not said what it is comes last.
   */
  get bestToFollow(): readonly Member[] {
    return this.#toFollow(NOBODY);
  }

  /** Whether there is one beside these. */
  canFollow(except: ReadonlySet<string>): boolean {
    return this.#toFollow(except).length > 0;
  }

  /** One that is none of these. Undefined: there is none. */
  chooseToFollow(except: ReadonlySet<string>): Member | undefined {
    const candidates = this.#toFollow(except);
    if (candidates.length === 0) return undefined;
    this.#turn += 1;
    const occasion = { turn: this.#turn, chance: this.#options.random(), key: undefined };
    return pick(this.#strategy, candidates, occasion);
  }

  /**
   * Prefers upstreams that have not been tried; with `onlyUntried` there is no other. Takes a token of its limiter.
   * Undefined: nobody can be asked now.
   */
  choose(
    { key, bypassesBreaker = false }: Pick<PoolCall<unknown>, "key" | "bypassesBreaker">,
    tried: ReadonlySet<Member>,
    onlyUntried: boolean,
  ): Member | undefined {
    const usable = this.#members.filter((member) => this.#isUsable(member));
    let candidates = usable.filter((member) => member.admits);
    if (candidates.length === 0 && bypassesBreaker) candidates = usable;
    if (candidates.length === 0)
      for (const { name } of usable) this.#options.events.onRejected(name, "breaker");
    const untried = candidates.filter((member) => !tried.has(member));
    if (untried.length > 0 || onlyUntried) candidates = untried;
    if (candidates.length === 0 && tried.size === 0) return this.#trialOfUnusable();
    this.#turn += 1;
    while (candidates.length > 0) {
      const occasion = { turn: this.#turn, chance: this.#options.random(), key };
      const chosen = pick(this.#strategy, bestTier(candidates), occasion);
      if (chosen === undefined || chosen.limiter?.tryTake() !== false) return chosen;
      this.#options.events.onRejected(chosen.name, "rate_limit");
      candidates = candidates.filter((member) => member !== chosen);
    }
    return undefined;
  }

  /** Whether somebody could be asked now, rate limits apart. */
  get hasUsable(): boolean {
    return this.#members.some((member) => this.#isUsable(member) && member.admits);
  }

  /** Why `choose` found nobody. */
  nobody(): UpstreamError {
    if (this.#members.length === 0)
      return new UpstreamError("unavailable", "Cannot ask any upstream: all are being replaced");
    const reasons = this.#members
      .slice(0, NAMED_MAX)
      .map((member) => `${member.name} ${this.#reasonOf(member).slice(0, WORDS_MAX)}`);
    const more = this.#members.length > NAMED_MAX ? `; and ${this.#members.length - NAMED_MAX} more` : "";
    return new UpstreamError("unavailable", `Cannot ask any upstream: ${reasons.join("; ")}${more}`);
  }

  /** Why an upstream does not belong; undefined if it does, or has not said who it is. */
  refusalOf(member: Member): string | undefined {
    return this.#identity.reasonAgainst(member.name);
  }

  recordSuccess(member: Member): void {
    if (this.#members.includes(member)) this.#scores.up(member.name);
    this.noticeChanges();
  }

  recordFailure(member: Member): void {
    if (this.#members.includes(member)) this.#scores.down(member.name);
    this.noticeChanges();
  }

  /** Takes in what a check was told. */
  recordCondition(member: Member, condition: Condition, askedAt: number): void {
    const { descriptorHash } = condition;
    const before = member.condition;
    const isNews = descriptorHash !== "" && descriptorHash !== before?.descriptorHash;
    member.recordCondition(condition, askedAt);
    if (!this.#members.includes(member)) return;
    const refusal = this.#identity.hear(member.name, { ...condition, isFinal: condition.kind === "pbflags" });
    this.#noticeDegraded(member, condition);
    if (before?.status !== condition.status || before.kind !== condition.kind)
      this.#options.onRankingChange();
    if (isNews && refusal === undefined) this.#options.events.onDescriptorHash(descriptorHash);
  }

  /** Takes in of which version an answer was. Returns why the upstream does not belong, or undefined. */
  recordVersion(member: Member, version: Version | undefined): string | undefined {
    const { kind } = member;
    if (kind === undefined || !this.#members.includes(member)) return undefined;
    const refusal = this.#identity.hear(member.name, { kind, version, isFinal: true });
    if (refusal === undefined && version !== undefined) member.recordVersion(version);
    this.noticeChanges();
    return refusal;
  }

  stateOf(member: Member): UpstreamReport["state"] {
    if (!this.#members.includes(member)) return "draining";
    if (this.refusalOf(member) !== undefined) return "refused";
    return this.#scores.isUsable(member.name) ? "up" : "down";
  }

  /** Tells who came into the rotation or left it, and when somebody can be asked again. */
  noticeChanges(): void {
    const { events } = this.#options;
    let hasChanged = false;
    for (const member of this.#members) {
      const state = this.stateOf(member);
      if (this.#states.get(member) === state) continue;
      hasChanged = true;
      this.#states.set(member, state);
      events.onStateChange(member.name, state, state === "up" ? "answers" : this.#reasonOf(member));
    }
    const wasAvailable = this.#isAvailable;
    this.#isAvailable = this.#members.some((member) => this.stateOf(member) === "up" && member.succeededLast);
    if (this.#isAvailable && !wasAvailable) events.onUsable();
    if (hasChanged) this.#options.onRankingChange();
  }

  report(member: Member): UpstreamReport {
    const { settings, transport, breaker, inFlight, latencyMs, condition, lastError, checkedAt } = member;
    const state = this.stateOf(member);
    const refusal = state === "refused" ? this.refusalOf(member) : undefined;
    return {
      name: settings.name,
      target: transport.target,
      state,
      kind: member.kind,
      score: this.#scores.scoreOf(settings.name),
      breaker: breaker.state,
      inFlight,
      latencyMs,
      status: condition?.status,
      version: condition?.version,
      lastError:
        refusal === undefined ? lastError : { message: refusal, at: checkedAt ?? lastError?.at ?? 0 },
      checkedAt,
      priority: settings.priority,
      weight: settings.weight,
    };
  }

  /** The best without these; where the highest priority is among them, the next. */
  #toFollow(except: ReadonlySet<string>): readonly Member[] {
    const usable = this.#members.filter((member) => this.#isUsable(member) && member.kind !== "pbflags");
    const known = usable.filter(({ kind }) => kind === "pbflagd");
    const best = bestTier(known.length > 0 ? known : usable).filter(({ name }) => !except.has(name));
    if (this.#strategy !== "priority") return best;
    const highest = Math.max(...best.map(({ priority }) => priority));
    return best.filter(({ priority }) => priority === highest);
  }

  /** Of those that are in the rotation. */
  #scoresOf(members: readonly Member[]): ReadonlyMap<string, number> {
    const stay = members.filter((member) => this.#members.includes(member));
    return new Map(stay.map(({ name }) => [name, this.#scores.scoreOf(name)]));
  }

  #isUsable(member: Member): boolean {
    return this.refusalOf(member) === undefined && this.#scores.isUsable(member.name);
  }

  /** One that has just started has not said yet which it is. */
  #noticeDegraded(member: Member, { status }: Condition): void {
    const isDegraded = status === "degraded";
    if (status === "connecting" || isDegraded === this.#degraded.has(member)) return;
    if (isDegraded) this.#degraded.add(member);
    else this.#degraded.delete(member);
    this.#options.events.onDegraded(member.name, isDegraded);
  }

  /** None is usable: the one with the best score gets a call now and then, for the case that the checks are wrong. */
  #trialOfUnusable(): Member | undefined {
    const now = this.#options.clock.now();
    const [best] = this.#members
      .filter((member) => this.refusalOf(member) === undefined && member.breaker.admits)
      .toSorted((a, b) => this.#scores.scoreOf(b.name) - this.#scores.scoreOf(a.name));
    if (best !== undefined && now - this.#triedUnusableAt >= best.settings.breaker.openMs) {
      this.#triedUnusableAt = now;
      return best;
    }
    for (const member of this.#members)
      if (!this.#isUsable(member)) this.#options.events.onRejected(member.name, "unusable");
    return undefined;
  }

  #reasonOf(member: Member): string {
    const refusal = this.refusalOf(member);
    if (refusal !== undefined) return `is refused: ${refusal}`;
    const failure = member.lastError === undefined ? "" : `: ${member.lastError.message}`;
    if (!this.#scores.isUsable(member.name)) return `is down${failure}`;
    return member.admits ? "is at its rate limit" : `has its breaker open${failure}`;
  }
}

/** Those whose own store is well, else the others. */
function bestTier(candidates: readonly Member[]): readonly Member[] {
  const well = candidates.filter(({ condition }) => condition === undefined || isWell(condition));
  return well.length > 0 ? well : candidates;
}

/** A plain evaluator's kill polls do not count as contact: it may call itself connecting for good. */
function isWell({ status, kind }: Condition): boolean {
  return status === "serving" || (status === "connecting" && kind === "pbflags");
}
