import { expect, test } from "vitest";
import { createHttpDate } from "./http-date.ts";

test("tells the time as HTTP wants it, to the second, wherever the clock goes", () => {
  let now = 0;
  const httpDate = createHttpDate({ wallNow: () => now });
  const at = (iso: string) => {
    now = Date.parse(iso);
    return httpDate();
  };
  expect(at("1994-11-06T08:49:37.000Z")).toBe("Sun, 06 Nov 1994 08:49:37 GMT");
  expect(at("1994-11-06T08:49:37.999Z")).toBe("Sun, 06 Nov 1994 08:49:37 GMT");
  expect(at("1994-11-06T08:49:38.000Z")).toBe("Sun, 06 Nov 1994 08:49:38 GMT");
  // Set back.
  expect(at("1994-11-06T08:49:36.500Z")).toBe("Sun, 06 Nov 1994 08:49:36 GMT");
});
