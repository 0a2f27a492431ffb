#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants, Script } from "node:vm";

// Starts dist/bundle/pbflagd.cjs. An import would compile all of it; here V8 takes up what build/compile.mjs has compiled,
// if that was for this Node, and compiles the rest when it is called.

const url = new URL("bundle/pbflagd.cjs", import.meta.url);
const { cachedData, filename } = { cachedData: readCompiled(), filename: url.pathname };
export const script = new Script(readFileSync(url, "latin1"), {
  filename,
  ...(cachedData === undefined ? {} : { cachedData }),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
});
script.runInThisContext()(createRequire(url), url.href);

function readCompiled() {
  try {
    return readFileSync(new URL(`bundle/pbflagd-${process.version}-${process.arch}.bin`, import.meta.url));
  } catch {
    return undefined;
  }
}
