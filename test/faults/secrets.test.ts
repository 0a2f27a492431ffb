import { expect, test } from "vitest";
import { findFreePort } from "../../src/store/embedded/free-port.ts";
import { runCli } from "../cli/run-cli.ts";
import { openScene, serveArgs, through } from "../daemon/scene.ts";
import {
  administerCarelessly,
  CALLERS_ENCODED,
  CALLERS_MARK,
  callCarelessly,
} from "../support/careless-callers.ts";
import { openConfigFile } from "../support/config-file.ts";
import { failToStart, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { openHttpFront } from "../support/http-front.ts";
import { openOtlpCollector } from "../support/otlp-collector.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";

// Fault 20. What is told of upstreams that want to know who asks, upstreams/secure.test.ts.

/** Every secret of the operator holds it. */
const MARK = "Zq7w9operator";
const secret = (what: string) => `${what}${MARK}`;
const base64 = (text: string) => Buffer.from(text).toString("base64");

/** What is told nobody, of callers and of whoever wrote the configuration. */
const TELLTALES = [
  CALLERS_MARK,
  ...CALLERS_ENCODED,
  MARK,
  base64(`me:${secret("basic")}`),
  base64(`me:${secret("url")}`),
];

/** Some callers are slower than that, and wait for it; the others are not, be the machine as busy as it may. */
const TIMEOUTS = ["--limits-header-timeout", "3s", "--limits-request-timeout", "3s"];

/** Where a secret stands, and what with; by whom it was told. */
function leaks(told: Readonly<Record<string, string>>, others: readonly string[] = []): readonly string[] {
  return Object.entries(told).flatMap(([by, text]) =>
    [...TELLTALES, ...others].flatMap((telltale) => {
      const at = text.indexOf(telltale);
      return at < 0 ? [] : [`${by}: ${text.slice(Math.max(0, at - 80), at + telltale.length)}`];
    }),
  );
}

async function toldBy(daemon: TestDaemon): Promise<Readonly<Record<string, string>>> {
  const address = ["--address", `127.0.0.1:${daemon.port}`];
  const commands = [
    ["health", "--json", ...address],
    ["upstreams", ...address],
    ["upstreams", "--check", "--json", ...address],
  ];
  const outputs = await Promise.all(commands.map((argv) => runCli(argv)));
  return {
    metrics: await daemon.metrics(),
    readyz: JSON.stringify(await daemon.readiness()),
    commands: outputs.map(({ stdout, stderr }) => stdout + stderr).join("\n"),
  };
}

function logOf({ log }: Pick<TestDaemon, "log">): string {
  return log.map((line) => JSON.stringify(line)).join("\n");
}

function tracingTo(url: string): Readonly<Record<string, string>> {
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${secret("otlp")},x-tenant=${secret("tenant")}`,
    OTEL_BSP_SCHEDULE_DELAY: "100",
    OTEL_EXPORTER_OTLP_TIMEOUT: "1000",
  };
}

test.for([
  { format: "json", workers: 1, fault: "cut" },
  { format: "pretty", workers: 1, fault: "garble" },
  { format: "json", workers: 2, fault: "drop" },
] as const)(
  "whatever callers show, and whatever fails, no secret is told: $format, $workers workers, $fault",
  { timeout: 120_000 },
  async ({ format, workers, fault }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    const { port, password } = new URL(database.url);
    await using link = await openTcpProxy(Number(port));
    await using collector = await openOtlpCollector();
    const adminPort = await findFreePort(undefined);
    const output = ["--log-level", "debug", "--log-format", format, "--workers", String(workers)];
    const env = tracingTo(collector.url);

    await using root = await startDaemon({
      args: [
        ...serveArgs(through(link, database.url), scene),
        ...["--database-listen", through(link, database.url), "--cache-fetch-timeout", "500ms"],
        ...["--admin", `127.0.0.1:${adminPort}`, "--health-interval", "200ms", ...TIMEOUTS, ...output],
      ],
      env,
    });
    const url = root.url.slice("http://".length);
    const auths = {
      bearer: { url: `http://${url}`, auth: { method: "bearer", token: "${TOKEN}" } },
      key: { url: `grpc://${url}`, auth: { method: "api-key", key: secret("key") } },
      basic: { url: `http://${url}`, auth: { method: "basic", username: "me", password: secret("basic") } },
      custom: { url: `http://${url}`, auth: { method: "custom", headers: { "X-Pass": secret("custom") } } },
      url: { url: `grpc://me:${secret("url")}@${url}` },
    };
    await using file = await openConfigFile({
      descriptors: scene.descriptors,
      cache: { fetch_timeout: "500ms", kill_ttl: "1s", flag_ttl: "1s", override_ttl: "1s" },
      health: { interval: "200ms" },
      upstreams: { servers: Object.entries(auths).map(([name, server]) => ({ name, ...server })) },
    });
    const variables = { TOKEN: secret("token") };
    await using proxy = await startDaemon({
      args: ["--config", file.path, ...TIMEOUTS, ...output],
      env: { ...env, ...variables },
    });
    await root.whenReady();
    await proxy.whenReady();

    const told: Record<string, string> = {};
    const statuses = new Set<number>();
    const callAll = async (when: string) => {
      const answers = await Promise.all([
        callCarelessly(root.port),
        callCarelessly(proxy.port),
        administerCarelessly(adminPort),
      ]);
      for (const answer of answers) for (const status of answer.statuses) statuses.add(status);
      told[`answers ${when}`] = answers.flatMap(({ texts }) => texts).join("\n");
      for (const [name, daemon] of Object.entries({ root, proxy })) {
        for (const [what, text] of Object.entries(await toldBy(daemon)))
          told[`${what} of the ${name} ${when}`] = text;
      }
    };

    await callAll("when all is well");
    expect([...statuses]).toEqual(expect.arrayContaining([200, 400, 404, 405, 415, 429, 431]));
    link[fault]();
    await eventually(async () => (await root.readiness()).checks["database"]?.healthy === false);
    await callAll("while the database is away");
    link.restore();
    let newcomers = 0;
    await eventually(async () => {
      // It is not well before what has failed has worked again.
      await root.evaluate("shop/1", `newcomer-${newcomers++}`);
      return (await root.readiness()).checks["database"]?.healthy === true;
    });
    for (const argv of [
      ["config", "print"],
      ["config", "print", "--json"],
      ["config", "check"],
    ]) {
      for (const given of [
        ["--config", file.path],
        ["--database", through(link, database.url), "--descriptors", "x"],
      ]) {
        const { exitCode, stdout, stderr } = await runCli([...argv, ...given], { env: variables });
        expect(exitCode).toBe(0);
        told[[...argv, ...given].join(" ")] = stdout + stderr;
      }
    }
    await root.stop();
    await eventually(async () => (await proxy.readiness()).checks["upstream:bearer"]?.healthy === false);
    told["answers without the root"] = (await callCarelessly(proxy.port)).texts.join("\n");
    Object.assign(told, await toldBy(proxy));
    await proxy.stop();
    told["log of the root"] = logOf(root);
    told["log of the proxy"] = logOf(proxy);
    told["spans"] = JSON.stringify(collector.requests.map(({ body }) => body));

    // It would be there to be told.
    expect(collector.requests[0]?.headers).toMatchObject({
      authorization: `Bearer ${secret("otlp")}`,
      "x-tenant": secret("tenant"),
    });
    expect(collector.spans().map(({ name }) => name)).toEqual(
      expect.arrayContaining(["pbflags.v1.FlagEvaluatorService/Evaluate", "store overrides"]),
    );
    const words = ["evaluated", "store call failed", "changes are found by polling", "admin call failed"];
    expect(words.filter((word) => !told["log of the root"]?.includes(word))).toEqual([]);
    expect(leaks(told, [password])).toEqual([]);
  },
);

