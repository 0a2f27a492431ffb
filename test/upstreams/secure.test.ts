import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCli } from "../cli/run-cli.ts";
import { openScene, type Scene, SOON, serveArgs } from "../daemon/scene.ts";
import { openConfigFile } from "../support/config-file.ts";
import { failToStart, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import type { HttpFront } from "../support/http-front.ts";
import { listUpstreams } from "../support/list-upstreams.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { type Certificate, certificatePath, openTlsFront, type TlsFront } from "../support/tls-front.ts";
import { openTokenFront } from "../support/token-front.ts";

const SECRETS = {
  bearer: "right-bearer-token",
  key: "right-api-key",
  password: "right-password",
  header: "right-header-value",
  wrong: "wrong-secret-of-somebody",
  url: "password-in-a-url",
};
const basic = (password: string) => Buffer.from(`pbflagd:${password}`).toString("base64");
/** As they must not show either. */
const TELLTALES = [...Object.values(SECRETS), ...Object.values(SECRETS).map(basic), "PRIVATE KEY"];

let database: TestDatabase;
let scene: Scene;
let root: TestDaemon;
/** Before the root, by what they show. */
let tls: Readonly<Record<Certificate, TlsFront>>;
let mutual: TlsFront;
/** Before the root, by what they want to see. */
let guards: Readonly<Record<"bearer" | "key" | "basic" | "custom", HttpFront>>;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  root = await startDaemon({ args: serveArgs(database.url, scene) });
  await root.whenReady();
  const { port } = root;
  const front = (certificate: Certificate) => openTlsFront({ port, certificate });
  tls = {
    server: await front("server"),
    expired: await front("expired"),
    "other-name": await front("other-name"),
  };
  mutual = await openTlsFront({ port, certificate: "server", wantsClientCertificate: true });
  guards = {
    bearer: await openTokenFront({
      port,
      admits: ({ authorization }) => authorization === `Bearer ${SECRETS.bearer}`,
    }),
    key: await openTokenFront({ port, admits: (headers) => headers["x-api-key"] === SECRETS.key }),
    basic: await openTokenFront({
      port,
      admits: ({ authorization }) => authorization === `Basic ${basic(SECRETS.password)}`,
    }),
    custom: await openTokenFront({
      port,
      admits: (headers) => headers["x-team"] === "flags" && headers["x-pass"] === SECRETS.header,
    }),
  };
});

