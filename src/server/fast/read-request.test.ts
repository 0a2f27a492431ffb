import assert from "node:assert/strict";
import { create, fromBinary, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { damage, someHarm } from "../../../test/support/damage.ts";
import {
  type BulkEvaluateRequest,
  BulkEvaluateRequestSchema,
  EvaluateRequestSchema,
} from "../../gen/pbflags/v1/evaluator_pb.ts";
import { readBulkJson, readEvaluateJson } from "./read-json.ts";
import { readBulk, readEvaluate } from "./read-message.ts";
import { type BulkReader, JSON_READER, PROTO_READER, RememberedLists } from "./remembered-lists.ts";

/** Without half a surrogate pair, and without what decoders put in place of what they cannot read. */
const text = fc.string({ unit: "binary", maxLength: 200 }).filter((each) => !each.includes("\ufffd"));
const question = fc.record({ flagIds: fc.array(text, { maxLength: 5 }), entityId: text });

test("what clients send is read, in proto and in JSON", () => {
  fc.assert(
    fc.property(question, ({ flagIds, entityId }) => {
      const [flagId = ""] = flagIds;
      const evaluate = toBinary(EvaluateRequestSchema, create(EvaluateRequestSchema, { flagId, entityId }));
      expect(readEvaluate(Buffer.from(evaluate))).toEqual({ flagId, entityId });
      const bulk = toBinary(
        BulkEvaluateRequestSchema,
        create(BulkEvaluateRequestSchema, { flagIds, entityId }),
      );
      expect(readBulk(Buffer.from(bulk))).toMatchObject({ flagIds, entityId });
      expect(readEvaluateJson(Buffer.from(JSON.stringify({ flagId, entityId })))).toEqual({
        flagId,
        entityId,
      });
      expect(readBulkJson(Buffer.from(JSON.stringify({ flagIds, entityId }, null, 2)))).toMatchObject({
        flagIds,
        entityId,
      });
    }),
  );
});

test("whatever is read of a damaged message is what Connect's implementation reads", () => {
  let readCount = 0;
  const harm = someHarm({ harmsMax: 2, lengthMax: 5 });
  const schema = BulkEvaluateRequestSchema;
  fc.assert(
    fc.property(question, harm, ({ flagIds, entityId }, harms) => {
      const bytes = Buffer.from(damage(toBinary(schema, create(schema, { flagIds, entityId })), harms));
      const json = Buffer.from(damage(Buffer.from(JSON.stringify({ flagIds, entityId })), harms));
      for (const [read, readAll] of [
        [readBulk(bytes), () => fromBinary(schema, bytes)],
        [readBulkJson(json), () => fromJsonString(schema, json.toString())],
      ] as const) {
        if (read === undefined) continue;
        readCount += 1;
        const all = readAll();
        assert.deepEqual([read.flagIds, read.entityId], [all.flagIds, all.entityId]);
      }
    }),
    { numRuns: 1_000 },
  );
  expect(readCount).toBeGreaterThan(100);
});

type Encode = (schema: typeof BulkEvaluateRequestSchema, message: BulkEvaluateRequest) => Uint8Array;

test.each<[string, BulkReader, Encode, (flags: Buffer, entity: Buffer) => Buffer]>([
  ["proto", PROTO_READER, toBinary, (one, other) => Buffer.concat([one, other])],
  [
    "JSON",
    JSON_READER,
    (schema, message) => Buffer.from(toJsonString(schema, message)),
    (one, other) =>
      Buffer.from(
        `${one.toString()}${other.toString()}`.replace("}{", one.length > 2 && other.length > 2 ? "," : ""),
      ),
  ],
])(
  "a list that comes again is read as the first time, whatever begins like it: %s",
  (_, reader, encode, join) => {
    const lists = new RememberedLists(reader);
    const few = fc.array(fc.constantFrom("a/1", "a/2", "a.b", "ü", '"'), { maxLength: 4 });
    let rememberedCount = 0;
    fc.assert(
      fc.property(few, fc.constantFrom("", "ann", "bob", "ü"), fc.boolean(), (flagIds, entityId, isLast) => {
        const [ofFlags, ofEntity] = [{ flagIds }, { entityId }].map((fields) =>
          Buffer.from(encode(BulkEvaluateRequestSchema, create(BulkEvaluateRequestSchema, fields))),
        );
        assert(ofFlags !== undefined && ofEntity !== undefined);
        const message = isLast ? join(ofFlags, ofEntity) : join(ofEntity, ofFlags);
        const first = lists.read(message);
        const second = lists.read(message);
        expect([first?.list.names, first?.entityId]).toEqual([flagIds, entityId]);
        expect([second?.list.names, second?.entityId]).toEqual([flagIds, entityId]);
        if (first?.list === second?.list) rememberedCount += 1;
      }),
      { numRuns: 500 },
    );
    expect(rememberedCount).toBeGreaterThan(100);
  },
);

test.each([
  '{"flagIds":["a"],}',
  '{"flagIds":["a"],"flagIds":[]}',
  '{"flagIds":["a"],"flag_ids":["b"]}',
  '{"flagIds":["a"]} x',
  '{"flagIds":["a"]]',
  '{"flagIds":["a"],"entityId":"x","entityId":"y"}',
])("what begins like a known list and is none is left to others: %s", (document) => {
  const lists = new RememberedLists(JSON_READER);
  expect(lists.read(Buffer.from('{"flagIds":["a"]}'))?.list.names).toEqual(["a"]);
  expect(lists.read(Buffer.from(document))).toBeUndefined();
});

test.each([
  '{"flagId":null}',
  '{"flagId":"a","flagId":"b"}',
  '{"flagId":"a","flag_id":"a"}',
  '{"flagId":"a","context":{}}',
  '{"flagId":"\\ud800"}',
  '{"flagId":"a"} x',
  '["a"]',
  "",
])("leaves to others what is unusual: %s", (document) => {
  expect(readEvaluateJson(Buffer.from(document))).toBeUndefined();
});
