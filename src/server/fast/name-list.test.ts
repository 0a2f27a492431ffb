import { gunzipSync } from "node:zlib";
import { create, fromBinary, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock, settle } from "../../../test/support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../../test/support/flag-builders.ts";
import { MemoryStore } from "../../../test/support/memory-store.ts";
import { silentEvents } from "../../../test/support/silent-events.ts";
import {
  BulkEvaluateRequestSchema,
  BulkEvaluateResponseSchema,
  EvaluationSource,
} from "../../gen/pbflags/v1/evaluator_pb.ts";
import { type Namespace, openNamespace } from "../../namespaces/namespace.ts";
import { Latest } from "../../system/latest.ts";
import { type ByteText, bytesOfText } from "../byte-text.ts";
import { KeptAnswer } from "./compression.ts";
import { createFastRpcs, type Form } from "./fast-rpcs.ts";
import { FRAME_HEADER_BYTES } from "./read-frame.ts";

const KILL_TTL = 10_000;
const FLAG_TTL = 300_000;
const FORMS: readonly Form[] = ["proto", "json", "grpc"];

let clock: FakeClock;
let store: MemoryStore;
let flags: Latest<ReturnType<typeof tableOf>>;
let namespace: Namespace;
/** Asks for all flags, or for some. */
let ask: (entityId: string, form: Form, flagIds?: readonly string[]) => Promise<ByteText | KeptAnswer>;

