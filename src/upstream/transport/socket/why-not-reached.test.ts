import { expect, test } from "vitest";
import { hideSecrets } from "../../../system/hide-secrets.ts";
import { WORDS_MAX } from "../upstream-words.ts";
import { whyNotReached } from "./why-not-reached.ts";

const words = hideSecrets({ headers: ["k3y"], credentials: undefined }, WORDS_MAX);
const NOTHING = { isSilentAfterHandshake: false, hasCertificate: false, words };
const openSsl = (reason: string) =>
  `80E8:error:0A000412:SSL routines:ssl3_read_bytes:${reason}:../deps/rec_layer_s3.c:1600:SSL alert number 42\n`;

test.each([
  ["ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE", "bad certificate"],
  ["ERR_SSL_TLSV1_ALERT_UNKNOWN_CA", "unknown ca"],
  ["ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED", "certificate expired"],
  ["ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED", "certificate required"],
])("the alert %s is about the client's certificate", (code, alert) => {
  const error = Object.assign(new Error("alert"), { code });
  expect(whyNotReached(error, { ...NOTHING, hasCertificate: true })).toBe(
    `it refused the client's certificate (${alert})`,
  );
  expect(whyNotReached(error, NOTHING)).toBe(`it wants a client certificate (${alert})`);
});

test("an alert that is met while writing is told alike", () => {
  const error = Object.assign(new Error(`write EPROTO ${openSsl("tlsv1 alert unknown ca")}`), {
    code: "EPROTO",
  });
  expect(whyNotReached(error, NOTHING)).toBe("it wants a client certificate (unknown ca)");
});

test("what OpenSSL says else is told without what it says of itself", () => {
  const code = "ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE";
  const error = Object.assign(new Error(openSsl("sslv3 alert handshake failure")), { code });
  expect(whyNotReached(error, NOTHING)).toBe("TLS failed: sslv3 alert handshake failure");
});

test("a host with several addresses has a reason for each", () => {
  const errors = ["connect ECONNREFUSED ::1:1", "connect ECONNREFUSED 127.0.0.1:1"].map(
    (text) => new Error(text),
  );
  expect(whyNotReached(new AggregateError(errors, ""), NOTHING)).toBe(
    "connect ECONNREFUSED ::1:1, connect ECONNREFUSED 127.0.0.1:1",
  );
});

test.each([
  [{ isSilentAfterHandshake: false, hasCertificate: true }, "socket hang up"],
  [
    { isSilentAfterHandshake: true, hasCertificate: true },
    "it closed the connection right after the TLS handshake, as a server does that refuses the client's certificate",
  ],
  [
    { isSilentAfterHandshake: true, hasCertificate: false },
    "it closed the connection right after the TLS handshake, as a server does that wants a client certificate",
  ],
])("a connection that ends under the circumstances %j", (circumstances, expected) => {
  const error = Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
  expect(whyNotReached(error, { ...circumstances, words })).toBe(expected);
});

test("what a server makes us say has an end", () => {
  const error = Object.assign(new Error("x"), {
    code: "ERR_TLS_CERT_ALTNAME_INVALID",
    reason: "y".repeat(9_999),
  });
  expect(whyNotReached(error, NOTHING).length).toBeLessThan(600);
  expect(whyNotReached(new Error("z".repeat(9_999)), NOTHING)).toHaveLength(500);
});

test("what a server makes us say has none of our secrets in it", () => {
  const reason = "Host: a is not in the cert's altnames: DNS:k3y.test";
  const error = Object.assign(new Error("x"), { code: "ERR_TLS_CERT_ALTNAME_INVALID", reason });
  expect(whyNotReached(error, NOTHING)).toMatch(/altnames: DNS:\*\*\*\.test$/);
  expect(whyNotReached(new Error("no k3y"), NOTHING)).toBe("no ***");
});
