import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { createLogger, type Logger, type LoggerOptions } from "./logger.ts";

test("writes one JSON line an event, with time, level, event, message and context", () => {
  const { logger, lines } = openLogger();
  logger.info("descriptors_reloaded", { added: 2, path: "/etc/flags.pb" });

  expect(lines()).toHaveLength(1);
  const { time, ...rest } = parsed(lines()[0]);
  expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  expect(rest).toEqual({
    level: "info",
    event: "descriptors_reloaded",
    msg: "descriptors reloaded",
    added: 2,
    path: "/etc/flags.pb",
  });
});

test("a message given replaces the event's own name, and context cannot overwrite what every line has", () => {
  const { logger, lines } = openLogger();
  logger.warn("ready_late", { msg: "Ready after 3 s", level: 7, time: "noon", event: "other" });
  const line = parsed(lines()[0]);
  expect(line).toMatchObject({ event: "ready_late", msg: "Ready after 3 s", level: "warn" });
  expect(line).toMatchObject({ level_: 7, time_: "noon", event_: "other" });
  expect(lines()[0]?.match(/"level":/g)).toHaveLength(1);
});

test("says nothing below its level", () => {
  const { logger, lines } = openLogger({ level: "warn" });
  logger.debug("a");
  logger.info("b");
  logger.warn("c");
  expect(lines().map((line) => parsed(line)["event"])).toEqual(["c"]);
  expect(logger.debugEnabled).toBe(false);
  expect(openLogger({ level: "debug" }).logger.debugEnabled).toBe(true);
});

test("the level can be changed while it logs", () => {
  const { logger, lines } = openLogger({ level: "warn" });
  logger.info("a");
  logger.level = "debug";
  logger.debug("b");
  expect(logger.debugEnabled).toBe(true);
  logger.level = "error";
  logger.warn("c");
  expect(lines().map((line) => parsed(line)["event"])).toEqual(["b"]);
  expect(logger.level).toBe("error");
});

test("errors show type, message, stack, cause and what was attached to them", () => {
  const { logger, lines } = openLogger();
  const cause = Object.assign(new TypeError("no route"), { code: "EHOSTUNREACH" });
  logger.error("store_call_failed", { err: new Error("Cannot read flags", { cause }) });

  const { err } = parsed(lines()[0]);
  expect(err).toMatchObject({
    type: "Error",
    message: "Cannot read flags",
    stack: expect.stringContaining("logger.test.ts"),
    cause: { type: "TypeError", message: "no route", code: "EHOSTUNREACH" },
  });
});

const SECRET = "hunter2-S3CRET";

test.each([
  ["URL in a message", { msg: `Cannot reach postgres://bob:${SECRET}@db:5432/flags` }],
  ["URL in a field", { database: `postgres://bob:${SECRET}@db/flags?sslmode=require` }],
  ["URL whose password holds an @", { database: `postgres://bob:p@${SECRET}@db/flags` }],
  ["URL whose password holds a /", { database: `postgres://bob:p/${SECRET}@db/flags` }],
  ["URL object", { url: new URL(`https://bob:${SECRET}@upstream:9201/`) }],
  ["URL with nothing but a token", { url: `https://${SECRET}@upstream:9201/` }],
  ["URL parameter", { url: `postgres://db/flags?user=bob&password=${SECRET}&x=1` }],
  ["libpq settings", { dsn: `host=db password='it\\'s ${SECRET}' user=bob` }],
  ["error message", { err: new Error(`connect to postgres://bob:${SECRET}@db failed`) }],
  ["error cause", { err: new Error("no", { cause: new Error(`postgres://bob:${SECRET}@db`) }) }],
  ["aggregate error", { err: new AggregateError([new Error(`password=${SECRET}`)], "all failed") }],
  [
    "error attachment",
    {
      config: { password: SECRET },
      err: Object.assign(new Error("no"), { headers: { authorization: SECRET } }),
    },
  ],
  ["nested object", { config: { upstreams: [{ auth: { apiKey: SECRET } }] } }],
  ["map", { headers: new Map([["X-Api-Key", SECRET]]) }],
  ["authorization field", { Authorization: `Bearer ${SECRET}` }],
  ["authorization header in a text", { request: `GET / authorization: Bearer ${SECRET}` }],
  ["bearer token alone", { header: `Bearer ${SECRET}` }],
  ["basic credentials", { header: `Basic ${Buffer.from(SECRET).toString("base64")}` }],
  ["JSON in a text", { body: JSON.stringify({ user: "bob", password: SECRET }) }],
  ["JSON in JSON in a text", { body: JSON.stringify({ inner: JSON.stringify({ token: `a ${SECRET}` }) }) }],
  ["environment in a text", { env: `PBFLAGS_TOKEN=${SECRET}` }],
  ["cookie", { request: { cookie: `session=${SECRET}` } }],
  ["private key", { key: `-----BEGIN PRIVATE KEY-----\n${SECRET}\n-----END PRIVATE KEY-----` }],
  ["JSON Web Token", { header: `eyJhbGciOiJI.eyJzdWIi.${SECRET}` }],
  ["object that turns itself into JSON", { config: { toJSON: () => ({ password: SECRET }) } }],
])("keeps a secret out of the log: %s", (_where, fields) => {
  for (const format of ["json", "pretty"] as const) {
    const { logger, lines } = openLogger({ format, level: "debug" });
    logger.error("planted", fields);
    const line = lines().join("");
    expect(line).not.toContain("S3CRET");
    expect(line).not.toContain(Buffer.from(SECRET).toString("base64"));
    expect(line).toContain("redacted");
  }
});

