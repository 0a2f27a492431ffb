import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { finalStage, lastOf, loadDockerfile, parseDockerfile, type Stage } from "./dockerfile.ts";

const root = new URL("../..", import.meta.url);
const stages = await loadDockerfile();
const image = finalStage(stages);
const ignored = readFileSync(new URL(".dockerignore", root), "utf8").split("\n");

test("what is copied from the repository exists, and .dockerignore lets it through", () => {
  const sources = stages.flatMap(copiesOf).flatMap(({ words }) => words.slice(0, -1));
  expect(sources).toContain("migrations");
  for (const source of sources) {
    expect(existsSync(new URL(source, root)), source).toBe(true);
    expect(ignored, source).toContain(`!${source}`);
  }
});

test(".dockerignore keeps everything else out", () => {
  expect(ignored).toContain("*");
  const sources = new Set(stages.flatMap(copiesOf).flatMap(({ words }) => words.slice(0, -1)));
  const through = ignored.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
  expect(through.filter((path) => !sources.has(path))).toEqual([]);
});

test("what is copied from another stage is made there", () => {
  for (const { options, words } of image.instructions.filter(
    ({ options }) => options["from"] !== undefined,
  )) {
    const maker = stages.find(({ name }) => name === options["from"]);
    expect(maker, options["from"]).toBeDefined();
    const made = words[0] === "/app/dist" ? "npm run build" : "npm ci";
    expect(commandsOf(maker).join("\n"), words[0]).toContain(made);
  }
});

test("the image has what production needs, and no more", () => {
  const packages = image.instructions.find(({ words }) => words[0] === "/app/node_modules");
  const maker = stages.find(({ name }) => name === packages?.options["from"]);
  expect(commandsOf(maker)).toEqual(["npm ci --omit=dev --omit=optional --ignore-scripts"]);
});

test("the compiler is not left out: it is an optional package of TypeScript's", () => {
  const maker = stages.find((stage) =>
    commandsOf(stage).some((command) => command.includes("npm run build")),
  );
  expect(commandsOf(maker).find((command) => command.startsWith("npm ci"))).not.toMatch(/optional|dev/);
});

test("install scripts do not run: the image is made of what the lock says", () => {
  const installs = stages.flatMap(commandsOf).filter((command) => /\bnpm (ci|install|i)\b/.test(command));
  expect(installs.length).toBeGreaterThan(0);
  for (const command of installs) expect(command).toMatch(/^npm ci .*--ignore-scripts/);
});

test("it runs pbflagd, as nobody in particular, and asks it whether it is ready", () => {
  const [uid, gid] = lastOf(image, "USER").text.split(":").map(Number);
  expect(uid).toBeGreaterThan(0);
  expect(gid).toBeGreaterThan(0);
  expect(lastOf(image, "ENTRYPOINT").words).toEqual(["pbflagd"]);
  expect(lastOf(image, "CMD").words).toEqual(["serve"]);
  expect(lastOf(image, "HEALTHCHECK").words).toEqual(["pbflagd", "health"]);
});

test("its Node is one that package.json allows", () => {
  const [, version] =
    /^ARG NODE_VERSION=(\d+)$/m.exec(readFileSync(new URL("Dockerfile", root), "utf8")) ?? [];
  const { engines } = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as {
    engines: { node: string };
  };
  expect(Number(version)).toBeGreaterThanOrEqual(Number(/\d+/.exec(engines.node)?.[0]));
});

test("instructions are read as Docker reads them", () => {
  const [first, second] = parseDockerfile(
    'FROM a AS one\n# remark\nRUN x && \\\n    y\nFROM b\nCOPY --from=one --chmod=644 /x ./\nCMD ["p", "q r"]\n',
  );
  expect(first?.name).toBe("one");
  expect(commandsOf(first)).toEqual(["x &&      y"]);
  expect(second?.instructions[1]).toMatchObject({
    options: { from: "one", chmod: "644" },
    words: ["/x", "./"],
  });
  expect(second?.instructions[2]?.words).toEqual(["p", "q r"]);
});

function copiesOf(stage: Stage) {
  return stage.instructions.filter(({ name, options }) => name === "COPY" && options["from"] === undefined);
}

function commandsOf(stage: Stage | undefined): readonly string[] {
  return stage?.instructions.filter(({ name }) => name === "RUN").map(({ text }) => text) ?? [];
}
