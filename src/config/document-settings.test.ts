import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { parseConfigFile } from "./config-file.ts";
import { documentSettings } from "./document-settings.ts";
import { exampleFile } from "./example-file.ts";
import { parseConfig } from "./parse-config.ts";
import { fallbackOf, keysOf, settingEntries, toVariable } from "./settings.ts";

// To write these files anew after a change of the settings: npx vitest run src/config/document-settings.test.ts -u
test("docs/configuration.md is what the table of settings says", async () => {
  await expect(documentSettings()).toMatchFileSnapshot("../../docs/configuration.md");
});

test("docs/configuration.md names every key and every variable", () => {
  const names = settingEntries.flatMap(([key]) => keysOf(key).flatMap((name) => [name, toVariable(name)]));
  const documentation = documentSettings();
  expect(names.filter((name) => !documentation.includes(`\`${name}\``))).toEqual([]);
});

test.each(["root", "proxy"] as const)("config/%s.yaml is what the table of settings says", async (mode) => {
  await expect(exampleFile(mode)).toMatchFileSnapshot(`../../config/${mode}.yaml`);
});

test.each(["root", "proxy"] as const)(
  "config/%s.yaml mentions every setting, and serves as it is",
  async (mode) => {
    const yaml = await readFile(new URL(`../../config/${mode}.yaml`, import.meta.url), "utf8");
    const missing = settingEntries
      .map(([key]) => key)
      .filter((key) => !new RegExp(`\\b${key.split(".").at(-1)}\\b`).test(yaml));
    expect(missing).toEqual([]);
    const file = parseConfigFile(`${mode}.yaml`, yaml);
    const { config } = parseConfig({ args: {}, env: { DATABASE_PASSWORD: "secret" }, file }, "serve");
    expect(config.database === undefined).toBe(mode === "proxy");
  },
);

test.each(["root", "proxy"] as const)(
  "what config/%s.yaml comments out can be taken in, and is the default",
  (mode) => {
    const names = settingEntries.map(([key]) => key.split(".").at(-1)).join("|");
    const yaml = exampleFile(mode).replaceAll(new RegExp(`^( *)# ((?:${names}): \\S+)$`, "gm"), "$1$2");
    const file = parseConfigFile("all.yaml", yaml);
    const ofThisMode = settingEntries.filter(
      ([, setting]) => setting.mode === undefined || setting.mode === mode,
    );
    expect(file.problems).toEqual([]);
    expect([...file.entries.keys()].toSorted()).toEqual(ofThisMode.map(([key]) => key).toSorted());

    const { settings } = parseConfig({ args: {}, env: { DATABASE_PASSWORD: "secret" }, file }, "serve");
    const examples = [
      "descriptors",
      "database",
      "database_listen",
      "server",
      "listen",
      "env_name",
      "env_color",
    ];
    const inForce = new Map(settings.map(({ key, text }) => [key, text]));
    for (const [key, setting] of ofThisMode.filter(([name]) => !examples.includes(name))) {
      expect(`${key}: ${inForce.get(key)}`).toBe(
        `${key}: ${fallbackOf(setting, { dev: false, terminal: false })}`,
      );
    }
  },
);
