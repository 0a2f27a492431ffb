import { createRequire } from "node:module";
import { expect, test } from "vitest";

/** What pg signs in with. */
interface PgCrypto {
  randomBytes(count: number): Buffer;
  md5(text: string): Promise<string>;
  postgresMd5PasswordHash(user: string, password: string, salt: Buffer): Promise<string>;
  sha256(data: Uint8Array): Promise<ArrayBuffer | Buffer>;
  hashByName(name: string, data: Uint8Array): Promise<ArrayBuffer | Buffer>;
  hmacSha256(key: Uint8Array, text: string): Promise<ArrayBuffer | Buffer>;
  deriveKey(password: string, salt: Uint8Array, iterations: number): Promise<ArrayBuffer | Buffer>;
}

const require = createRequire(import.meta.url);
const ours = require("../../build/pg-crypto.cjs") as PgCrypto;
// Not among what the package exports.
const theirs = require(require.resolve("pg").replace(/index\.js$/, "crypto/utils.js")) as PgCrypto;

test("the bundle signs in to Postgres with the same numbers as pg by itself", async () => {
  const [data, salt] = [Buffer.from("some data, ünd more"), Buffer.from("01020304", "hex")];
  expect(Object.keys(ours).toSorted()).toEqual(Object.keys(theirs).toSorted());
  expect(ours.randomBytes(18)).toHaveLength(18);
  expect(ours.randomBytes(18)).not.toEqual(ours.randomBytes(18));
  const answers = async (crypto: PgCrypto) => [
    await crypto.md5("text, ünd more"),
    await crypto.postgresMd5PasswordHash("ann", "pässword", salt),
    ...[
      await crypto.sha256(data),
      await crypto.hashByName("SHA-256", data),
      await crypto.hashByName("SHA-384", data),
      await crypto.hashByName("SHA-512", data),
      await crypto.hmacSha256(data, "Client Key"),
      await crypto.deriveKey("pässword", salt, 4_096),
    ].map((bytes) => Buffer.from(bytes as Buffer).toString("hex")),
  ];
  expect(await answers(ours)).toEqual(await answers(theirs));
});
