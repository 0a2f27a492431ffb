import { expect, test } from "vitest";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { LINE_CHARS_MAX, LINES_MAX, LineSplitter, OutputLimiter } from "./output-lines.ts";

function split(...chunks: readonly (string | Buffer)[]): readonly string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line));
  for (const chunk of chunks) splitter.push(Buffer.from(chunk));
  splitter.end();
  return lines;
}

test("lines are whole, however they arrive", () => {
  expect(split("one\ntw", "o\r\n\n", "\n three")).toEqual(["one", "two", " three"]);
});

test("a character that arrives in two parts stays one", () => {
  const bytes = Buffer.from("ü\n");
  expect(split(bytes.subarray(0, 1), bytes.subarray(1))).toEqual(["ü"]);
});

test("a line that is too long is cut, and the next one is not", () => {
  const long = "x".repeat(LINE_CHARS_MAX);
  expect(split(long, "\n", long, "y", "yy\nnext")).toEqual([long, `${long}…`, "next"]);
});

test("lines that come too fast are counted, and those after them are not lost", async () => {
  const clock = new FakeClock();
  const lines: string[] = [];
  const limiter = new OutputLimiter(clock, (line) => lines.push(line));
  for (let i = 0; i < LINES_MAX + 2; i++) limiter.take("x");
  expect(lines).toEqual(Array.from({ length: LINES_MAX }, () => "x"));

  await clock.advance(1_000);
  limiter.take("later");
  expect(lines.slice(LINES_MAX)).toEqual(["… 2 more lines, too fast to be logged", "later"]);
  limiter.end();
  expect(lines).toHaveLength(LINES_MAX + 2);
});
