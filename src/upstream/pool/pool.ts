import { setMaxListeners } from "node:events";
import { UpstreamError } from "../upstream-error.ts";
import type { PoolSettings, Strategy, UpstreamSettings } from "../upstream-settings.ts";
import { comparePools } from "./compare-pools.ts";
import { checkMember, type HealthCheckOptions, keepChecking } from "./health-checks.ts";
import { Member } from "./member.ts";
import { PoolCalls } from "./pool-calls.ts";
import { Rotation } from "./rotation.ts";
import { ScoredList } from "./scored-list.ts";
import {
  type PoolCall,
  type PoolChange,
  PoolReloadError,
  type UpstreamKind,
  type UpstreamPool,
  type UpstreamPoolOptions,
  type UpstreamReport,
} from "./upstream-pool.ts";

/** Checks that a new upstream may fail before a rolling reload gives up. */
const ROLLING_CHECKS_MAX = 5;

/** Throws an UpstreamError, or a RangeError for scores that contradict each other, if the settings cannot be used. */
export function openUpstreamPool(options: UpstreamPoolOptions): UpstreamPool {
  return new Pool(options);
}

class Pool implements UpstreamPool {
  readonly #options: UpstreamPoolOptions;
  readonly #stop = new AbortController();
  readonly #rotation: Rotation;
  readonly #calls: PoolCalls;
  readonly #checks: HealthCheckOptions;
  /** By member, until each has ended. */
  readonly #checking = new Map<Member, Promise<void>>();
  /** Out of the rotation, and not closed yet. */
  readonly #leaving = new Set<Member>();
  #settings: PoolSettings;
  #reloading: Promise<unknown> = Promise.resolve();