test("a stack trace holds no secret that its message held", () => {
  const { logger, lines } = openLogger({ format: "pretty", level: "debug" });
  const error = new Error("plain");
  error.stack = `Error: postgres://bob:${SECRET}@db\n    at run (https://bob:${SECRET}@host/a.js:1:2)`;
  logger.error("planted", { error });
  expect(lines().join("")).toContain("at run");
  expect(lines().join("")).not.toContain("S3CRET");
});

test("leaves alone what only resembles a secret", () => {
  const { logger, lines } = openLogger();
  const fields = {
    url: "postgres://bob@localhost:5432/flags",
    upstream: "http://127.0.0.1:9201/pbflags.v1.FlagEvaluatorService/Evaluate",
    file: "file:///work/node_modules/@scope/x.js:12:5",
    entity: "bob@example.com",
    flag_id: "checkout/1",
    text: "a basic idea; the bearer of news",
  };
  logger.info("shown", fields);
  expect(parsed(lines()[0])).toMatchObject(fields);
});

test("whatever is logged, the line is one line of JSON, bounded, and nothing is thrown", () => {
  fc.assert(
    fc.property(
      fc.anything({ withBigInt: true, withMap: true, withSet: true, withTypedArray: true }),
      (value) => {
        const { logger, lines } = openLogger();
        logger.info("anything", { value });
        expect(lines()).toHaveLength(1);
        expect(parsed(lines()[0])["event"]).toBe("anything");
      },
    ),
  );
});

test("circles, endless lists, long texts and throwing getters do no harm", () => {
  const { logger, lines } = openLogger();
  const circle: Record<string, unknown> = {};
  for (let i = 0; i < 50; i++) circle[`self${i}`] = circle;
  logger.info("circle", { circle });
  logger.info("list", { list: Array.from({ length: 1e5 }, () => ({ a: 1 })) });
  logger.info("text", { text: "a.".repeat(1e6) });
  logger.info("getter", {
    object: {
      get secretive(): string {
        throw new Error("not today");
      },
    },
  });
  logger.info("bytes", { bytes: new Uint8Array(1e6) });
  expect(lines()).toHaveLength(5);
  for (const line of lines()) expect(line.length).toBeLessThan(32 * 1024);
  expect(parsed(lines()[3])["object"]).toBe("[unreadable: not today]");
});

test("texts made to be slow to search are not", () => {
  const hostile = ["a.", "a://b:", "eyJaaaaaa-", "password", "-----BEGIN PRIVATE KEY-----", "token=\\"];
  const { logger, lines } = openLogger();
  const before = process.cpuUsage();
  for (const part of hostile) logger.info("hostile", { text: part.repeat(1e6 / part.length) });
  expect(lines()).toHaveLength(hostile.length);
  // In microseconds of processor time: it takes a few thousand; a pattern that tries every end for every start, minutes.
  expect(process.cpuUsage(before).user).toBeLessThan(5_000_000);
});

