// Makes dist/bundle of src: one file with all packages that a start needs, because reading hundreds of them takes longer
// than everything else; the code as V8 has compiled it, for this Node; and the licences of what is in it.

import { execFile } from "node:child_process";
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import { late } from "./late.mjs";

const root = new URL("..", import.meta.url).pathname;
const folder = join(root, "dist/bundle");

const { metafile } = await build({
  entryPoints: [join(root, "src/main.ts")],
  outfile: join(folder, "pbflagd.cjs"),
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  // Loaded where tracing is configured; they patch what they find, and bring hundreds of files.
  external: ["@opentelemetry/sdk-node", "@opentelemetry/exporter-trace-otlp-grpc", "pg-native"],
  plugins: [late],
  define: {
    "import.meta.url": "bundleUrl",
    // By it pg tells Cloudflare's workers from Node. Otherwise it makes a Response, for which Node loads all of fetch.
    navigator: JSON.stringify({ userAgent: "Node.js" }),
  },
  // What `dist/main.js` calls.
  banner: { js: "(function (require, bundleUrl) {" },
  footer: { js: "})" },
  legalComments: "none",
  // What is read at each start is half as long. Names stay, and lines of a length that a stack trace can be found by.
  minifyWhitespace: true,
  lineLimit: 120,
  logLevel: "warning",
  metafile: true,
});
await writeFile(join(folder, "LICENSES.txt"), await licencesOf(Object.keys(metafile.inputs).filter((path) => !path.startsWith("late-file:"))));
await cp(join(root, "build/main.cjs"), join(root, "dist/main.js"));
// What is compiled for plugins are modules, as all of this package.
await writeFile(join(root, "dist/package.json"), JSON.stringify({ type: "commonjs" }));
await writeFile(join(root, "dist/gen/package.json"), JSON.stringify({ type: "module" }));
await promisify(execFile)("chmod", ["755", join(root, "dist/main.js")]);
await promisify(execFile)(process.execPath, [join(root, "build/compile.mjs")]);

/** All packages that these files belong to, each with its licence, and the text of it where the package has one. */
async function licencesOf(files) {
  // Packages under the Apache License come without its text.
  const own = await readFile(join(root, "LICENSE"), "utf8");
  const packages = new Set(files.flatMap((file) => /.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file) ?? []));
  const texts = await Promise.all([...packages].map((path) => licenceOf(join(root, path))));
  return [own, ...texts].join(`\n${"-".repeat(80)}\n\n`);
}

async function licenceOf(path) {
  const { name, version, license, author } = JSON.parse(await readFile(join(path, "package.json"), "utf8"));
  const names = (await readdir(path)).filter((file) => /^(licen[cs]e|notice)/i.test(file));
  const texts = await Promise.all(names.map((file) => readFile(join(path, file), "utf8")));
  const by = typeof author === "string" ? author : author?.name;
  const head = `${name} ${version}, ${license}${by === undefined ? "" : `, by ${by}`}`;
  return [head, ...texts.map((text) => text.trimEnd())].join("\n\n").concat("\n");
}
