// A plugin for esbuild: what a start can do without is loaded when something of it is first used.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** Modules of Node: some packages ask for them at once that never use them, or only later. */
const OF_NODE =
  /^(?:node:)?(assert|child_process|cluster|crypto|dns|fs\/promises|http|http2|https|tls|worker_threads|zlib)$/;

/** Messages and services: setting up the first takes as long as parsing a thousand flags. And what needs `zlib`. */
const OF_FILES = /_pb\.[jt]s$|\/connect-node\/.*\/compression\.js$/;

/** Packages that are asked for and never used: pino's threads for transports, and what pushes Prometheus' metrics. */
const UNUSED = /^thread-stream$|^\.\/lib\/pushgateway$/;

const PG_CRYPTO = /\/node_modules\/pg\/lib\/crypto\/utils$/;

/** What is known of a module without loading it, as JavaScript by name. */
const KNOWN = {
  worker_threads: { isMainThread: "true" },
  // With these alone, which `fs` has as well, a start does without the others, for which Node loads `readline`.
  "fs/promises": {
    constants: 'require("node:fs").constants',
    ...Object.fromEntries(
      ["access", "lstat", "readdir", "readFile", "readlink", "stat"].map((name) => [
        name,
        `require("node:util").promisify(require("node:fs").${name})`,
      ]),
    ),
  },
};

export const late = {
  name: "late",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: OF_NODE }, ({ path, namespace }) => {
      if (namespace === "late") return { path, external: true };
      return { path: path.replace(/^node:/, ""), namespace: "late" };
    });
    onLoad({ filter: /./, namespace: "late" }, async ({ path }) => {
      const { default: _, ...names } = await import(`node:${path}`);
      return { contents: lateModule(`node:${path}`, Object.keys(names), KNOWN[path]) };
    });

    onResolve({ filter: /\.[jt]s$/ }, ({ path, resolveDir, namespace }) => {
      if (namespace === "late-file") return { path };
      const file = join(resolveDir, path);
      return OF_FILES.test(file) ? { path: file, namespace: "late-file" } : undefined;
    });
    onLoad({ filter: /./, namespace: "late-file" }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      const names = Array.from(source.matchAll(/^export (?:const|var) (\w+)/gm), ([, name]) => name);
      // What stands in tables all over the source, and is nothing to be set up.
      const enums = Array.from(source.matchAll(/^export (enum (\w+) \{.*?^\})/gms), ([, text, name]) => [
        name,
        `void 0; ${text} exports.${name} = ${name}`,
      ]);
      return { contents: lateModule(path, names, Object.fromEntries(enums)), loader: "ts" };
    });

    onResolve({ filter: UNUSED }, ({ path }) => ({ path, namespace: "unused" }));
    onLoad({ filter: /./, namespace: "unused" }, () => ({ contents: "" }));
    onResolve({ filter: /\/utils$/ }, ({ path, importer }) =>
      PG_CRYPTO.test(join(importer, "..", path)) ? { path: join(import.meta.dirname, "pg-crypto.cjs") } : undefined,
    );
  },
};

/** One with the same names as `module`, which it loads for the first of them that is read. Then they are what they were. */
function lateModule(module, names, known = {}) {
  const late = names.filter((name) => !Object.hasOwn(known, name));
  const early = Object.entries(known).map(([name, value]) => `exports.${name} = ${value};`);
  return `${early.join("\n")}
for (const name of ${JSON.stringify(late)}) {
  const get = () => {
    const value = require(${JSON.stringify(module)})[name];
    Object.defineProperty(exports, name, { enumerable: true, value });
    return value;
  };
  Object.defineProperty(exports, name, { enumerable: true, configurable: true, get });
}`;
}
