#!/usr/bin/env node
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { join } = require("node:path");
const { pathToFileURL } = require("node:url");
const { constants, Script } = require("node:vm");

// Starts dist/bundle/pbflagd.cjs. Required or imported, all of it would be compiled; here V8 takes up what build/compile.mjs
// has compiled, if that was for this Node, and compiles the rest when it is called. It is CommonJS because Node starts
// that sooner than a module.

const filename = join(__dirname, "bundle/pbflagd.cjs");
// Nothing here keeps what was read in memory.
const script = new Script(readFileSync(filename, "latin1"), {
  filename,
  ...readCompiled(),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
});
exports.script = script;
script.runInThisContext()(createRequire(filename), pathToFileURL(filename).href);

function readCompiled() {
  try {
    return {
      cachedData: readFileSync(join(__dirname, `bundle/pbflagd-${process.version}-${process.arch}.bin`)),
    };
  } catch {
    return {};
  }
}
