import { createServer, type Socket } from "node:net";
import type { TestProject } from "vitest/node";
import { listen } from "./listen.ts";
import { openRunFolder, removeRunFolder } from "./run-folder.ts";
import { openSharedServer, type SharedServer } from "./shared-server.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Where to ask for the databases of this run. */
    readonly databasesPort: number;
    /** For whatever a test leaves on disk; removed at the end of the run. */
    readonly runFolder: string;
  }
}

/**
 * Runs once, before all tests, in a process of its own: answers whoever connects with a `SharedServer`, and
 * starts Postgres when the first one does. A run whose tests need no database has none.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await openRunFolder();
  let shared: ReturnType<typeof openSharedServer> | undefined;
  const desk = createServer((socket) => {
    shared ??= openSharedServer(folder);
    void answer(socket, shared);
  });
  project.provide("databasesPort", await listen(desk));
  project.provide("runFolder", folder);

  return async () => {
    desk.close();
    const server = await shared?.catch(() => undefined);
    await server?.[Symbol.asyncDispose]();
    await removeRunFolder(folder);
  };
}

async function answer(socket: Socket, shared: Promise<SharedServer>): Promise<void> {
  socket.on("error", () => {});
  try {
    const { url, template } = await shared;
    socket.end(JSON.stringify({ url, template }));
  } catch (error) {
    socket.end(
      JSON.stringify({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  }
}
