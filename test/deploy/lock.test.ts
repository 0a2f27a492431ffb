import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";

interface Locked {
  readonly version?: string;
  readonly optional?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

type Manifest = Pick<Locked, "dependencies" | "optionalDependencies"> & {
  readonly devDependencies: Readonly<Record<string, string>>;
};

const root = new URL("../../", import.meta.url);
const { packages } = JSON.parse(await readFile(new URL("package-lock.json", root), "utf8")) as {
  readonly packages: Readonly<Record<string, Locked>>;
};
const manifest = JSON.parse(await readFile(new URL("package.json", root), "utf8")) as Manifest;

test("the lock names the packages for every machine: npm ci refuses one that does not", () => {
  const missing = Object.values(packages)
    .flatMap(({ optionalDependencies = {} }) => Object.entries(optionalDependencies))
    .filter(([name]) => packages[`node_modules/${name}`] === undefined)
    .map(([name, version]) => `node_modules/${name}: add it by hand, with version ${version}, os and cpu`);
  expect(missing).toEqual([]);
});

test("packages for other machines are marked as such, so that npm ci does not ask for them", () => {
  const builds = Object.values(packages)
    .flatMap(({ optionalDependencies = {} }) => Object.entries(optionalDependencies))
    // By their names these are builds of one program for each machine.
    .filter(([name]) => /(darwin|linux|win(32|dows))-/.test(name));
  expect(builds.length).toBeGreaterThan(50);
  for (const [name, version] of builds) {
    expect(packages[`node_modules/${name}`], name).toMatchObject({
      version,
      optional: true,
      os: [expect.any(String)],
      cpu: [expect.any(String)],
    });
  }
});

test("the lock is of these dependencies", () => {
  expect(packages[""]).toMatchObject({
    dependencies: manifest.dependencies,
    devDependencies: manifest.devDependencies,
    optionalDependencies: manifest.optionalDependencies,
  });
});

test("what is ours to choose is chosen exactly", () => {
  const { dependencies = {}, devDependencies, optionalDependencies = {} } = manifest;
  for (const [name, version] of Object.entries({
    ...dependencies,
    ...devDependencies,
    ...optionalDependencies,
  })) {
    expect(version, name).toMatch(/^\d+\.\d+\.\d+(-[\w.]+)?$/);
  }
});
