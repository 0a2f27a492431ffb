import * as fc from "fast-check";
import { expect, test } from "vitest";
import { parseNotice } from "./parse-notice.ts";

const fine = { epoch: "e", revision: 3 };

test("a notice names the version that there is to be seen, whatever else it says", () => {
  for (const more of [{}, { all: true }, { flags: ["a/1"], entities: [], at: 1 }, { version: 7 }]) {
    expect(parseNotice(JSON.stringify({ ...fine, ...more }))).toEqual({ version: fine });
  }
});

test.each([
  ["nothing", ""],
  ["text", "look"],
  ["half of it", '{"epoch":"e","revi'],
  ["no object", "7"],
  ["null", "null"],
  ["no revision", '{"epoch":"e"}'],
  ["a revision in quotes", '{"epoch":"e","revision":"3"}'],
  ["a negative revision", '{"epoch":"e","revision":-1}'],
  ["half a revision", '{"epoch":"e","revision":0.5}'],
  ["a revision beyond what counts exactly", '{"epoch":"e","revision":9007199254740992}'],
  ["an infinite revision", '{"epoch":"e","revision":1e999}'],
  ["no epoch", '{"epoch":"","revision":3}'],
  ["a number as epoch", '{"epoch":5,"revision":3}'],
  ["an endless epoch", JSON.stringify({ ...fine, epoch: "e".repeat(201) })],
])("with %s it is still a notice, without a version", (_, payload) => {
  expect(parseNotice(payload)).toEqual({ version: undefined });
});

test("whatever is sent, it is read without an error", () => {
  const sent = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.json(),
    fc.record({ epoch: fc.anything(), revision: fc.anything() }).map((told) => JSON.stringify(told) ?? ""),
  );
  fc.assert(
    fc.property(sent, (payload) => {
      const { version } = parseNotice(payload);
      expect(version === undefined || (version.epoch !== "" && version.revision >= 0)).toBe(true);
    }),
  );
});
