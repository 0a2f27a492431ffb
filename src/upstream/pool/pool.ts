import { setMaxListeners } from "node:events";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { UpstreamError } from "../upstream-error.ts";
import type { PoolSettings, Strategy, UpstreamSettings } from "../upstream-settings.ts";
import { comparePools } from "./compare-pools.ts";
import { checkMember, type HealthCheckOptions, keepChecking } from "./health-checks.ts";
import { Member } from "./member.ts";
import { PoolCalls } from "./pool-calls.ts";
import { PoolStreams } from "./pool-streams.ts";
import { Rotation } from "./rotation.ts";
import { ScoredList } from "./scored-list.ts";
import {
  type FollowCall,
  type Following,
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
  readonly #streams: PoolStreams;
  readonly #checks: HealthCheckOptions;
  /** By member, until each has ended. */
  readonly #checking = new Map<Member, Promise<void>>();
  /** Opened, and not in the rotation yet. */
  readonly #joining = new Set<Member>();
  /** Out of the rotation, and not closed yet. */
  readonly #leaving = new Set<Member>();
  #replacement: Promise<void> | undefined;
  #settings: PoolSettings;
  #reloading: Promise<unknown> = Promise.resolve();

  constructor(options: UpstreamPoolOptions) {
    const { settings, clock, random, events } = options;
    this.#options = options;
    this.#settings = settings;
    checkKinds(settings);
    this.#rotation = new Rotation({
      ...settings,
      clock,
      random,
      events,
      onRankingChange: () => this.#streams.review(),
    });
    this.#streams = new PoolStreams(this.#rotation);
    this.#checks = { rotation: this.#rotation, settings: () => this.#settings.healthCheck, clock, random };
    this.#calls = new PoolCalls({
      rotation: this.#rotation,
      closing: this.#stop.signal,
      replacement: () => this.#replacement,
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

  follow<I extends DescMessage, O extends DescMessage>(call: FollowCall<I, O>): Following<MessageShape<O>> {
    return this.#streams.follow(call);
  }

  canFollow(except: ReadonlySet<string>): boolean {
    return this.#streams.canFollow(except);
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
      [...this.#rotation.members, ...this.#joining, ...this.#leaving].map((member) =>
        member[Symbol.asyncDispose](),
      ),
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
  #enforce(members: readonly Member[], settings: PoolSettings, scores?: ReadonlyMap<string, number>): void {
    const byName = new Map(members.map((member) => [member.name, member]));
    const before = this.#rotation.members;
    this.#settings = settings;
    this.#rotation.replace(
      settings.upstreams.flatMap(({ name }) => byName.get(name) ?? []),
      settings,
      scores,
    );
    for (const member of before) if (!this.#rotation.members.includes(member)) this.#leaving.add(member);
    for (const member of this.#rotation.members) {
      this.#leaving.delete(member);
      this.#joining.delete(member);
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
      else if (next.reloadStrategy === "recreate") await this.#replaced(this.#recreate(changed, next));
      else await this.#takeOver(changed, next);
      await this.#letGo(next.drainTimeoutMs);
      return change;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new PoolReloadError(`Cannot reload upstreams: ${reason}`, { cause });
    }
  }

  /** The new ones take the place of the old ones at once; a program, as soon as it answers. */
  async #takeOver(changed: readonly UpstreamSettings[], next: PoolSettings): Promise<void> {
    const opened = this.#openAll(changed);
    await this.#joinOrClose(opened, async () => {
      await Promise.all(
        opened.map(async (member) => {
          if (member.settings.url.startsWith("exec:")) await this.#prove(member, next);
        }),
      );
      this.#enforce([...this.#rotation.members, ...opened], next);
    });
  }

  /**
   * One at a time: each has to answer a check before it takes its place, and then the next has its turn. Those that
   * were replaced are closed when all is done; if something fails, they come back.
   */
  async #roll(changed: readonly UpstreamSettings[], next: PoolSettings): Promise<void> {
    const { members, scores } = this.#rotation;
    const before = this.#settings;
    const opened: Member[] = [];
    try {
      for (const settings of changed) {
        const member = this.#open(settings);
        opened.push(member);
        await this.#joinOrClose([member], async () => {
          await this.#prove(member, next);
          const others = this.#settings.upstreams.filter(({ name }) => name !== settings.name);
          const upstreams = [...others, settings];
          this.#enforce([...this.#rotation.members, member], { ...this.#settings, upstreams });
        });
      }
      this.#enforce(this.#rotation.members, next);
    } catch (error) {
      this.#enforce(members, before, scores);
      await this.#letGo(0, opened);
      throw error;
    }
  }

  /** Sees to it that these are closed with the pool, or if `join` fails. */
  async #joinOrClose(members: readonly Member[], join: () => Promise<void>): Promise<void> {
    for (const member of members) this.#joining.add(member);
    try {
      if (this.#stop.signal.aborted) throw closed();
      await join();
    } catch (error) {
      for (const member of members) this.#joining.delete(member);
      await Promise.all(members.map((member) => member[Symbol.asyncDispose]()));
      throw error;
    }
  }

  /** Rejects if a member does not answer a check, not even the last of several; a program may take its time to start. */
  async #prove(member: Member, { healthCheck }: PoolSettings): Promise<void> {
    const { clock } = this.#options;
    const { url, exec } = member.settings;
    const patientUntil = clock.now() + (url.startsWith("exec:") ? exec.startTimeoutMs : 0);
    for (let i = 0; i < ROLLING_CHECKS_MAX || clock.now() < patientUntil; i += 1) {
      if (i > 0) await clock.sleep(healthCheck.intervalMs, this.#stop.signal).catch(() => {});
      const isHealthy = await checkMember(member, this.#checks, this.#stop.signal);
      if (this.#stop.signal.aborted) throw closed();
      if (isHealthy) return;
    }
    throw new Error(`${member.name} must be healthy, got ${member.lastError?.message ?? "no answer"}`);
  }

  /** Lets calls wait until it has ended, however it does. */
  async #replaced(replacing: Promise<void>): Promise<void> {
    this.#replacement = replacing.catch(() => {});
    try {
      await replacing;
    } finally {
      this.#replacement = undefined;
    }
  }

  /** What is replaced is closed before anything is opened: two of it may not be able to live side by side. */
  async #recreate(changed: readonly UpstreamSettings[], next: PoolSettings): Promise<void> {
    const before = this.#settings;
    const { scores } = this.#rotation;
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
      const back = [...staying, ...this.#reopen(gone)];
      const names = new Set(back.map(({ name }) => name));
      this.#enforce(
        back,
        { ...before, upstreams: before.upstreams.filter(({ name }) => names.has(name)) },
        scores,
      );
      throw error;
    }
  }

  /** As many of them as can be opened again. */
  #reopen(all: readonly UpstreamSettings[]): readonly Member[] {
    return all.flatMap((settings) => {
      try {
        return [this.#open(settings)];
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        this.#options.events.onStateChange(settings.name, "down", `could not be opened again: ${reason}`);
        return [];
      }
    });
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
