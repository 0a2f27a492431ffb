import { request } from "node:http";
import { text as readText } from "node:stream/consumers";
import { type Address, formatAddress } from "../config/address.ts";
import type { Clock } from "../system/clock.ts";
import { CommandError } from "./failure.ts";

export interface Question {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Reply {
  readonly status: number;
  readonly body: string;
}

/** For connecting, asking and the whole answer. */
const TIMEOUT_MS = 5_000;

/** Asks the daemon that runs at an address. Fails with exit code 3 if nobody answers in time. */
export async function askDaemon(address: Address, question: Question, clock: Clock): Promise<Reply> {
  const done = new AbortController();
  const timeout = new AbortController();
  clock.sleep(TIMEOUT_MS, done.signal).then(
    () => timeout.abort(new Error(`no answer within ${TIMEOUT_MS / 1_000} s`)),
    () => {},
  );
  try {
    return await send(address, question, timeout.signal);
  } catch (error) {
    throw new CommandError(
      3,
      `Cannot reach pbflagd at ${formatAddress(address)}: ${reasonOf(error, timeout.signal)}. Is it running there? --address names another place.`,
      { cause: error },
    );
  } finally {
    done.abort();
  }
}

function send(address: Address, question: Question, signal: AbortSignal): Promise<Reply> {
  const { method, path, body } = question;
  const payload = body === undefined ? "" : JSON.stringify(body);
  const ofBody =
    body === undefined
      ? {}
      : { "content-type": "application/json", "content-length": Buffer.byteLength(payload) };
  const headers = { ...question.headers, ...ofBody };
  return new Promise((resolve, reject) => {
    const asked = request(
      { ...targetOf(address), method, path, headers, signal, agent: false },
      (response) => {
        readText(response).then(
          (answer) => resolve({ status: response.statusCode ?? 0, body: answer }),
          reject,
        );
      },
    );
    asked.on("error", reject);
    asked.end(payload);
  });
}

/** Where Node's client connects to. Who listens on all interfaces is asked on the loopback one. */
export function targetOf(
  address: Address,
): { readonly socketPath: string } | { readonly host: string; readonly port: number } {
  if (address.kind === "unix") return { socketPath: address.path };
  const everywhere = ["", "0.0.0.0", "::"].includes(address.host);
  return { host: everywhere ? "localhost" : address.host, port: address.port };
}

/** Why a daemon was not reached, for people. */
export function reasonOf(error: unknown, signal: AbortSignal): string {
  const reason: unknown = signal.aborted ? signal.reason : error;
  // With several addresses of one name, Node gathers the reasons and leaves the message empty.
  const first: unknown = reason instanceof AggregateError ? reason.errors[0] : reason;
  return first instanceof Error ? first.message : String(first);
}
