import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { constants, createServer, type ServerHttp2Session } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { GetKilledFlagsResponseSchema } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { bundleScript, linkPackages } from "../support/bundle.ts";
import { eventually } from "../support/eventually.ts";
import { listen } from "../support/listen.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";

const MESSAGE = toBinary(
  GetKilledFlagsResponseSchema,
  create(GetKilledFlagsResponseSchema, { flagIds: ["a/1"] }),
);

test("no goodbye of an idle upstream ends the process, and the next call is answered", async () => {
  const folder = await mkdtemp(join(tmpdir(), "pbflagd-goaway-"));
  await linkPackages(folder);
  const script = await bundleScript(new URL("./goaway-client.ts", import.meta.url), folder);
  const sessions: ServerHttp2Session[] = [];
  const server = createServer()
    .on("session", (session) => void sessions.push(session.on("error", () => {})))
    .on("stream", (stream) => {
      stream.respond({ "content-type": "application/grpc+proto" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, MESSAGE.length]), MESSAGE]));
    });
  const port = await listen(server);
  {
    // It shows when the client has heard of the goodbye: only then its connection is gone.
    await using proxy = await openTcpProxy(port);
    const child = spawn(process.execPath, [script, `grpc://127.0.0.1:${proxy.port}`]);
    await using _ = { [Symbol.asyncDispose]: async () => void child.kill() };
    let stderr = "";
    child.stderr.on("data", (text: Buffer) => {
      stderr += text.toString();
    });
    const exited = once(child, "exit");
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const ask = async () => {
      child.stdin.write("\n");
      const answer = await Promise.race([answers.next(), exited.then(() => ({ value: stderr }))]);
      expect(answer.value).toBe("a/1");
    };

    await ask();
    const { NGHTTP2_NO_ERROR, NGHTTP2_PROTOCOL_ERROR, NGHTTP2_INTERNAL_ERROR, NGHTTP2_ENHANCE_YOUR_CALM } =
      constants;
    for (const code of [
      NGHTTP2_NO_ERROR,
      NGHTTP2_PROTOCOL_ERROR,
      NGHTTP2_INTERNAL_ERROR,
      NGHTTP2_ENHANCE_YOUR_CALM,
    ]) {
      sessions.at(-1)?.goaway(code);
      await eventually(() => proxy.connectionCount === 0 || child.exitCode !== null);
      await ask();
    }
    proxy.cut();
    proxy.restore();
    await ask();
    expect(sessions).toHaveLength(6);
    child.stdin.end();
    expect(await exited).toEqual([0, null]);
    expect(stderr).toBe("");
  }
  for (const session of sessions) session.destroy();
  server.close();
  await once(server, "close");
  await rm(folder, { recursive: true });
});
