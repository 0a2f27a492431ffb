import { expect, test } from "vitest";
import { connectDatabase } from "../../src/store/database.ts";
import { migrate } from "../../src/store/migrate.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { openTestPostgres } from "../support/postgres.ts";
import { openScene, valueOf } from "./scene.ts";

test("a database restored from an older backup is taken up, kills and values, while the daemon serves", async () => {
  await using postgres = await openTestPostgres();
  const [live, administration] = [database(postgres.url, "live"), database(postgres.url, "postgres")];
  const administer = async (...statements: readonly string[]) => {
    await using connection = await connectDatabase({ url: administration });
    for (const statement of statements) await connection.query(statement);
  };
  await administer("CREATE DATABASE live");
  await using connection = await connectDatabase({ url: live });
  await migrate(connection);
  await connection[Symbol.asyncDispose]();

  // The scene's furniture is what the backup holds; what comes after it is lost with the restore.
  await using scene = await openScene({ url: live });
  await administer("CREATE DATABASE backup TEMPLATE live");
  await scene.operate(async (store) => {
    await store.setValue("shop/1", "after the backup");
    await store.setOverride("shop/2", "ann", "false");
    await store.kill("shop/5");
    await store.revive("shop/4");
  });

  await using daemon = await startDaemon({
    args: ["--database", live, "--descriptors", scene.descriptors, "--cache-kill-ttl", "100ms"],
  });
  await daemon.whenReady();
  const answers = async () => {
    const global = await daemon.bulkEvaluate(["shop/1", "shop/4", "shop/5"]);
    const override = await daemon.evaluate("shop/2", "ann");
    return [...global, override].map((answer) => `${answer.source.slice(18)} ${valueOf(answer)}`);
  };
  expect(await answers()).toEqual([
    'GLOBAL {"stringValue":"after the backup"}',
    'GLOBAL {"doubleValue":0.9}',
    'KILLED {"stringListValue":{"values":["s","m"]}}',
    'OVERRIDE {"boolValue":false}',
  ]);

  await administer("DROP DATABASE live WITH (FORCE)", "ALTER DATABASE backup RENAME TO live");
  const restored = [
    'GLOBAL {"stringValue":"weekly"}',
    'KILLED {"doubleValue":0.5}',
    'GLOBAL {"stringListValue":{"values":["l"]}}',
    'DEFAULT {"boolValue":true}',
  ];
  await eventually(async () => JSON.stringify(await answers()) === JSON.stringify(restored), {
    timeoutMs: 15_000,
    what: "the answers of the backup",
  });
  expect(daemon.log.map(({ event }) => event)).toContain("epoch_changed");
});

function database(url: string, name: string): string {
  return Object.assign(new URL(url), { pathname: `/${name}` }).href;
}