  constructor(options: UpstreamPoolOptions) {
    const { settings, clock, random, events } = options;
    this.#options = options;
    this.#settings = settings;
    checkKinds(settings);
    this.#rotation = new Rotation({ ...settings, clock, random, events });
    this.#checks = { rotation: this.#rotation, settings: () => this.#settings.healthCheck, clock, random };
    this.#calls = new PoolCalls({
      rotation: this.#rotation,
      closing: this.#stop.signal,
      clock,
      random,
      events,
    });
    this.#enforce(this.#openAll(settings.upstreams), settings);
  }

  get strategy(): Strategy {
    return this.#settings.strategy;
  }

  get kind(): UpstreamKind | undefined {
    return this.#rotation.kind;
  }

  get upstreams(): readonly UpstreamReport[] {
    return [...this.#rotation.members, ...this.#leaving].map((member) => this.#rotation.report(member));
  }

  call<T>(call: PoolCall<T>): Promise<T> {
    return this.#calls.call(call);
  }

  reset(name: string): boolean {
    const member = this.#find(name);
    member?.forgetFailures();
    return member !== undefined;
  }

  async check(name: string, signal: AbortSignal): Promise<boolean> {
    const member = this.#find(name);
    return member !== undefined && checkMember(member, this.#checks, signal);
  }

  async checkNow(signal: AbortSignal): Promise<void> {
    // One for each upstream: Node takes more than ten for a leak.
    setMaxListeners(0, signal);
    await Promise.all(this.#rotation.members.map((member) => checkMember(member, this.#checks, signal)));
  }

  reload(settings: PoolSettings): Promise<PoolChange> {
    const done = this.#reloading.then(() => this.#reload(settings));
    this.#reloading = done.catch(() => {});
    return done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(
      [...this.#rotation.members, ...this.#leaving].map((member) => member[Symbol.asyncDispose]()),
    );
    await this.#reloading;
    await Promise.all(this.#checking.values());
  }

  #find(name: string): Member | undefined {
    return this.#rotation.members.find((member) => member.name === name);
  }

  #open(settings: UpstreamSettings): Member {
    const { openTransport, clock, events } = this.#options;
    return new Member({
      settings,
      transport: openTransport(settings),
      clock,
      onBreakerChange: (change) => events.onBreakerChange(settings.name, change),
    });
  }

  #openAll(all: readonly UpstreamSettings[]): readonly Member[] {
    const opened: Member[] = [];
    try {
      for (const settings of all) opened.push(this.#open(settings));
      return opened;
    } catch (error) {
      for (const member of opened) void member[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Puts settings into force, with those of these members that they name. The others leave the rotation. */
  #enforce(members: readonly Member[], settings: PoolSettings): void {
    const byName = new Map(members.map((member) => [member.name, member]));
    const before = this.#rotation.members;
    this.#settings = settings;
    this.#rotation.replace(
      settings.upstreams.flatMap(({ name }) => byName.get(name) ?? []),
      settings,
    );
    for (const member of before) if (!this.#rotation.members.includes(member)) this.#leaving.add(member);
    for (const member of this.#rotation.members) {
      this.#leaving.delete(member);
      if (this.#checking.has(member)) continue;
      const checking = keepChecking(member, this.#checks).finally(() => this.#checking.delete(member));
      this.#checking.set(member, checking);
    }
  }

  async #reload(next: PoolSettings): Promise<PoolChange> {
    try {
      if (this.#stop.signal.aborted) throw closed();
      checkKinds(next);
      ScoredList.check(next.score);
      const change = comparePools(this.#settings, next);
      const names = new Set([...change.added, ...change.updated.map(({ name }) => name)]);
      const changed = next.upstreams.filter(({ name }) => names.has(name));
      if (next.reloadStrategy === "rolling") await this.#roll(changed, next);
      else if (next.reloadStrategy === "recreate") await this.#recreate(changed, next);
      else this.#enforce([...this.#rotation.members, ...this.#openAll(changed)], next);
      await this.#letGo(next.drainTimeoutMs);
      return change;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new PoolReloadError(`Cannot reload upstreams: ${reason}`, { cause });
    }
  }

  /**
   * One at a time: each has to answer a check before it takes its place, and then the next has its turn. Those that
   * were replaced are closed when all is done; if something fails, they come back.
   */
  async #roll(changed: readonly UpstreamSettings[], next: PoolSettings): Promise<void> {
    const before = { members: this.#rotation.members, settings: this.#settings };
    const opened: Member[] = [];
    try {
      for (const settings of changed) {
        const member = this.#open(settings);
        opened.push(member);
        await this.#prove(member, next);
        const others = this.#settings.upstreams.filter(({ name }) => name !== settings.name);
        const upstreams = [...others, settings];
        this.#enforce([...this.#rotation.members, member], { ...this.#settings, upstreams });
      }
      this.#enforce(this.#rotation.members, next);
    } catch (error) {
      this.#enforce(before.members, before.settings);
      for (const member of opened) this.#leaving.add(member);
      await this.#letGo(0, opened);
      throw error;
    }
  }

  /** Rejects if a member does not answer a check, not even the last of several. */
  async #prove(member: Member, { healthCheck }: PoolSettings): Promise<void> {
    const { clock } = this.#options;
    for (let i = 0; i < ROLLING_CHECKS_MAX; i += 1) {
      if (i > 0) await clock.sleep(healthCheck.intervalMs, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) throw closed();
      if (await checkMember(member, this.#checks, this.#stop.signal)) return;
    }
    throw new Error(`${member.name} must be healthy, got ${member.lastError?.message ?? "no answer"}`);
  }

  /** What is replaced is closed before anything is opened: two of it may not be able to live side by side. */
  async #recreate(changed: readonly UpstreamSettings[], next: PoolSettings): Promise<void> {
    const before = this.#settings;
    const kept = new Set(
      next.upstreams.filter((settings) => !changed.includes(settings)).map(({ name }) => name),
    );
    const staying = this.#rotation.members.filter(({ name }) => kept.has(name));
    this.#enforce(staying, { ...before, upstreams: staying.map(({ settings }) => settings) });
    await this.#letGo(0);
    if (this.#stop.signal.aborted) throw closed();
    try {
      this.#enforce([...staying, ...this.#openAll(changed)], next);
    } catch (error) {
      const gone = before.upstreams.filter(({ name }) => !kept.has(name));
      this.#enforce([...staying, ...this.#openAll(gone)], before);
      throw error;
    }
  }

  /** Closes those that have left the rotation, when their calls have ended or after so long. */
  async #letGo(drainTimeoutMs: number, leaving: readonly Member[] = [...this.#leaving]): Promise<void> {
    for (const member of leaving) {
      if (drainTimeoutMs > 0 && member.inFlight > 0) {
        this.#options.events.onStateChange(member.name, "draining", "has left the pool");
      }
    }
    await Promise.all(
      leaving.map(async (member) => {
        await member.drain(drainTimeoutMs);
        await member[Symbol.asyncDispose]();
        this.#leaving.delete(member);
      }),
    );
  }
}

function closed(): Error {
  return new Error("the pool is closed");
}

/** Where all kinds are written down, a mixed pool is a mistake that can be told at once. */
function checkKinds({ upstreams }: PoolSettings): void {
  const kinds = new Set(upstreams.map(({ kind }) => kind).filter((kind) => kind !== "auto"));
  if (kinds.size < 2) return;
  throw new UpstreamError(
    "settings",
    "Cannot open the pool: it must be of one kind, got pbflagd and pbflags",
  );
}
