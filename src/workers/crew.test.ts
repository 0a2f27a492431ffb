import { afterEach, beforeEach, expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import type { Logger } from "../telemetry/logger.ts";
import { createMetrics } from "../telemetry/metrics.ts";
import { Crew, type CrewMember } from "./crew.ts";
import type { Exit, WorkerProcess } from "./launch-worker.ts";
import type { ToPrimary, ToWorker } from "./messages.ts";

/** A worker whose other end is the test. */
interface Puppet {
  readonly worker: number;
  readonly heard: ToWorker[];
  say(message: ToPrimary): void;
  end(exit: Exit): Promise<void>;
  isKilled: boolean;
}

let clock: FakeClock;
let puppets: Puppet[];
let log: { readonly event: string; readonly worker: unknown }[];
let open: CrewMember[];
let gone: CrewMember[];

beforeEach(() => {
  clock = new FakeClock();
  [puppets, log, open, gone] = [[], [], [], []];
});

let crew: Crew;

afterEach(async () => {
  crew.stop();
  for (const puppet of puppets) await puppet.end({ code: 0, signal: null });
  await crew.ended(0);
});

function openCrew(count: number): Crew {
  const write = (event: string, fields: Readonly<Record<string, unknown>> = {}) =>
    void log.push({ event, worker: fields["worker"] });
  const logger: Logger = {
    level: "info",
    debugEnabled: false,
    debug: () => {},
    info: write,
    warn: write,
    error: write,
  };
  return new Crew({
    count,
    launch,
    start: () => ({
      config: {} as never,
      logLevel: "info",
      address: { kind: "unix", path: "/listen" },
      socket: "/socket",
      told: {} as never,
    }),
    onOpen: (member) => void open.push(member),
    onMessage: () => {},
    onGone: (member) => void gone.push(member),
    logger,
    clock,
    random: () => 0.5,
  });
}

function launch(worker: number): WorkerProcess {
  let hear: (message: ToPrimary) => void = () => {};
  let end: (exit: Exit) => void = () => {};
  const exited = new Promise<Exit>((resolve) => {
    end = resolve;
  });
  const puppet: Puppet = {
    worker,
    heard: [],
    say: (message) => hear(message),
    async end(exit) {
      end(exit);
      await settle();
    },
    isKilled: false,
  };
  puppets.push(puppet);
  return {
    pid: puppets.length,
    exited,
    send: (message) => void puppet.heard.push(message),
    receive(listener) {
      hear = (message) => listener(message, undefined);
    },
    kill() {
      puppet.isKilled = true;
      end({ code: null, signal: "SIGKILL" });
    },
  };
}

function last(): Puppet {
  const puppet = puppets.at(-1);
  if (puppet === undefined) throw new Error("Nobody was started");
  return puppet;
}

const OPEN: ToPrimary = { kind: "open", knows: { descriptors: true, kills: true, all: true } };
const OPEN_TOO_EARLY: ToPrimary = { kind: "open", knows: { descriptors: false, kills: false, all: false } };

const CRASH: Exit = { code: 70, signal: null };

test("one that is lost is started again, and the others are left alone", async () => {
  crew = openCrew(2);
  expect(puppets.map(({ worker }) => worker)).toEqual([1, 2]);
  for (const puppet of puppets) puppet.say(OPEN);
  expect(open.map(({ worker }) => worker)).toEqual([1, 2]);
  await puppets[1]?.end(CRASH);
  expect(gone.map(({ worker }) => worker)).toEqual([2]);
  await clock.advance(100);
  expect(puppets.map(({ worker }) => worker)).toEqual([1, 2, 2]);
  expect(last().heard[0]).toMatchObject({ kind: "start", worker: 2 });
  expect(log.filter(({ event }) => event === "worker_lost")).toEqual([{ event: "worker_lost", worker: 2 }]);
});

test("while it is in vain the pauses grow; whoever has worked for a while starts with a short one again", async () => {
  crew = openCrew(1);
  for (const pauseMs of [100, 200, 400, 800]) {
    const before = puppets.length;
    await last().end(CRASH);
    await clock.advance(pauseMs - 1);
    expect(puppets.length).toBe(before);
    await clock.advance(1);
    expect(puppets.length).toBe(before + 1);
  }
  // None of them was ever open.
  expect(gone).toEqual([]);
  last().say(OPEN);
  await clock.advance(10_000);
  const before = puppets.length;
  await last().end(CRASH);
  await clock.advance(100);
  expect(puppets.length).toBe(before + 1);
});

test("one that does not get to work in a minute is killed and started again", async () => {
  crew = openCrew(1);
  await clock.advance(59_999);
  expect(last().isKilled).toBe(false);
  const [first] = puppets;
  await clock.advance(1_000);
  expect(first?.isKilled).toBe(true);
  expect(puppets.length).toBe(2);
  last().say(OPEN);
  await clock.advance(120_000);
  expect(last().isKilled).toBe(false);
});

test("once it is stopped nobody is started again, and who does not end in time is killed", async () => {
  crew = openCrew(2);
  crew.stop();
  for (const puppet of puppets) expect(puppet.heard.at(-1)).toEqual({ kind: "stop" });
  await puppets[0]?.end({ code: 0, signal: null });
  const ended = crew.ended(5_000);
  await clock.advance(5_000);
  await ended;
  expect(puppets.map(({ isKilled }) => isKilled)).toEqual([false, true]);
  await clock.advance(60_000);
  expect(puppets.length).toBe(2);
});

/** What a worker says that has evaluated so often. */
async function counted(puppet: Puppet, evaluations: number): Promise<void> {
  using metrics = createMetrics({ version: "1", procedures: [] });
  for (let i = 0; i < evaluations; i++) metrics.recordEvaluation("global");
  const asked = puppet.heard.findLast(({ kind }) => kind === "count");
  if (asked?.kind !== "count") throw new Error("It was not asked");
  puppet.say({ kind: "counted", id: asked.id, metrics: await metrics.collect() });
}

function sumOf(count: Awaited<ReturnType<Crew["count"]>>): number {
  return [...count.workers, count.gone]
    .flat()
    .filter(({ name }) => name === "pbflags_evaluations_total")
    .flatMap(({ values }) => values)
    .reduce((sum, { value }) => sum + value, 0);
}

test("what was counted is kept of those that are gone, and of those that do not answer", async () => {
  crew = openCrew(2);
  for (const puppet of puppets) puppet.say(OPEN);
  const first = crew.count();
  for (const puppet of puppets) await counted(puppet, 10);
  expect(sumOf(await first)).toBe(20);

  await puppets[0]?.end(CRASH);
  await clock.advance(100);
  const hung = crew.count();
  await clock.advance(500);
  expect(sumOf(await hung)).toBe(20);

  last().say(OPEN);
  const both = crew.count();
  await counted(last(), 5);
  await counted(puppets[1] ?? last(), 12);
  expect(sumOf(await both)).toBe(27);
});

test("what a worker says after its end is not counted twice", async () => {
  crew = openCrew(1);
  last().say(OPEN);
  const [first] = puppets;
  if (first === undefined) throw new Error("Cannot happen");
  const before = crew.count();
  await counted(first, 10);
  await before;
  const late = crew.count();
  await first.end(CRASH);
  await counted(first, 11);
  expect(sumOf(await late)).toBe(10);
});

function readyTold(): readonly boolean[] {
  return puppets.map(({ heard }) => heard.some(({ kind }) => kind === "ready"));
}

test("nobody is ready while one that is open does not know all", () => {
  crew = openCrew(3);
  puppets[0]?.say(OPEN_TOO_EARLY);
  puppets[1]?.say(OPEN_TOO_EARLY);
  expect(open.map(({ worker }) => worker)).toEqual([1, 2]);
  puppets[0]?.say(OPEN);
  expect(readyTold()).toEqual([false, false, false]);
  puppets[1]?.say(OPEN);
  expect(readyTold()).toEqual([true, true, true]);
  expect(open.map(({ worker }) => worker)).toEqual([1, 2]);
});

test("one that is lost before it knows all keeps the others from being ready no longer", async () => {
  crew = openCrew(2);
  puppets[0]?.say(OPEN_TOO_EARLY);
  await puppets[0]?.end(CRASH);
  await clock.advance(100);
  // Nobody is open.
  expect(readyTold()).toEqual([false, false, false]);
  last().say(OPEN_TOO_EARLY);
  puppets[1]?.say(OPEN);
  expect(readyTold()).toEqual([false, false, false]);
  await last().end(CRASH);
  expect(readyTold()).toEqual([false, true, false]);
});

test("once ready nobody takes connections before he knows all, and whoever is started again is ready with the others", async () => {
  crew = openCrew(2);
  puppets[0]?.say(OPEN);
  // It has not heard yet.
  puppets[1]?.say(OPEN_TOO_EARLY);
  expect(open.map(({ worker }) => worker)).toEqual([1]);
  puppets[1]?.say(OPEN);
  expect(open.map(({ worker }) => worker)).toEqual([1, 2]);
  await puppets[0]?.end(CRASH);
  await clock.advance(100);
  expect(last().heard.map(({ kind }) => kind)).toEqual(["start", "ready"]);
});
