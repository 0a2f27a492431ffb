import { create, fromBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { judgePause, measurePauses, measureShortest, PAUSES } from "../../../test/support/pauses.ts";
import { size } from "../../../test/support/size.ts";
import { snapshotOf } from "../../../test/support/snapshots.ts";
import type { Remembered } from "../../evaluation/remembered.ts";
import type { FlagState, Mode, Override, Overrides } from "../../evaluation/state.ts";
import type { Version } from "../../evaluation/version.ts";
import { caseOfType } from "../../flags/flag-value.ts";
import { SnapshotSchema } from "../../gen/pbflagd/v1/snapshot_pb.ts";
import {
  BoolListSchema,
  DoubleListSchema,
  type FlagValue,
  FlagValueSchema,
  Int64ListSchema,
  StringListSchema,
} from "../../gen/pbflags/v1/types_pb.ts";
import { runAtOnce, runInSlices } from "../../system/run-in-slices.ts";
import { decodeSnapshot } from "./decode-snapshot.ts";
import { encodeSnapshot } from "./encode-snapshot.ts";
import { identifyStore, isOfStore, type SnapshotContent } from "./snapshot-content.ts";

test("whatever is known comes back as it was", () => {
  fc.assert(
    fc.property(contents(), (content) => {
      expect(decode(encode(content))).toEqual({ kind: "usable", content });
    }),
    { numRuns: size(300, 5_000) },
  );
});

test("what takes many pieces comes back whole, and is one message to anybody", () => {
  const content = snapshotOf(7, { flags: 1_001, entities: 1_001 });
  const pieces = [...encodeSnapshot(content)];
  expect(pieces.length).toBeGreaterThan(10);
  const bytes = Buffer.concat(pieces);
  expect(decode(bytes)).toEqual({ kind: "usable", content });
  const message = fromBinary(SnapshotSchema, bytes);
  expect(message).toMatchObject({ format: 1, version: { epoch: "epoch-1", revision: 7n } });
  expect(message.entities).toHaveLength(1_001);
});

test("an epoch is written once, however much is of it", () => {
  const text = Buffer.from(encode(snapshotOf(7, { flags: 50, entities: 50 }))).toString("latin1");
  expect(text.split("epoch-1")).toHaveLength(2);
});

test("what would make it too large is left out, the least worth keeping first", () => {
  const content = snapshotOf(7, { flags: 10, entities: 3_000 });
  const whole = encode(content);
  const half = Buffer.concat([...encodeSnapshot(content, whole.length / 2)]);
  expect(half.length).toBeLessThanOrEqual(whole.length / 2);
  const decoded = decode(half);
  if (decoded.kind !== "usable") throw new Error(decoded.reason);
  const { entities, ...rest } = decoded.content;
  expect(rest).toEqual({ store: content.store, kills: content.kills, flags: content.flags });
  expect(entities.length).toBeGreaterThan(1_000);
  expect(entities).toEqual(content.entities.slice(0, entities.length));
  expect(() => [...encodeSnapshot(content, 500)]).toThrow(
    new RangeError("more than 500 bytes without any entity"),
  );
});

describe("is no snapshot:", () => {
  const cases: readonly (readonly [what: string, bytes: Uint8Array, reason: RegExp])[] = [
    ["nothing", new Uint8Array(), /^it must be of format 1, got 0$/],
    ["a later format", Buffer.from([8, 2]), /^it must be of format 1, got 2, as a later pbflagd writes it$/],
    ["another message", Buffer.from([10, 2, 65, 65]), /^it must be /],
    ["text", Buffer.from("not a message at all"), /^it must be /],
    // Format 1, then something that is said to have 100 bytes.
    ["one that ends too soon", Buffer.from([8, 1, 42, 100, 65]), /^it must be a snapshot, got /],
    // Format 1, a flag that says nothing of its version and time.
    ["one without times", Buffer.from([8, 1, 66, 3, 10, 1, 65]), /got something without a time$/],
    // Format 1, a version without an epoch.
    ["one of no epoch", Buffer.from([8, 1, 18, 2, 16, 1]), /its epoch must have 1 to 200 characters, got 0$/],
  ];

  test.for(cases)("%s", ([, bytes, reason]) => {
    expect(decode(bytes)).toEqual({ kind: "unusable", reason: expect.stringMatching(reason) });
  });
});

test("10,000 entities are written and read, and hold nothing up", PAUSES, async () => {
  const content = snapshotOf(7, { flags: 5_000, entities: 10_000 });
  const written = await measureShortest(() => measurePauses(() => runInSlices(encodeInSteps(content))));
  const bytes = Buffer.concat(written.result);
  const read = await measureShortest(() => measurePauses(() => runInSlices(decodeSnapshot(bytes))));
  expect(read.result.kind).toBe("usable");
  judgePause("encoding a snapshot of 10000 entities", written.pauseMs);
  judgePause("decoding a snapshot of 10000 entities", read.pauseMs);
});

test("without versions a snapshot is of one store only; with versions the store itself tells", () => {
  const { kills, ...rest } = snapshotOf(7);
  const name = identifyStore(["http://a:1", "http://b:1"], "hash");
  const unversioned = { ...rest, store: name, kills: { ...kills, version: undefined } };
  expect(isOfStore(unversioned, name)).toBe(true);
  expect(isOfStore(unversioned, identifyStore(["http://b:1", "http://a:1"], "hash")), "in any order").toBe(
    true,
  );
  expect(isOfStore(unversioned, identifyStore(["http://a:1"], "hash"))).toBe(false);
  expect(isOfStore(unversioned, identifyStore(["http://a:1", "http://b:1"], "other"))).toBe(false);
  expect(isOfStore({ ...unversioned, kills }, "any other")).toBe(true);
  expect(name).not.toContain("http");
});

function* encodeInSteps(content: SnapshotContent): Generator<undefined, readonly Uint8Array[]> {
  const pieces: Uint8Array[] = [];
  for (const piece of encodeSnapshot(content)) {
    pieces.push(piece);
    yield;
  }
  return pieces;
}

function encode(content: SnapshotContent): Uint8Array {
  return Buffer.concat([...encodeSnapshot(content)]);
}

function decode(bytes: Uint8Array) {
  return runAtOnce(decodeSnapshot(bytes));
}

function contents(): fc.Arbitrary<SnapshotContent> {
  const version = fc.option(
    fc.record<Version>({
      epoch: fc.oneof(fc.constantFrom("a", "b"), fc.string({ minLength: 1, maxLength: 40 })),
      revision: fc.maxSafeNat(),
    }),
    { nil: undefined },
  );
  const id = fc.string({ unit: "grapheme", minLength: 1 });
  const readAtWallMs = fc.maxSafeNat();
  const mode = fc.constantFrom<Mode[]>("enabled", "default", "killed");
  const invalid = fc.oneof(
    { arbitrary: fc.constant({}), weight: 4 },
    fc.record({ invalid: fc.string({ minLength: 1, maxLength: 100 }) }),
  );
  const value = fc.option(values(), { nil: undefined });
  const setting = fc.tuple(fc.record({ mode, value }), invalid).map(([a, b]) => ({ ...a, ...b }));
  const type = fc.constantFrom(undefined, ...(Object.keys(caseOfType) as FlagState["type"][]));
  const worth = { version, readAtWallMs, isOutdated: fc.boolean(), isWithdrawn: fc.boolean() };

  const flag = fc
    .tuple(id, fc.boolean(), fc.record(worth), setting, fc.record({ archived: fc.boolean(), type }))
    .map(([flagId, isAbsent, rest, set, more]): Remembered<FlagState> => {
      const row: FlagState = { flagId, ...more, ...set };
      return { id: flagId, value: isAbsent ? undefined : row, ...rest };
    });
  const entity = fc
    .tuple(id, fc.array(fc.tuple(id, setting)), fc.record(worth))
    .map(([entityId, rows, rest]): Remembered<Overrides> => {
      const overrides = rows.map(([flagId, set]): [string, Override] => [
        flagId,
        { flagId, entityId, ...set },
      ]);
      return { id: entityId, value: overrides.length === 0 ? undefined : new Map(overrides), ...rest };
    });
  const kills = fc.record({
    flagIds: fc.array(id),
    overrides: fc.array(fc.record({ flagId: id, entityId: id })),
    version,
    readAtWallMs,
    corrections: fc.array(fc.record({ flagId: id, killed: fc.boolean(), version })),
  });
  return fc.record({ store: fc.string(), kills, flags: fc.array(flag), entities: fc.array(entity) });
}

function values(): fc.Arbitrary<FlagValue> {
  const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  const text = fc.string({ unit: "grapheme" });
  return fc
    .oneof(
      fc.boolean().map((value) => ({ case: "boolValue" as const, value })),
      text.map((value) => ({ case: "stringValue" as const, value })),
      int64.map((value) => ({ case: "int64Value" as const, value })),
      fc.double().map((value) => ({ case: "doubleValue" as const, value })),
      fc
        .array(fc.boolean())
        .map((values) => ({ case: "boolListValue" as const, value: create(BoolListSchema, { values }) })),
      fc
        .array(text)
        .map((values) => ({ case: "stringListValue" as const, value: create(StringListSchema, { values }) })),
      fc
        .array(int64)
        .map((values) => ({ case: "int64ListValue" as const, value: create(Int64ListSchema, { values }) })),
      fc
        .array(fc.double())
        .map((values) => ({ case: "doubleListValue" as const, value: create(DoubleListSchema, { values }) })),
    )
    .map((value) => create(FlagValueSchema, { value }));
}