test.each([true, false])(
  "whatever callers show who go the fast way, no secret is told, traced: %s",
  async (isTraced) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using collector = await openOtlpCollector();
    await using daemon = await startDaemon({
      args: [...serveArgs(database.url, scene), ...TIMEOUTS, "--log-level", "debug", "--log-format", "json"],
      env: isTraced ? tracingTo(collector.url) : {},
    });
    await daemon.whenReady();
    const { texts } = await callCarelessly(daemon.port);
    const fast = Object.values(await daemon.metric("pbflags_rpc_fast_total"));
    expect(fast.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(5);
    const told: Record<string, string> = { answers: texts.join("\n"), ...(await toldBy(daemon)) };
    await daemon.stop();
    told["log"] = logOf(daemon);
    told["spans"] = JSON.stringify(collector.requests.map(({ body }) => body));
    expect(told["log"]).toContain("evaluated");
    expect(told["spans"].includes("FlagEvaluatorService/Evaluate")).toBe(isTraced);
    expect(leaks(told)).toEqual([]);
  },
);

test.for([
  { format: "json", workers: 1, way: "repeats what it was sent", problem: "Bad Request" },
  { format: "pretty", workers: 1, way: "is not there", problem: "ECONNREFUSED" },
  { format: "json", workers: 2, way: "is not there, over gRPC", problem: "14 UNAVAILABLE" },
] as const)(
  "neither a database that refuses us nor a collector that $way has a secret told: $format, $workers workers",
  async ({ format, workers, way, problem }) => {
    await using database = await createTestDatabase();
    await using scene = await openScene(database);
    await using parrot = await openHttpFront((asked, answer) => {
      asked.resume();
      answer.writeHead(400, { "content-type": "text/plain" }).end(JSON.stringify(asked.rawHeaders));
    });
    const wrong = Object.assign(new URL(database.url), { password: secret("wrong") }).href;
    const nobody = `http://me:${secret("url")}@127.0.0.1:1`;
    const { OTEL_EXPORTER_OTLP_PROTOCOL: protocol = "", ...env } = tracingTo(
      way === "repeats what it was sent" ? `http://127.0.0.1:${parrot.port}` : nobody,
    );
    await using daemon = await startDaemon({
      args: [
        ...serveArgs(wrong, scene),
        ...["--log-level", "debug", "--log-format", format, "--workers", String(workers)],
      ],
      env: { ...env, ...(way.endsWith("gRPC") ? {} : { OTEL_EXPORTER_OTLP_PROTOCOL: protocol }) },
    });
    const says = (words: string) => () => logOf(daemon).includes(words);
    await daemon.evaluate("shop/1", "ann");
    await eventually(says("password authentication failed"));
    await eventually(says(problem));
    const told = { ...(await toldBy(daemon)), log: logOf(daemon) };
    expect(leaks(told)).toEqual([]);
  },
);

