import { expect, ONE_FLAG } from "../scene.ts";
import type { Load } from "./load.ts";
import type { PacedRequest } from "./pace.ts";
import type { Question } from "./questions.ts";

/** A load of single flags, as whole requests that tell what the scene expects of their answers. */
export function toPacedRequests(load: Load, { entityIds }: Question): readonly PacedRequest[] {
  return load.bodies.map((body, i) => ({
    text: toText(load, body),
    expects: expect(ONE_FLAG, entityIds[i] ?? "").value,
  }));
}

/** For a server that has one answer to everything. */
export function expectAnything({ text }: PacedRequest): PacedRequest {
  return { text, expects: "" };
}

function toText({ path, headers }: Load, body: Uint8Array): string {
  const fields = { Host: "127.0.0.1", ...headers, "Content-Length": String(body.length) };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST ${path} HTTP/1.1\r\n${lines.join("")}\r\n${Buffer.from(body).toString("latin1")}`;
}
