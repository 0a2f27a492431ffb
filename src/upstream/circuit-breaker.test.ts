import * as fc from "fast-check";
import { expect, test } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import {
  type Admission,
  type BreakerChange,
  type BreakerState,
  CircuitBreaker,
  type CircuitBreakerOptions,
  CircuitOpenError,
} from "./circuit-breaker.ts";

test("opens after failures in a row, rests, lets one call through, and closes when it succeeds", async () => {
  const { breaker, clock } = openBreaker({ failuresMax: 2, callsMin: 1 });

  await expect(breaker.run(fail)).rejects.toThrow("down");
  expect(breaker.state).toBe("closed");
  await expect(breaker.run(fail)).rejects.toThrow("down");
  expect(breaker.state).toBe("open");

  await clock.advance(999);
  await expect(breaker.run(succeed)).rejects.toThrow(new CircuitOpenError(1));
  await clock.advance(1);
  expect(breaker.state).toBe("half-open");
  expect(await breaker.run(succeed)).toBe("ok");
  expect(breaker.state).toBe("closed");
});

test("a success in between starts the count of failures anew", async () => {
  const { breaker } = openBreaker({ failuresMax: 2, callsMin: 1 });
  for (const call of [fail, succeed, fail, succeed, fail]) await breaker.run(call).catch(() => {});
  expect(breaker.state).toBe("closed");
  expect(breaker.counts).toEqual({ ended: 5, failuresInARow: 1 });
});

test("does not judge by fewer calls than it was told to", async () => {
  const { breaker } = openBreaker({ failuresMax: 1, callsMin: 3 });
  await breaker.run(fail).catch(() => {});
  await breaker.run(fail).catch(() => {});
  expect(breaker.state).toBe("closed");
  await breaker.run(fail).catch(() => {});
  expect(breaker.state).toBe("open");
});

test("half-open lets one call through at a time", async () => {
  const { breaker, clock } = openBreaker({ successesToClose: 2 });
  await trip(breaker, clock);

  const first = admit(breaker);
  expect(breaker.admits).toBe(false);
  expect(breaker.tryAdmit()).toBeUndefined();
  await expect(breaker.run(succeed)).rejects.toMatchObject({ name: "CircuitOpenError", retryInMs: 0 });
  first.succeeded();
  expect(breaker.state).toBe("half-open");

  const second = admit(breaker);
  second.succeeded();
  expect(breaker.state).toBe("closed");
});

test("any failure half-open opens it again, for the whole time", async () => {
  const { breaker, clock } = openBreaker({ successesToClose: 2 });
  await trip(breaker, clock);
  admit(breaker).succeeded();
  admit(breaker).failed(new Error("again"));

  expect(breaker.state).toBe("open");
  await clock.advance(999);
  expect(breaker.admits).toBe(false);
  await clock.advance(1);
  expect(breaker.admits).toBe(true);
});

test("a trial that was given up says nothing and makes room for another", async () => {
  const { breaker, clock } = openBreaker();
  await trip(breaker, clock);
  admit(breaker).abandoned();
  expect(breaker.state).toBe("half-open");
  admit(breaker).succeeded();
  expect(breaker.state).toBe("closed");
});

test("a call that set out before a change has no say in it", async () => {
  const { breaker, clock } = openBreaker();
  const early = [admit(breaker), admit(breaker), admit(breaker)];
  await trip(breaker, clock);
  early[0]?.succeeded();
  expect(breaker.state).toBe("half-open");

  const trial = admit(breaker);
  early[1]?.failed(new Error("late"));
  expect(breaker.state).toBe("half-open");
  trial.succeeded();
  early[2]?.failed(new Error("later"));
  expect(breaker.state).toBe("closed");
  expect(breaker.counts).toEqual({ ended: 0, failuresInARow: 0 });
});

test("an outcome counts once", () => {
  const { breaker } = openBreaker({ failuresMax: 3 });
  const admission = admit(breaker);
  admission.failed(new Error("down"));
  admission.failed(new Error("down"));
  admission.succeeded();
  expect(breaker.counts).toEqual({ ended: 1, failuresInARow: 1 });
});

test("the success of a call that did not ask for leave closes it, and outdates a trial under way", async () => {
  const { breaker, clock } = openBreaker();
  await trip(breaker, clock);
  const trial = admit(breaker);
  breaker.recordBypassSuccess();
  expect(breaker.state).toBe("closed");
  trial.failed(new Error("late"));
  expect(breaker.state).toBe("closed");
});

test("while closed, the success of a call that did not ask for leave excuses no failure", () => {
  const { breaker } = openBreaker({ failuresMax: 2 });
  admit(breaker).failed(new Error("down"));
  breaker.recordBypassSuccess();
  admit(breaker).failed(new Error("down"));
  expect(breaker.state).toBe("open");
});

test("tells of each change once, with the failure that opened it, and can be reset by hand", async () => {
  const changes: BreakerChange[] = [];
  const { breaker, clock } = openBreaker({ failuresMax: 1, onChange: (change) => changes.push(change) });
  await breaker.run(fail).catch(() => {});
  const lastFailure = { error: new Error("down"), at: 0 };
  expect(breaker.lastFailure).toEqual(lastFailure);

  await clock.advance(1_000);
  await breaker.run(fail).catch(() => {});
  breaker.reset();
  breaker.reset();

  expect(changes.map(({ from, to }) => `${from} ${to}`)).toEqual([
    "closed open",
    "open half-open",
    "half-open open",
    "open closed",
  ]);
  expect(changes[0]?.lastFailure).toEqual(lastFailure);
  expect(breaker.lastFailure).toBeUndefined();
  expect(breaker.admits).toBe(true);
});

