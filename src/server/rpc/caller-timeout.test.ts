import { expect, test } from "vitest";
import { shortenCallerTimeout } from "./caller-timeout.ts";

test.each([
  ["connect-timeout-ms", "9999999999", "2147483647"],
  ["connect-timeout-ms", "2147483647", "2147483647"],
  ["connect-timeout-ms", "500", "500"],
  ["connect-timeout-ms", "soon", "soon"],
  ["grpc-timeout", "99999999H", "2147483S"],
  ["grpc-timeout", "99999999M", "2147483S"],
  ["grpc-timeout", "99999999S", "2147483S"],
  ["grpc-timeout", "99999999m", "99999999m"],
  ["grpc-timeout", "500m", "500m"],
  ["grpc-timeout", "H", "H"],
])("%s: %s becomes %s", (name, sent, shortened) => {
  const headers = new Headers({ [name]: sent });
  shortenCallerTimeout(headers);
  expect(headers.get(name)).toBe(shortened);
});
