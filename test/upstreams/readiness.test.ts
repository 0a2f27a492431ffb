import { expect, test } from "vitest";
import { openScene, SOON, serveArgs } from "../daemon/scene.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { proxyArgs, startAt } from "../support/proxies.ts";

/** The sweeps over what a daemon depends on are half a minute apart. */
const SELDOM = ["--health-interval", "30s"];

async function heard(daemon: TestDaemon, event: string, count: number): Promise<void> {
  await eventually(() => daemon.log.filter((line) => line.event === event).length >= count, {
    timeoutMs: 20_000,
    what: `${event} is logged`,
  });
}

async function checkOf(daemon: TestDaemon, name: string) {
  return (await daemon.readiness()).checks[name];
}

test("/readyz says of the state and the feed how they are now, and not how they were at the last sweep", async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene({ url: database.url });
  let root = await startDaemon({ args: [...serveArgs(database.url, scene), ...SELDOM] });
  try {
    await root.whenReady();
    await heard(root, "feed_connected", 1);
    expect((await root.readiness()).checks).toMatchObject({
      state: { healthy: true },
      feed: { healthy: true, message: "changes are told at once" },
    });
    await expect.poll(() => checkOf(root, "database"), SOON).toMatchObject({ healthy: true });

    await using proxy = await startDaemon({ args: [...proxyArgs(root.url, scene), ...SELDOM] });
    await proxy.whenReady();
    await heard(proxy, "feed_connected", 1);
    expect(await checkOf(proxy, "feed")).toMatchObject({
      healthy: true,
      message: "changes are told at once",
    });
    expect(await checkOf(proxy, "state")).toMatchObject({ healthy: true });

    const { port } = root;
    await root.stop();
    await heard(proxy, "feed_broken", 1);
    expect(await checkOf(proxy, "feed")).toMatchObject({
      healthy: false,
      message: expect.stringContaining("changes are found by polling"),
    });
    await expect
      .poll(() => checkOf(proxy, "state"), { ...SOON, timeout: 20_000 })
      .toMatchObject({ healthy: false, message: expect.stringContaining("answers come from memory") });

    root = await startAt(port, serveArgs(database.url, scene));
    await heard(proxy, "feed_connected", 2);
    expect(await checkOf(proxy, "feed")).toMatchObject({ healthy: true });
    await expect
      .poll(() => checkOf(proxy, "state"), { ...SOON, timeout: 20_000 })
      .toMatchObject({ healthy: true });
  } finally {
    await root[Symbol.asyncDispose]();
  }
}, 90_000);
