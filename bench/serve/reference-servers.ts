import { writeFile } from "node:fs/promises";
import type { Server } from "node:net";
import { join } from "node:path";
import { Opened } from "../../src/system/opened.ts";
import { listen } from "../../test/support/listen.ts";
import { askOnce } from "../load/ask-once.ts";
import type { Load } from "../load/load.ts";
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

type AnswersOf<N extends ReferenceName> = N extends `bare-${string}` ? Answers : StockAnswers;

/** Starts one of those that the daemon is compared with, on the daemon's core. */
export async function startReference<N extends ReferenceName>(
  name: N,
  answers: AnswersOf<N>,
  { folder }: { readonly folder: string },
): Promise<ServerProcess> {
  const path = join(folder, `${name}.json`);
  await writeFile(path, JSON.stringify(answers));
  return startNode(process.argv[1] ?? "", "--reference", name, "--answers", path);
}

/** Starts a bare server that writes, over HTTP/1.1, what the daemon on `port` answers to the first body of a load. */
export async function startBareLike(
  port: number,
  load: Load,
  { folder }: { readonly folder: string },
): Promise<ServerProcess> {
  const answer = await askOnce(port, load, load.bodies[0] ?? new Uint8Array());
  const written = { contentType: "application/proto", base64: Buffer.from(answer).toString("base64") };
  return startReference("bare-http1", { [load.path]: written }, { folder });
}

/** All of them. */
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
  const opened = new Opened();
  try {
    const servers = {
      "bare-http1": opened.add(await startReference("bare-http1", bare, { folder })),
      "bare-http2": opened.add(await startReference("bare-http2", bare, { folder })),
      "stock-http1": opened.add(await startReference("stock-http1", stock, { folder })),
      "stock-http2": opened.add(await startReference("stock-http2", stock, { folder })),
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