async function open(table: ReturnType<typeof tableOf>, killTtlMs = KILL_TTL): Promise<void> {
  flags = new Latest(table);
  namespace = openNamespace({
    flags,
    store,
    clock,
    random: () => 0.5,
    killTtlMs,
    flagTtlMs: FLAG_TTL,
    overrideTtlMs: FLAG_TTL,
    negativeTtlMs: FLAG_TTL,
    overrideEntriesMax: 100,
    jitter: 0,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
  const [, bulk] = createFastRpcs({ namespace, evaluating: namespace, bulkFlagsMax: 100 });
  ask = async (entityId, form, flagIds = []) => {
    const question = create(BulkEvaluateRequestSchema, { flagIds: [...flagIds], entityId });
    const message =
      form === "json"
        ? toJsonString(BulkEvaluateRequestSchema, question)
        : toBinary(BulkEvaluateRequestSchema, question);
    const answer = await bulk?.answer(Buffer.from(message), form);
    if (answer === undefined) throw new Error("Cannot read the request");
    return answer;
  };
  await settle();
  // Whoever is asked about for the first time has to be waited for.
  for (const entityId of ["user-1", "user-2"]) await ask(entityId, "json");
}

beforeEach(async () => {
  clock = new FakeClock();
  store = new MemoryStore();
  store.set(stateOf("a/1"));
  store.setOverride(overrideOf("a/2", "user-1"));
  await open(tableOf(defineFlag("a/1"), defineFlag("a/2")));
});

afterEach(async () => {
  await namespace[Symbol.asyncDispose]();
});

/** Changes the store, and waits until that is known. */
async function change(make: () => void): Promise<void> {
  make();
  await clock.advance(KILL_TTL);
}

function textOf(answer: ByteText | KeptAnswer): ByteText {
  return typeof answer === "string" ? answer : answer.text;
}

/** Of each flag the value and the source. */
function read(answer: ByteText | KeptAnswer, form: Form): string {
  const bytes = bytesOfText(textOf(answer));
  const { evaluations } =
    form === "json"
      ? fromJsonString(BulkEvaluateResponseSchema, bytes.toString())
      : fromBinary(BulkEvaluateResponseSchema, form === "grpc" ? bytes.subarray(FRAME_HEADER_BYTES) : bytes);
  return evaluations
    .map(({ flagId, value, source }) => {
      const text = value?.value.case === "stringValue" ? value.value.value : "none";
      return `${flagId} ${text} ${EvaluationSource[source]}`;
    })
    .join(", ");
}

describe.each(FORMS)("in the form %s", (form) => {
  /** What somebody without overrides is answered; that it is kept, and another answer than the last. */
  async function askAnew(last?: KeptAnswer): Promise<KeptAnswer> {
    const kept = await askForAll();
    expect(kept).not.toBe(last);
    return kept;
  }

  async function askForAll(): Promise<KeptAnswer> {
    const answer = await ask("", form);
    if (typeof answer === "string") throw new Error(`Not kept: ${answer}`);
    return answer;
  }

  test("what all are answered is kept until something changes, and then it is what has changed", async () => {
    const first = await askAnew();
    expect(read(first, form)).toBe("a/1 weekly GLOBAL, a/2 daily DEFAULT");
    expect(await askForAll()).toBe(first);

    await change(() => store.set(stateOf("a/2", { mode: "killed", value: undefined })));
    const killed = await askAnew(first);
    expect(read(killed, form)).toBe("a/1 weekly GLOBAL, a/2 daily KILLED");
    expect(await askForAll()).toBe(killed);

    await change(() => store.remove("a/2"));
    const revived = await askAnew(killed);
    expect(read(revived, form)).toBe("a/1 weekly GLOBAL, a/2 daily DEFAULT");

    await change(() => store.set(stateOf("a/1", { value: flagValue("hourly") })));
    const other = await askAnew(revived);
    expect(read(other, form)).toBe("a/1 hourly GLOBAL, a/2 daily DEFAULT");
    // A poll without news changes nothing.
    await clock.advance(KILL_TTL);
    expect(await askForAll()).toBe(other);
  });

  test("it is also for entities without overrides, and stays though others ask in between", async () => {
    const toAll = await askForAll();
    for (let i = 0; i < 3; i++) {
      expect(await ask("user-2", form)).toBe(toAll);
      const own = await ask("user-1", form);
      expect(own).not.toBeInstanceOf(KeptAnswer);
      expect(read(own, form)).toBe("a/1 weekly GLOBAL, a/2 never OVERRIDE");
      expect(await askForAll()).toBe(toAll);
    }

    await change(() => store.setOverride(overrideOf("a/1", "user-2", { value: flagValue("once") })));
    expect(read(await ask("user-2", form), form)).toBe("a/1 once OVERRIDE, a/2 daily DEFAULT");
    expect(await askForAll()).toBe(toAll);
    await change(() => store.removeOverride("a/1", "user-2"));
    expect(await ask("user-2", form)).toBe(toAll);
  });

  test("what is past its time to live is said to be, and not kept", async () => {
    await askForAll();
    store.away = true;
    await clock.advance(3 * FLAG_TTL);
    const stale = await ask("", form);
    expect(stale).not.toBeInstanceOf(KeptAnswer);
    expect(read(stale, form)).toBe("a/1 weekly CACHED, a/2 daily DEFAULT");

    store.away = false;
    await clock.advance(FLAG_TTL);
    expect(read(await askForAll(), form)).toBe("a/1 weekly GLOBAL, a/2 daily DEFAULT");
  });

  test("what is read before any poll tells of it is answered from then on", async () => {
    await namespace[Symbol.asyncDispose]();
    await open(flags.value, 10 * FLAG_TTL);
    const first = await askForAll();
    const loads = store.countCalls("flagStates");
    store.set(stateOf("a/1", { value: flagValue("hourly") }));
    while (store.countCalls("flagStates") === loads) await clock.advance(KILL_TTL);
    expect(clock.now(), "the answer before would still be fresh").toBeLessThan(FLAG_TTL);
    expect(read(await askAnew(first), form)).toBe("a/1 hourly GLOBAL, a/2 daily DEFAULT");
  });

  test("other descriptors are answered from the next call on", async () => {
    const first = await askForAll();
    const some = ["a.flag_2", "b/1"];
    expect(read(await ask("", form, some), form)).toBe("a.flag_2 daily DEFAULT, b/1 none DEFAULT");
    flags.replace(
      tableOf(defineFlag("a/1"), defineFlag("a/2", { defaultValue: flagValue("never") }), defineFlag("b/1")),
    );
    namespace.flagsReplaced();
    await settle();
    const second = await askAnew(first);
    expect(read(second, form)).toBe("a/1 weekly GLOBAL, a/2 never DEFAULT, b/1 daily DEFAULT");
    expect(await askForAll()).toBe(second);
    expect(read(await ask("", form, some), form)).toBe("a.flag_2 never DEFAULT, b/1 daily DEFAULT");
  });

  test("it is compressed once for all who ask for that, and made anew with it", async () => {
    const first = await askForAll();
    const making = first.compressed();
    expect(making).toBeInstanceOf(Promise);
    expect(first.compressed()).toBe(making);
    const compressed = await making;
    expect((await askForAll()).compressed()).toBe(compressed);
    expect(inflate(compressed, form)).toBe(textOf(first));

    await change(() => store.set(stateOf("a/1", { value: flagValue("hourly") })));
    const second = await askForAll();
    expect(inflate(await second.compressed(), form)).toBe(textOf(second));
    expect(read(second, form)).toContain("hourly");
  });
});

/** The answer as it is without compression. */
function inflate(compressed: ByteText, form: Form): ByteText {
  const bytes = bytesOfText(compressed);
  if (form !== "grpc") return gunzipSync(bytes).toString("latin1");
  expect([bytes[0], bytes.readUInt32BE(1)]).toEqual([1, bytes.length - FRAME_HEADER_BYTES]);
  const message = gunzipSync(bytes.subarray(FRAME_HEADER_BYTES));
  const head = Buffer.alloc(FRAME_HEADER_BYTES);
  head.writeUInt32BE(message.length, 1);
  return head.toString("latin1") + message.toString("latin1");
}

test("the answer of ten thousand flags is kept in every form, and one of many megabytes is not", async () => {
  const many = Array.from({ length: 10_000 }, (_, i) => defineFlag(`notifications.of.a.team/${i + 1}`));
  await namespace[Symbol.asyncDispose]();
  await open(tableOf(...many));
  for (const form of FORMS) expect(await ask("", form)).toBeInstanceOf(KeptAnswer);

  const defaultValue = flagValue("x".repeat(1_000));
  await namespace[Symbol.asyncDispose]();
  await open(tableOf(...many.map((flag) => ({ ...flag, defaultValue }))));
  for (const form of FORMS) {
    const answer = await ask("", form);
    expect(typeof answer).toBe("string");
    expect(answer).toEqual(await ask("", form));
  }
});
