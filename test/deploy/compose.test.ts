import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { hasProgram, runInShell, skipUnless } from "../readme/shell.ts";
import { loadCompose, type Service } from "./compose.ts";

const { services, volumes } = await loadCompose();
const root = new URL("../..", import.meta.url).pathname;

test("each service waits for one that exists, and for something that it will tell", () => {
  const waits = Object.entries(services).flatMap(([name, { depends_on = {} }]) =>
    Object.entries(depends_on).map(([other, { condition }]) => ({ name, other, condition })),
  );
  expect(waits.length).toBe(4);
  const wrong = waits.filter(({ other, condition }) => !willTell(services[other], condition));
  expect(wrong).toEqual([]);
});

function willTell(service: Service | undefined, condition: string): boolean {
  const [command = ""] = service?.command ?? [];
  if (condition === "service_completed_successfully") return ["migrate", "sync"].includes(command);
  // Our own image brings its health check along.
  return (
    condition === "service_healthy" && (service?.healthcheck !== undefined || service?.build !== undefined)
  );
}

test("the order is Postgres, schema, flags, root, proxy", () => {
  const waitsFor = (name: string) => Object.keys(services[name]?.depends_on ?? {});
  expect(["proxy", "root", "sync", "migrate", "postgres"].map(waitsFor)).toEqual([
    ["root"],
    ["sync"],
    ["migrate"],
    ["postgres"],
    [],
  ]);
});

test("named volumes are declared", () => {
  const used = Object.values(services)
    .flatMap((service) => service.volumes ?? [])
    .map((volume) => (typeof volume === "string" ? volume.split(":")[0] : volume.source))
    .filter((source) => source !== undefined && !source.startsWith("."));
  expect([...new Set(used)]).toEqual(Object.keys(volumes));
});

test("nothing is published beyond this machine", () => {
  const published = Object.values(services).flatMap(({ ports = [] }) => ports);
  expect(published).toEqual(["127.0.0.1:9201:9201"]);
});

test("what is built from here can be", () => {
  const contexts = Object.values(services).flatMap(({ build }) => build ?? []);
  expect([...new Set(contexts)]).toEqual(["."]);
  expect(existsSync(`${root}/Dockerfile`)).toBe(true);
});

test("docker compose accepts the file", async (context) => {
  const where = { folder: root, env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" } };
  const hasCompose =
    (await hasProgram("docker")) && (await runInShell("docker compose version", where)).code === 0;
  skipUnless(hasCompose, "docker compose", context);
  expect(await runInShell("docker compose config --quiet", where)).toMatchObject({ code: 0 });
});
