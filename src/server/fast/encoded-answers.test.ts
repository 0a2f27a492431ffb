import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { defineFlag, flagValue, tableOf } from "../../../test/support/flag-builders.ts";
import type { Evaluation } from "../../evaluation/precedence.ts";
import { Latest } from "../../system/latest.ts";
import { bytesOfText } from "../byte-text.ts";
import { KeptAnswer } from "./compression.ts";
import { EncodedAnswers } from "./encoded-answers.ts";

test("a long answer is compressed once, as long as its value and source are the same", async () => {
  const encoded = new EncodedAnswers({ flags: new Latest(tableOf(defineFlag("a/1"))) });
  const evaluation: Evaluation = { value: flagValue("long ".repeat(400)), source: "global" };
  const ask = (of: Evaluation) => encoded.of("a/1", of).alone("json");
  expect(typeof ask({ value: flagValue("short"), source: "global" })).toBe("string");

  const answer = ask(evaluation);
  if (!(answer instanceof KeptAnswer)) throw new Error(`Not kept: ${answer}`);
  expect(ask({ ...evaluation })).toBe(answer);
  const compressed = await answer.compressed();
  expect(answer.compressed()).toBe(compressed);
  expect(gunzipSync(bytesOfText(compressed)).toString()).toBe(answer.text);
  expect(JSON.parse(answer.text)).toMatchObject({ flagId: "a/1", source: "EVALUATION_SOURCE_GLOBAL" });

  expect(ask({ ...evaluation, source: "default" })).not.toBe(answer);
  expect(ask({ ...evaluation, value: flagValue("long ".repeat(400)) })).not.toBe(answer);
});