test("does what a list of what happened since the last change says it should", () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.constant({ kind: "call" } as const) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("fail" as const), pick: fc.nat(5) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("succeed" as const), pick: fc.nat(5) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("abandon" as const), pick: fc.nat(5) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.nat(1_500) }) },
    { weight: 1, arbitrary: fc.constant({ kind: "bypass" } as const) },
    { weight: 1, arbitrary: fc.constant({ kind: "reset" } as const) },
  );
  const limits = fc.record({
    failuresMax: fc.integer({ min: 1, max: 4 }),
    callsMin: fc.integer({ min: 1, max: 4 }),
    successesToClose: fc.integer({ min: 1, max: 3 }),
  });
  fc.assert(
    fc.property(limits, fc.array(step, { maxLength: 60 }), (options, steps) => {
      let now = 0;
      const all = { ...options, openMs: 1_000, clock: { now: () => now } };
      const breaker = new CircuitBreaker(all);
      const model = new Model(all);
      const said: unknown[] = [];
      const expected: unknown[] = [];
      const calls: { readonly admission: Admission; readonly since: Era }[] = [];
      for (const each of steps) {
        if (each.kind === "wait") now += each.ms;
        else if (each.kind === "bypass") {
          breaker.recordBypassSuccess();
          model.bypass();
        } else if (each.kind === "reset") {
          breaker.reset();
          model.change("closed");
        } else if (each.kind === "call") {
          const admission = breaker.tryAdmit();
          const since = model.admit();
          said.push(admission !== undefined);
          expected.push(since !== undefined);
          if (admission !== undefined && since !== undefined) calls.push({ admission, since });
        } else {
          const [call] = calls.splice(each.pick, 1);
          if (call === undefined) continue;
          if (each.kind === "fail") call.admission.failed(new Error("down"));
          else if (each.kind === "succeed") call.admission.succeeded();
          else call.admission.abandoned();
          model.end(call.since, each.kind);
        }
        said.push(breaker.state);
        expected.push(model.state);
      }
      expect(said).toEqual(expected);
    }),
    { numRuns: 500 },
  );
});

/** What happened since the last change. */
interface Era {
  readonly kind: BreakerState;
  readonly since: number;
  readonly outcomes: string[];
  running: number;
}

/** The rules once more, from the list of outcomes instead of counters. */
class Model {
  readonly #options: CircuitBreakerOptions;
  #era: Era = { kind: "closed", since: 0, outcomes: [], running: 0 };

  constructor(options: CircuitBreakerOptions) {
    this.#options = options;
  }

  get state(): BreakerState {
    const rested = this.#options.clock.now() - this.#era.since >= this.#options.openMs;
    return this.#era.kind === "open" && rested ? "half-open" : this.#era.kind;
  }

  admit(): Era | undefined {
    if (this.state === "half-open" && this.#era.kind === "open") this.change("half-open");
    if (this.state === "open" || (this.state === "half-open" && this.#era.running > 0)) return undefined;
    this.#era.running += 1;
    return this.#era;
  }

  end(era: Era, outcome: string): void {
    era.running -= 1;
    if (outcome !== "abandon") era.outcomes.push(outcome);
    if (era !== this.#era || outcome === "abandon") return;
    const { failuresMax, callsMin, successesToClose } = this.#options;
    const last = era.outcomes.slice(-failuresMax);
    const failing = last.length === failuresMax && last.every((each) => each === "fail");
    if (era.kind === "closed" && failing && era.outcomes.length >= callsMin) this.change("open");
    if (era.kind === "half-open" && outcome === "fail") this.change("open");
    if (era.kind === "half-open" && outcome === "succeed" && era.outcomes.length >= successesToClose) {
      this.change("closed");
    }
  }

  bypass(): void {
    if (this.#era.kind !== "closed") this.change("closed");
  }

  change(kind: BreakerState): void {
    this.#era = { kind, since: this.#options.clock.now(), outcomes: [], running: 0 };
  }
}

function openBreaker(options: Partial<CircuitBreakerOptions> = {}) {
  const clock = new FakeClock();
  const breaker = new CircuitBreaker({
    failuresMax: 1,
    callsMin: 1,
    openMs: 1_000,
    successesToClose: 1,
    clock,
    ...options,
  });
  return { breaker, clock };
}

/** Leaves the breaker about to let a trial through. */
async function trip(breaker: CircuitBreaker, clock: FakeClock): Promise<void> {
  await breaker.run(fail).catch(() => {});
  expect(breaker.state).toBe("open");
  await clock.advance(1_000);
}

function admit(breaker: CircuitBreaker): Admission {
  const admission = breaker.tryAdmit();
  if (admission === undefined) throw new Error("Cannot begin: the breaker is open");
  return admission;
}

const fail = () => Promise.reject(new Error("down"));
const succeed = () => Promise.resolve("ok");
