import fc from "fast-check";
import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load-config.ts";
import { openDaemon } from "../../src/daemon.ts";
import { openNamespace } from "../../src/namespaces/namespace.ts";
import { Latest } from "../../src/system/latest.ts";
import { Opened } from "../../src/system/opened.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { openScene, serveArgs } from "../daemon/scene.ts";
import { evaluateAt } from "../support/evaluate-at.ts";
import { eventually } from "../support/eventually.ts";
import { FakeClock, settle } from "../support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { size } from "../support/size.ts";

// Fault 7: the wall clock is stepped. What happens must be what would have happened anyway, at the same time.

const HOUR_MS = 3_600_000;

/** What may happen to a namespace. Only `step` touches the wall clock. */
type Move =
  | { readonly kind: "step"; readonly byMs: number }
  | { readonly kind: "pass"; readonly ms: number }
  | { readonly kind: "away" | "back" }
  | { readonly kind: "ask"; readonly entityId: string }
  | { readonly kind: "kill" | "revive" | "override" };

const moves = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("step" as const), byMs: fc.integer({ min: -HOUR_MS, max: HOUR_MS }) }),
    fc.record({ kind: fc.constant("step" as const), byMs: fc.constantFrom(-HOUR_MS, HOUR_MS) }),
    fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 90_000 }) }),
    fc.record({ kind: fc.constant("pass" as const), ms: fc.constantFrom(100, 2_000, 30_000, 60_000) }),
    fc.record({ kind: fc.constantFrom("away" as const, "back" as const) }),
    fc.record({ kind: fc.constant("ask" as const), entityId: fc.constantFrom("", "ann", "bob", "carl") }),
    fc.record({ kind: fc.constantFrom("kill" as const, "revive" as const, "override" as const) }),
  ),
  { minLength: 5, maxLength: 25 },
);

const flags = tableOf(defineFlag("shop/1"), defineFlag("shop/2", { layer: "" }));

/** All that a namespace did and answered, each with its time. */
async function play(story: readonly Move[], { stepping }: { readonly stepping: boolean }) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  store.set(stateOf("shop/1"));
  store.set(stateOf("shop/2"));
  store.setOverride(overrideOf("shop/1", "ann"));
  const happened: string[] = [];
  const note = (what: string) => happened.push(`${clock.now()} ${what}`);
  await using namespace = openNamespace({
    flags: new Latest(flags),
    store,
    clock,
    random: () => 0.5,
    killTtlMs: 30_000,
    flagTtlMs: 60_000,
    overrideTtlMs: 60_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 100,
    jitter: 0.2,
    events: {
      onEvaluation: (_flagId, _entityId, { source }) => note(source),
      onEvaluations: ({ evaluations }) => note(evaluations.map(({ source }) => source).join()),
      onLookUps: (tier, { hits, misses }) => note(`${tier} ${hits} ${misses}`),
      onStoreCall: (operation, durationMs, error) =>
        note(`${operation} ${durationMs} ${error === undefined}`),
      onStoreRecovery: () => note("recovery"),
      onBreakerChange: () => {},
      onKillSet: ({ flagIds }) => note(`killed ${[...flagIds].join()}`),
      onEpochChange: () => note("epoch"),
      onInvalidValue: () => note("invalid"),
      onPropagation: () => {},
    },
    traceStoreCall: (_, run) => run(),
  });
  await settle();
  for (const move of story) {
    switch (move.kind) {
      case "step":
        if (stepping) clock.wallOffsetMs += move.byMs;
        await settle();
        break;
      case "pass":
        await clock.advance(move.ms);
        break;
      case "away":
      case "back":
        store.away = move.kind === "away";
        break;
      case "ask":
        for (const { id } of flags.flags) {
          const { value, source } = await namespace.evaluate(id, move.entityId);
          note(`${id} ${move.entityId} ${JSON.stringify(value?.value.value)} ${source}`);
        }
        break;
      case "kill":
      case "revive":
        store.set(stateOf("shop/2", move.kind === "kill" ? { mode: "killed" } : {}));
        break;
      case "override":
        store.setOverride(overrideOf("shop/1", "bob", { value: flagValue(`at ${clock.now()}`) }));
        break;
    }
    const { health, breaker, stateAgeMs, ready } = namespace;
    note(`${health.status} ${health.failuresInARow} ${breaker.state} ${stateAgeMs} ${ready}`);
  }
  return happened;
}

