import { afterEach } from "vitest";
import { StateService } from "../../src/gen/pbflagd/v1/state_pb.ts";
import { openUpstreamPool } from "../../src/upstream/pool/pool.ts";
import type { PoolCall, UpstreamPool } from "../../src/upstream/pool/upstream-pool.ts";
import { withDeadline } from "../../src/upstream/transport/deadline.ts";
import { UpstreamError } from "../../src/upstream/upstream-error.ts";
import type { PoolSettings, UpstreamSettings } from "../../src/upstream/upstream-settings.ts";
import { FakeClock, settle } from "./fake-clock.ts";
import { FakeUpstream, poolSettings } from "./fake-upstream.ts";

/** For one call with all its tries. */
export const FETCH_TIMEOUT_MS = 500;

export type Named = Partial<UpstreamSettings> & Pick<UpstreamSettings, "name">;

/** A pool on a clock that is turned by hand, and upstreams that do as they are told. */
export class PoolScene {
  readonly clock = new FakeClock();
  readonly upstreams = new Map<string, FakeUpstream>();
  readonly said: string[] = [];
  readonly pool: UpstreamPool;
  /** Names of upstreams whose settings cannot be used. */
  readonly unusable = new Set<string>();
  chance = 0.5;

  /** `prepare` is run before anything is asked. */
  constructor(
    named: readonly Named[],
    settings: Partial<PoolSettings> = {},
    prepare?: (scene: PoolScene) => void,
  ) {
    prepare?.(this);
    this.pool = openUpstreamPool({
      settings: poolSettings(named, settings),
      openTransport: ({ name, url }) => {
        if (this.unusable.has(name))
          throw new UpstreamError("url", `Cannot use upstream ${name}: no such program`);
        this.said.push(`${name} opened, beside ${this.#openCount()}`);
        return this.at(name).connect(url);
      },
      clock: this.clock,
      random: () => this.chance,
      events: {
        onCall: () => {},
        onRetry: (name) => this.said.push(`retry at ${name}`),
        onRejected: (name, reason) => this.said.push(`${name} rejected: ${reason}`),
        onBreakerChange: (name, { to }) => this.said.push(`breaker of ${name} ${to}`),
        onStateChange: (name, state) => this.said.push(`${name} ${state}`),
        onDegraded: (name, isDegraded) => this.said.push(`${name} ${isDegraded ? "degraded" : "recovered"}`),
        onUsable: () => this.said.push("usable"),
        onDescriptorHash: (hash) => this.said.push(`descriptors ${hash}`),
      },
    });
  }

  readonly at = (name: string): FakeUpstream => {
    const found = this.upstreams.get(name) ?? new FakeUpstream();
    this.upstreams.set(name, found);
    return found;
  };

  /** Resolves with the name of the upstream that answered. */
  ask(call: Partial<PoolCall<string>> = {}): Promise<string> {
    return withDeadline({ timeoutMs: FETCH_TIMEOUT_MS, clock: this.clock }, (deadline) =>
      this.pool.call({
        operation: "flag_state",
        deadline,
        run: async (upstream) => {
          await upstream.call(StateService.method.getFlagStates, { flagIds: ["a/1"] });
          return upstream.name;
        },
        versionOf: (name) => this.at(name).version,
        ...call,
      }),
    );
  }

  #openCount(): number {
    return [...this.upstreams.values()].reduce((sum, { open }) => sum + open, 0);
  }

  stateOf(name: string) {
    return this.pool.upstreams.find((upstream) => upstream.name === name)?.state;
  }
}

const scenes: PoolScene[] = [];

/** Opens a scene that is closed after the test, which fails if anything is left open or asleep then. */
export function openPoolScene(
  named: readonly Named[],
  settings: Partial<PoolSettings> = {},
  prepare?: (scene: PoolScene) => void,
): PoolScene {
  const scene = new PoolScene(named, settings, prepare);
  scenes.push(scene);
  return scene;
}

afterEach(async () => {
  for (const { pool, upstreams, clock } of scenes.splice(0)) {
    await pool[Symbol.asyncDispose]();
    await settle();
    const open = [...upstreams.values()].reduce((sum, upstream) => sum + upstream.open, 0);
    const left = { open, asleep: clock.sleeperCount };
    if (left.open + left.asleep > 0) throw new Error(`The pool left behind ${JSON.stringify(left)}`);
  }
});