const url = `postgres://me:${secret("database")}@db/flags`;
const upstream = (settings: string) =>
  `upstreams:\n  servers:\n    - url: http://root:9201\n      ${settings}\n`;

/** Configurations that cannot be used: what the file says, and what stands on the command line. */
const WRONG: Readonly<Record<string, { readonly file?: string; readonly args?: readonly string[] }>> = {
  "no URL": { file: `database: me:${secret("database")}@db/flags\n` },
  "another scheme": { file: `database: mysql://me:${secret("database")}@db/flags\n` },
  "a URL without its host": { args: ["--database", `postgres://me:${secret("database")}`] },
  "a port that is none": { args: ["--database", `postgres://me:${secret("database")}@db:port/flags`] },
  "a URL in the wrong place": { args: ["--listen", url] },
  "a URL for a path": { args: ["--config", url] },
  "a URL for a key": { file: `${url}: 1\n` },
  "a misspelt option": { args: [`--databse=${url}`] },
  "a misspelt key": { file: `databse: ${url}\n` },
  "set twice": { file: `database: ${url}\ndatabase: ${url}x\n` },
  "both modes": { file: `database: ${url}\nserver: http://me:${secret("server")}@root:9201\n` },
  "no YAML": { file: `database: "${url}\n` },
  "text behind the end": { file: `database: '${url}' ${secret("rest")}\n` },
  "a list for a URL": { file: `database: [${url}]\n` },
  "an upstream's URL": { args: ["--server", `https://me:${secret("server")}@root:port`] },
  "a token in a URL": { args: ["--server", `http://root:9201/?token=${secret("query")}`] },
  "a text for auth": { file: upstream(`auth: Bearer ${secret("token")}`) },
  "a header for a method": { file: upstream(`auth: {method: Bearer ${secret("token")}}`) },
  "a list for a token": { file: upstream(`auth: {method: bearer, token: [${secret("token")}]}`) },
  "a token with a line break": { file: upstream(`auth: {method: bearer, token: "${secret("token")}\\n"}`) },
  "no variable": { file: upstream(`auth: {method: api-key, key: "\${${secret("key")}"}`) },
  "a colon in a user": {
    file: upstream(`auth: {method: basic, username: "me:${secret("a")}", password: b}`),
  },
  "a header without a blank": {
    file: upstream(`auth: {method: custom, headers: {"X-Key:${secret("key")}": a}}`),
  },
};

test.for(Object.entries(WRONG))(
  "a configuration that cannot be used is told without the secrets in it: %s",
  async ([, { file: text = "{}", args = [] }]) => {
    await using file = await openConfigFile(text);
    const argv = args.includes("--config") ? args : ["--config", file.path, ...args];
    const outputs = await Promise.all([
      runCli(["config", "check", ...argv]),
      runCli(["config", "print", ...argv]),
      failToStart({ args: argv }),
    ]);
    const [check, print, serve] = outputs;
    expect([check.exitCode, serve.code]).toEqual([2, 2]);
    const told = { check: check.stderr, print: print.stdout + print.stderr, serve: logOf(serve) };
    expect(leaks(told)).toEqual([]);
  },
);
