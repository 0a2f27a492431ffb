import { writeFile } from "node:fs/promises";
import type { Server } from "node:net";
import { join } from "node:path";
import { Opened } from "../../src/system/opened.ts";
import { listen } from "../../test/support/listen.ts";
import { type Answers, serveBareHttp1, serveBareHttp2 } from "../servers/bare.ts";
import { type ServerProcess, startNode } from "../servers/server-process.ts";
import { type StockAnswers, serveStockHttp1, serveStockHttp2 } from "../servers/stock.ts";

const SERVERS = {
  "bare-http1": serveBareHttp1,
  "bare-http2": serveBareHttp2,
  "stock-http1": serveStockHttp1,
  "stock-http2": serveStockHttp2,
} as const;

export type ReferenceName = keyof typeof SERVERS;

/** What the daemon is compared with, each a process of its own on the daemon's core. */
export interface ReferenceServers extends AsyncDisposable {
  readonly servers: Readonly<Record<ReferenceName, ServerProcess>>;
}

export async function openReferenceServers({
  bare,
  stock,
  folder,
}: {
  readonly bare: Answers;
  readonly stock: StockAnswers;
  readonly folder: string;
}): Promise<ReferenceServers> {
  const files = { bare: join(folder, "bare.json"), stock: join(folder, "stock.json") };
  await writeFile(files.bare, JSON.stringify(bare));
  await writeFile(files.stock, JSON.stringify(stock));
  const opened = new Opened();
  const open = async (name: ReferenceName, answers: string) =>
    opened.add(await startNode(process.argv[1] ?? "", "--reference", name, "--answers", answers));
  try {
    const servers = {
      "bare-http1": await open("bare-http1", files.bare),
      "bare-http2": await open("bare-http2", files.bare),
      "stock-http1": await open("stock-http1", files.stock),
      "stock-http2": await open("stock-http2", files.stock),
    };
    return { servers, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

/** What the process of such a server does until it is ended. */
export async function serveReference(name: string, answersPath: string): Promise<void> {
  const create = Object.entries(SERVERS).find(([known]) => known === name)?.[1];
  if (create === undefined) throw new Error(`Cannot serve: there is no reference "${name}"`);
  const server: Server = create(answersPath);
  const port = await listen(server);
  console.log(JSON.stringify({ event: "serving", address: { port } }));
}
