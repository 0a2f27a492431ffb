import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { hashBytes } from "./hash-bytes.ts";

test.for([0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 1024 * 1024])(
  "the hash of %i bytes is that of the whole, however it is sliced",
  async (length) => {
    const bytes = randomBytes(length);
    expect(await hashBytes(bytes)).toBe(createHash("sha256").update(bytes).digest("hex"));
  },
);
