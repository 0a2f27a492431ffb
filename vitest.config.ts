import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

const report = process.env["VITEST_JSON"];
const globalSetup = "test/support/global-setup.ts";
/** Most tests of whole daemons wait for something most of the time. At full size they want the machine for themselves. */
const besideEachOther = process.env["PBFLAGD_FULL"] === "1" ? {} : { maxWorkers: 1 + availableParallelism() };

const common = {
  testTimeout: 60_000,
  hookTimeout: 120_000,
  pool: "forks",
  tags: [
    { name: "judged", description: "Measures what has a mark; `npm run bench:pauses` judges it by that." },
  ],
  ...(existsSync(globalSetup) ? { globalSetup } : {}),
};

export default defineConfig({
  test: {
    ...besideEachOther,
    projects: [
      {
        test: {
          ...common,
          name: "main",
          include: ["src/**/*.test.ts", "test/**/*.test.ts"],
          exclude: ["test/readme/**"],
        },
      },
      {
        // Runs alone: it takes the ports that a newcomer's first start takes.
        test: { ...common, name: "readme", include: ["test/readme/**/*.test.ts"] },
      },
    ],
    // Verbose names what is skipped, and why.
    reporters: report === undefined ? ["default"] : ["verbose", "json"],
    ...(report === undefined ? {} : { outputFile: { json: report } }),
  },
});