afterAll(async () => {
  for (const front of [...Object.values(guards), ...Object.values(tls), mutual])
    await front[Symbol.asyncDispose]();
  await root[Symbol.asyncDispose]();
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

type Server = Readonly<Record<string, unknown>>;

const trust = { tls: { ca_file: certificatePath("ca.pem") } };
const client = {
  auth: {
    method: "mtls",
    cert_file: certificatePath("client.pem"),
    key_file: certificatePath("client.key"),
  },
};
const stranger = {
  auth: {
    method: "mtls",
    cert_file: certificatePath("other-ca.pem"),
    key_file: certificatePath("other-ca.key"),
  },
};
const https = ({ port }: TlsFront, host = "127.0.0.1") => ({ url: `https://${host}:${port}` });
const grpcs = ({ port }: TlsFront, host = "127.0.0.1") => ({ url: `grpcs://${host}:${port}` });
const http = ({ port }: HttpFront) => ({ url: `http://127.0.0.1:${port}` });

/** Each of them is refused, or refuses us; and what is said of it. */
function unusable(): Readonly<Record<string, readonly [server: Server, reason: RegExp]>> {
  const bearer = (token: string) => ({ auth: { method: "bearer", token } });
  return {
    "not-trusted": [https(tls.server), /certificate is not from an authority that is trusted here/],
    "another-authority": [
      { ...https(tls.server), tls: { ca_file: certificatePath("other-ca.pem") } },
      /certificate is not from an authority that is trusted here/,
    ],
    "grpc-not-trusted": [grpcs(tls.server), /certificate is not from an authority that is trusted here/],
    expired: [{ ...https(tls.expired), ...trust }, /certificate has expired/],
    "grpc-expired": [{ ...grpcs(tls.expired), ...trust }, /certificate has expired/],
    "another-name": [
      { ...https(tls["other-name"]), ...trust },
      /certificate is for another name: .*127\.0\.0\.1/,
    ],
    "grpc-another-name": [
      { ...grpcs(tls["other-name"], "localhost"), ...trust },
      /certificate is for another name: .*elsewhere\.test/,
    ],
    "server-name": [
      { ...https(tls.server), tls: { ...trust.tls, server_name: "elsewhere.test" } },
      /certificate is for another name: .*elsewhere\.test/,
    ],
    "no-tls-there": [{ url: root.url.replace("http:", "https:"), ...trust }, /does not speak TLS/],
    "without-certificate": [{ ...https(mutual), ...trust }, /wants a client certificate/],
    "grpc-without-certificate": [{ ...grpcs(mutual), ...trust }, /wants a client certificate/],
    "wrong-certificate": [{ ...https(mutual), ...trust, ...stranger }, /refuse[sd] the client's certificate/],
    "without-token": [http(guards.bearer), /HTTP status 401/],
    "wrong-bearer": [{ ...http(guards.bearer), ...bearer(SECRETS.wrong) }, /HTTP status 401/],
    "wrong-key": [
      { ...http(guards.key), auth: { method: "api-key", key: SECRETS.wrong } },
      /HTTP status 401/,
    ],
    "wrong-password": [
      { ...http(guards.basic), auth: { method: "basic", username: "pbflagd", password: SECRETS.wrong } },
      /HTTP status 401/,
    ],
    "password-in-url": [
      { url: `http://pbflagd:${SECRETS.url}@127.0.0.1:${guards.basic.port}` },
      /HTTP status 401/,
    ],
    "wrong-header": [
      {
        ...http(guards.custom),
        auth: { method: "custom", headers: { "X-Team": "flags", "X-Pass": SECRETS.wrong } },
      },
      /HTTP status 401/,
    ],
    "variable-with-a-wrong-token": [
      { ...http(guards.bearer), ...bearer("${WRONG_TOKEN}") },
      /HTTP status 401/,
    ],
  };
}

function usable(): Readonly<Record<string, Server>> {
  return {
    https: { ...https(tls.server), ...trust },
    "https-by-name": { ...https(tls.server, "localhost"), ...trust },
    grpcs: { ...grpcs(tls.server), ...trust },
    "server-name": { ...https(tls["other-name"]), tls: { ...trust.tls, server_name: "elsewhere.test" } },
    mtls: { ...https(mutual), ...trust, ...client },
    "grpc-mtls": { ...grpcs(mutual), ...trust, ...client },
    bearer: { ...http(guards.bearer), auth: { method: "bearer", token: "${ROOT_TOKEN}" } },
    "api-key": { ...http(guards.key), auth: { method: "api-key", key: SECRETS.key } },
    basic: {
      ...http(guards.basic),
      auth: { method: "basic", username: "pbflagd", password: SECRETS.password },
    },
    "basic-in-url": { url: `http://pbflagd:${SECRETS.password}@127.0.0.1:${guards.basic.port}` },
    custom: {
      ...http(guards.custom),
      auth: { method: "custom", headers: { "X-Team": "flags", "X-Pass": "${PASS}" } },
    },
  };
}

const env = { ROOT_TOKEN: SECRETS.bearer, PASS: SECRETS.header, WRONG_TOKEN: SECRETS.wrong };

function proxyConfig(servers: Readonly<Record<string, Server>>, healthCheck = "1s") {
  return {
    descriptors: scene.descriptors,
    // Whatever can be said is said.
    log_level: "debug",
    health: { interval: "100ms" },
    // An upstream is given half of it before another one is asked.
    cache: { fetch_timeout: "1m" },
    upstreams: {
      health_check: { interval: healthCheck, timeout: healthCheck },
      defaults: { connection: { connect_timeout: healthCheck } },
      servers: Object.entries(servers).map(([name, server]) => ({ name, ...server })),
    },
  };
}

/** Everything that a proxy, and those who ask it, print. */
async function everythingTold(proxy: TestDaemon, path: string): Promise<string> {
  const address = ["--address", `127.0.0.1:${proxy.port}`];
  const commands = await Promise.all(
    [
      ["upstreams", ...address],
      ["upstreams", "--check", "--json", ...address],
      ["health", "--json", ...address],
      ["config", "print", "--config", path],
      ["config", "print", "--json", "--config", path],
    ].map((argv) => runCli(argv, { env })),
  );
  return [
    JSON.stringify(proxy.log),
    JSON.stringify(await proxy.readiness()),
    await (await fetch(`${proxy.url}/healthz`)).text(),
    await proxy.metrics(),
    ...commands.flatMap(({ stdout, stderr }) => [stdout, stderr]),
  ].join("\n");
}

function secretsIn(text: string): readonly string[] {
  return TELLTALES.filter((secret) => text.includes(secret));
}

test("whoever is not who he should be, or does not believe us, is named with the reason and without any secret", async () => {
  const cases = unusable();
  const names = Object.keys(cases);
  const servers = Object.fromEntries(names.map((name) => [name, cases[name]?.[0] ?? {}]));
  await using file = await openConfigFile(proxyConfig(servers));
  await using proxy = await startDaemon({ args: ["--config", file.path], env });
  await eventually(async () => {
    const { checks } = await proxy.readiness();
    const upstreams = Object.values(await listUpstreams(proxy));
    return (
      upstreams.every(({ state }) => state === "down") &&
      names.every((name) => checks[`upstream:${name}`]?.healthy === false)
    );
  });
  const unexplained = async () => {
    const { checks } = await proxy.readiness();
    const upstreams = await listUpstreams(proxy);
    return names.flatMap((name) => {
      const reason = cases[name]?.[1] ?? /^$/;
      const said = {
        readyz: checks[`upstream:${name}`]?.message,
        upstreams: upstreams[name]?.lastError,
      };
      return Object.entries(said).flatMap(([where, text]) =>
        reason.test(text ?? "") ? [] : [`${name} in ${where}: ${text}`],
      );
    });
  };
  // With a busy machine a check may time out before it meets the reason.
  await expect.poll(unexplained, SOON).toEqual([]);
  expect((await proxy.readiness()).status).toBe(503);
  expect(await proxy.evaluate("shop/1", "ann")).toMatchObject({ source: "EVALUATION_SOURCE_DEFAULT" });
  expect(secretsIn(await everythingTold(proxy, file.path))).toEqual([]);
});

test("the log names the upstream and the reason", async () => {
  const cases = unusable();
  for (const name of ["expired", "wrong-bearer"]) {
    const [server = {}, reason = /^$/] = cases[name] ?? [];
    await using file = await openConfigFile(proxyConfig({ [name]: server }, "20s"));
    await using proxy = await startDaemon({ args: ["--config", file.path], env });
    await eventually(() => proxy.log.some(({ event }) => event === "upstream_down"));
    expect(proxy.log.filter(({ event }) => event === "upstream_down")).toEqual([
      expect.objectContaining({ level: "warn", upstream: name, reason: expect.stringMatching(reason) }),
    ]);
    expect(secretsIn(JSON.stringify(proxy.log))).toEqual([]);
  }
});

test("whoever can be trusted, and trusts us, is up, whatever the way; no secret is told", async () => {
  const servers = usable();
  await using file = await openConfigFile(proxyConfig(servers, "20s"));
  await using proxy = await startDaemon({ args: ["--config", file.path], env });
  await proxy.whenReady();
  const all = async () => Object.entries(await listUpstreams(proxy));
  await eventually(async () => (await all()).every(([, { status }]) => status === "serving"));
  for (const [name, upstream] of await all()) {
    expect(upstream).toMatchObject({ name, state: "up", kind: "pbflagd", lastError: null });
  }
  // Round robin: each is asked.
  const seconds = "pbflags_upstream_request_duration_seconds_count";
  let strangers = 0;
  await eventually(async () => {
    await proxy.evaluate("shop/1", `stranger-${strangers++}`);
    const asked = Object.keys(await proxy.metric(seconds)).join();
    return Object.keys(servers).every((name) => asked.includes(`upstream="${name}"`));
  });
  const failures = await proxy.metric("pbflags_upstream_failures_total");
  expect(Object.entries(failures).filter(([, count]) => count > 0)).toEqual([]);
  expect(await proxy.evaluate("shop/1", "ann")).toMatchObject({ value: { stringValue: "never" } });
  const told = await everythingTold(proxy, file.path);
  expect(secretsIn(told)).toEqual([]);
  // Where a secret came from a variable, its name may be told.
  expect(told).toContain("${ROOT_TOKEN}");
});

test("a variable that is not set ends the start with exit code 2, and names the setting", async () => {
  const servers = {
    a: { ...http(guards.bearer), auth: { method: "bearer", token: "${NOT_SET_ANYWHERE}" } },
    b: {
      ...http(guards.basic),
      auth: { method: "basic", username: "pbflagd", password: SECRETS.password },
    },
  };
  await using file = await openConfigFile(proxyConfig(servers));
  const { code, log } = await failToStart({ args: ["--config", file.path], env });
  expect(code).toBe(2);
  const told = JSON.stringify(log);
  expect(told).toContain("upstreams.servers[0].auth.token");
  expect(told).toContain("NOT_SET_ANYWHERE");
  expect(secretsIn(told)).toEqual([]);
});

test("`pbflagd upstreams` as a program says the same", async () => {
  const [server = {}] = unusable()["wrong-bearer"] ?? [];
  await using file = await openConfigFile(proxyConfig({ guarded: server }));
  await using proxy = await startDaemon({ args: ["--config", file.path], env });
  const main = new URL("../../dist/main.js", import.meta.url).pathname;
  const argv = [main, "upstreams", "--check", "--address", `127.0.0.1:${proxy.port}`];
  const { stdout } = await promisify(execFile)(process.execPath, argv);
  expect(stdout).toMatch(/^guarded .*401/m);
  expect(secretsIn(stdout)).toEqual([]);
});
