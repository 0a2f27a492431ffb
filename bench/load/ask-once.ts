import { once } from "node:events";
import { connect, type IncomingHttpHeaders } from "node:http2";
import type { Load } from "./load.ts";

/** The answer to a load's body, by the same bytes. Rejects unless it is a success. */
export async function askOnce(port: number, load: Load, body: Uint8Array): Promise<Uint8Array> {
  return load.with === "wrk" ? askOverHttp1(port, load, body) : askOverHttp2(port, load, body);
}

async function askOverHttp1(port: number, { path, headers }: Load, body: Uint8Array): Promise<Uint8Array> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method: "POST", headers, body });
  const answer = new Uint8Array(await response.arrayBuffer());
  if (response.status !== 200)
    throw new Error(`Cannot measure: ${path} answered ${response.status} ${Buffer.from(answer).toString()}`);
  return answer;
}

async function askOverHttp2(port: number, { path, headers }: Load, body: Uint8Array): Promise<Uint8Array> {
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({ ":method": "POST", ":path": path, ...headers });
    const chunks: Buffer[] = [];
    let head: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (received) => {
      head = received;
    });
    stream.on("trailers", (received) => {
      trailers = received;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.end(body);
    await once(stream, "close");
    const code = trailers["grpc-status"] ?? head["grpc-status"];
    if (code !== "0") throw new Error(`Cannot measure: ${path} answered gRPC code ${String(code)}`);
    return Buffer.concat(chunks);
  } finally {
    session.close();
  }
}
