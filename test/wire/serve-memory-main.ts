import { serveMemory } from "./serve-memory.ts";

/** A process of its own, for tests that measure one. Takes limits as JSON, prints its port, ends with its stdin. */
async function main(): Promise<void> {
  const served = await serveMemory({ limits: JSON.parse(process.argv[2] ?? "{}") });
  console.log(JSON.stringify({ port: served.port }));
  process.stdin.resume();
  process.stdin.once("end", () => {
    for (const { error, where } of served.internalErrors) console.error(where, error);
    process.exit(0);
  });
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
