import { EventEmitter } from "node:events";
import { expect, test } from "vitest";
import { FakeClock, settle } from "../../../test/support/fake-clock.ts";
import type { HttpResponse } from "../listener/exchange.ts";
import { sendStream } from "./answer.ts";

/** A client that takes nothing until it is told to. */
class Stalled extends EventEmitter implements HttpResponse {
  readonly headersSent = false;
  bytesHeld = 0;
  isEnded = false;
  isDestroyed = false;
  #written: (() => void)[] = [];

  writeHead(): void {}
  addTrailers(): void {}

  write(chunk: Uint8Array, written: () => void): void {
    this.bytesHeld += chunk.length;
    this.#written.push(written);
  }

  /** Takes all that is held for it. */
  take(): void {
    this.bytesHeld = 0;
    for (const written of this.#written.splice(0)) written();
  }

  end(): void {
    this.isEnded = true;
  }

  destroy(): void {
    this.isDestroyed = true;
    this.emit("close");
  }
}

const PIECE = 64 * 1_024;

function send(lengths: readonly number[]) {
  const clock = new FakeClock();
  const response = new Stalled();
  const left = new AbortController();
  response.once("close", () => left.abort());
  let asked = 0;
  let isReturned = false;
  let stalls = 0;
  async function* body() {
    try {
      for (const length of lengths) {
        asked += 1;
        yield new Uint8Array(length);
      }
    } finally {
      isReturned = true;
    }
  }
  const done = sendStream({ status: 200, header: new Headers(), body: body() }, response, {
    left: left.signal,
    stallTimeoutMs: 10_000,
    clock,
    onStalled: () => {
      stalls += 1;
    },
  });
  return {
    clock,
    response,
    done,
    asked: () => asked,
    isReturned: () => isReturned,
    stalls: () => stalls,
  };
}

test("no more is held for a client that takes nothing than a piece of one message, and then it is cut", async () => {
  const { clock, response, done, asked, isReturned, stalls } = send([10 * PIECE, 1, 1]);
  await settle();
  await clock.advance(9_999);
  expect([response.bytesHeld, asked(), stalls()]).toEqual([PIECE, 1, 0]);
  await clock.advance(1);
  await done;
  expect([response.isDestroyed, response.isEnded, isReturned(), stalls()]).toEqual([true, false, true, 1]);
  expect(clock.sleeperCount).toBe(0);
});

test("a client that takes a piece now and then is slow, and not cut", async () => {
  const { clock, response, done, asked, stalls } = send([2 * PIECE, PIECE + 1, 5]);
  for (let i = 0; i < 5; i += 1) {
    await settle();
    await clock.advance(9_999);
    response.take();
  }
  await done;
  expect([asked(), response.isEnded, stalls(), clock.sleeperCount]).toEqual([3, true, 0, 0]);
});

test("a client that leaves while it is waited for is not waited for any more", async () => {
  const { clock, response, done, isReturned, stalls } = send([PIECE, PIECE]);
  await settle();
  response.emit("close");
  await done;
  expect([isReturned(), stalls(), clock.sleeperCount]).toEqual([true, 0, 0]);
});