test("whatever happens, it happens when it would have happened without the step", async () => {
  await fc.assert(
    fc.asyncProperty(moves, async (story) => {
      const [stepped, steady] = [
        await play(story, { stepping: true }),
        await play(story, { stepping: false }),
      ];
      expect(stepped).toEqual(steady);
    }),
    { numRuns: size(60, 1_000) },
  );
}, 300_000);

test("a whole daemon does nothing when the wall clock jumps, and goes on in its own time", async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene(database);
  const clock = new FakeClock();
  const lines: string[] = [];
  const { config } = await loadConfig(
    {
      // Nobody tells of changes: here only time brings them.
      args: {
        ...toRecord(serveArgs(database.url, scene)),
        "--database-listen": "postgres://127.0.0.1:1/none",
      },
      env: {},
      terminal: false,
    },
    "serve",
  );
  const daemon = await openDaemon(
    { ...config, listen: { kind: "tcp", host: "127.0.0.1", port: 0 } },
    {
      version: "test",
      clock,
      random: () => 0.5,
      logger: createLogger({
        level: "info",
        format: "json",
        destination: { write: (line) => lines.push(line) },
        clock,
      }),
      tracing: undefined,
      stopping: new AbortController().signal,
      configSource: undefined,
      env: {},
      runtimeFolder: "/nowhere",
    },
  );
  await using opened = new Opened();
  opened.defer(() => closeInItsTime(daemon, clock));
  const url = daemon.address.kind === "tcp" ? `http://127.0.0.1:${daemon.address.port}` : "";
  const askForLimit = async () => (await evaluateAt(url, { flagId: "shop/3" })).answer;
  await eventually(() => daemon.namespace.ready);
  expect(await askForLimit()).toMatchObject({ source: "EVALUATION_SOURCE_GLOBAL" });
  await eventually(async () =>
    (await checks(url)).some(({ name, healthy }) => name === "database" && healthy),
  );
  await eventually(() => lines.some((line) => line.includes("feed_broken")));
  const before = await standing(url);
  const linesBefore = lines.length;

  await scene.operate((store) => store.setValue("shop/3", "8"));
  for (const byMs of [HOUR_MS, -2 * HOUR_MS, 24 * HOUR_MS, -365 * 24 * HOUR_MS]) {
    clock.wallOffsetMs += byMs;
    // Real input and output get their turn in between.
    for (let i = 0; i < 3; i++) {
      expect(await askForLimit()).toMatchObject({
        value: { int64Value: "7" },
        source: "EVALUATION_SOURCE_GLOBAL",
      });
    }
    expect(await standing(url)).toEqual(before);
  }
  expect(lines.slice(linesBefore)).toEqual([]);

  // The next poll comes when it is due: a second, more or less, by the clock that does not jump.
  await clock.advance(700);
  expect(await standing(url)).toEqual({ ...before, age: 0.7 });
  await clock.advance(600);
  await eventually(async () => (await askForLimit()).value?.["int64Value"] === "8");
}, 60_000);

/** Closing takes time, and here time passes only if somebody turns the clock. */
async function closeInItsTime(daemon: AsyncDisposable, clock: FakeClock): Promise<void> {
  const closed = new AbortController();
  const closing = Promise.resolve(daemon[Symbol.asyncDispose]()).finally(() => closed.abort());
  await eventually(async () => {
    await clock.advance(50);
    return closed.signal.aborted;
  });
  await closing;
}

/** Everything that moves only when the store was asked. */
async function standing(url: string) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const fetches = [...text.matchAll(/^pbflags_fetch_duration_seconds_count.*$/gm)].map(([line]) => line);
  const [, age] = /^pbflags_state_age_seconds (\S+)$/m.exec(text) ?? [];
  return { fetches, age: Number(age) };
}

interface Check {
  readonly name: string;
  readonly healthy: boolean | null;
}

async function checks(url: string): Promise<readonly Check[]> {
  return ((await (await fetch(`${url}/readyz`)).json()) as { readonly checks: readonly Check[] }).checks;
}

function toRecord(args: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Array.from({ length: args.length / 2 }, (_, i) => [args[2 * i] ?? "", args[2 * i + 1] ?? ""]),
  );
}