test("of a warning repeated 2,000 times a second, a few lines get through, and then how many did not", async () => {
  const clock = new FakeClock();
  const { logger, lines } = openLogger({ clock });
  for (let i = 0; i < 2_000; i++) logger.warn("store_call_failed", { attempt: i });
  expect(lines()).toHaveLength(5);

  logger.error("other_event");
  expect(lines()).toHaveLength(6);

  await clock.advance(10_000);
  logger.warn("store_call_failed");
  expect(parsed(lines().at(-1))).toMatchObject({ event: "store_call_failed", dropped: 1_995 });

  await clock.advance(10_000);
  logger.warn("store_call_failed");
  expect(parsed(lines().at(-1))).not.toHaveProperty("dropped");
});

test("information is never thinned out", () => {
  const { logger, lines } = openLogger();
  for (let i = 0; i < 100; i++) logger.info("flag_synced");
  expect(lines()).toHaveLength(100);
});

test("pretty is one line with the causes in it, and stacks only at level debug", () => {
  const err = new Error("Cannot poll kills", { cause: new TypeError("connection\nrefused") });
  const usual = openLogger({ format: "pretty" });
  usual.logger.warn("kill_poll_failed", { err, store: "db 1", tries: 3 });
  expect(usual.lines().join("\n")).toMatch(
    /^\d\d:\d\d:\d\d\.\d{3} warn {2}kill poll failed err=Error: Cannot poll kills \(because TypeError: connection refused\) store="db 1" tries=3$/,
  );

  const verbose = openLogger({ format: "pretty", level: "debug" });
  verbose.logger.warn("kill_poll_failed", { err });
  expect(verbose.lines().length).toBeGreaterThan(1);
  expect(verbose.lines()[1]).toMatch(/^ {4}at /);
});

test("pretty shows what an error without a message of its own is made of", () => {
  const err = new AggregateError([
    new Error("connect ECONNREFUSED ::1:9"),
    new Error("connect ECONNREFUSED 127.0.0.1:9"),
  ]);
  const { logger, lines } = openLogger({ format: "pretty" });
  logger.warn("store_call_failed", { err });
  expect(lines()[0]).toContain(
    "err=AggregateError (Error: connect ECONNREFUSED ::1:9; Error: connect ECONNREFUSED 127.0.0.1:9)",
  );
});

test("pretty passes nothing on that a terminal would obey", () => {
  const { logger, lines } = openLogger({ format: "pretty" });
  logger.warn("odd", {
    msg: "clear\u001b[2J",
    value: "\u001b]0;title\u0007",
    err: new Error("\u001b[31mred"),
  });
  expect(lines().join("")).not.toMatch(/(?!\n)\p{Cc}/u);
});

test("pretty uses colours only if told to", () => {
  const { logger, lines } = openLogger({ format: "pretty", color: true });
  logger.error("odd");
  expect(lines()[0]).toContain("\u001b[31merror\u001b[0m");
});

test("writes to a file descriptor before it returns", () => {
  const folder = mkdtempSync(join(tmpdir(), "pbflagd-log-"));
  const path = join(folder, "log");
  const fd = openSync(path, "w");
  const logger = createLogger({ level: "info", format: "json", destination: fd, clock: new FakeClock() });
  logger.info("written");
  expect(parsed(readFileSync(path, "utf8").trim())["event"]).toBe("written");
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

test.runIf(process.platform === "linux")("a full disk does no harm", () => {
  const fd = openSync("/dev/full", "w");
  const logger = createLogger({ level: "info", format: "json", destination: fd, clock: new FakeClock() });
  expect(() => {
    for (let i = 0; i < 100; i++) logger.info("lost");
  }).not.toThrow();
  closeSync(fd);
});

function openLogger(options: Partial<LoggerOptions> = {}): { logger: Logger; lines: () => string[] } {
  const written: string[] = [];
  const logger = createLogger({
    level: "info",
    format: "json",
    destination: { write: (line) => written.push(line) },
    clock: new FakeClock(),
    ...options,
  });
  return { logger, lines: () => written.join("").split("\n").slice(0, -1) };
}

function parsed(line = "{}"): Readonly<Record<string, unknown>> {
  const value: unknown = JSON.parse(line);
  return Object.fromEntries(Object.entries(value ?? {}));
}
