// Runs dist/bundle as dist/main.js does, and leaves beside it what V8 has compiled of it when the process ends.

import { writeFileSync } from "node:fs";
import { script } from "../dist/main.js";

const compiled = `../dist/bundle/pbflagd-${process.version}-${process.arch}.bin`;
process.on("exit", () => writeFileSync(new URL(compiled, import.meta.url), script.createCachedData()));
