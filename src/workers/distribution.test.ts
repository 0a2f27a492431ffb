import { Socket } from "node:net";
import { expect, test } from "vitest";
import { Distribution, type Taker } from "./distribution.ts";

interface Given {
  readonly id: number;
  readonly socket: Socket;
}

/** A taker that keeps what it is given, and says nothing by itself. */
function openTaker(): Taker & { readonly given: readonly Given[] } {
  const given: Given[] = [];
  return { given, take: (id, socket) => void given.push({ id, socket }) };
}

function openDistribution(connectionsMax = 100) {
  const dropped: string[] = [];
  const distribution = new Distribution({ connectionsMax, onDrop: (reason) => void dropped.push(reason) });
  const takers = [openTaker(), openTaker()] as const;
  for (const taker of takers) distribution.join(taker);
  /** Takes what was given last. */
  const accept = (taker: (typeof takers)[number]) =>
    distribution.accepted(taker, taker.given.at(-1)?.id ?? 0);
  return { distribution, takers, accept, dropped };
}

function come(distribution: Distribution, count: number): readonly Socket[] {
  const sockets = Array.from({ length: count }, () => new Socket());
  for (const socket of sockets) distribution.accept(socket);
  return sockets;
}

test("whoever has the fewest gets the next", () => {
  const { distribution, takers, accept } = openDistribution();
  const [one, other] = takers;
  for (let i = 0; i < 3; i++) {
    come(distribution, 2);
    accept(one);
    accept(other);
  }
  expect([one.given.length, other.given.length]).toEqual([3, 3]);
  distribution.closed(other);
  distribution.closed(other);
  for (let i = 0; i < 2; i++) {
    come(distribution, 1);
    accept(other);
  }
  expect([one.given.length, other.given.length]).toEqual([3, 5]);
});

test("a taker that says nothing holds up one connection, and the rest go to the other", () => {
  const { distribution, takers, accept } = openDistribution();
  const [hung, other] = takers;
  come(distribution, 5);
  for (let i = 0; i < 4; i++) accept(other);
  expect([hung.given.length, other.given.length]).toEqual([1, 4]);
});

test("what was given to a taker that is lost before it had it goes to another, before all others", () => {
  const { distribution, takers, accept } = openDistribution();
  const [lost, other] = takers;
  const [first, , third] = come(distribution, 3);
  expect(lost.given.map(({ socket }) => socket)).toEqual([first]);
  distribution.leave(lost);
  accept(other);
  expect(other.given.at(-1)?.socket).toBe(first);
  expect(first?.destroyed).toBe(false);
  accept(other);
  expect(other.given.at(-1)?.socket).toBe(third);
});

test("what it had already is not given again, and this process lets it go", () => {
  const { distribution, takers, accept } = openDistribution();
  const [lost, other] = takers;
  const [socket] = come(distribution, 1);
  accept(lost);
  expect(socket?.destroyed).toBe(true);
  distribution.leave(lost);
  expect(other.given).toEqual([]);
});

test("connections wait while nobody is there", () => {
  const { distribution, takers, accept } = openDistribution();
  for (const taker of takers) distribution.leave(taker);
  const sockets = come(distribution, 2);
  const late = openTaker();
  distribution.join(late);
  accept(late);
  expect(late.given.map(({ socket }) => socket)).toEqual(sockets);
});

test("no more are open than may be, whoever has them and whoever waits", () => {
  const { distribution, takers, accept, dropped } = openDistribution(3);
  const [one] = takers;
  const sockets = come(distribution, 4);
  expect(sockets.map(({ destroyed }) => destroyed)).toEqual([false, false, false, true]);
  expect(dropped).toEqual(["too_many_connections"]);
  accept(one);
  come(distribution, 1);
  expect(dropped).toHaveLength(2);
  distribution.closed(one);
  come(distribution, 1);
  expect(dropped).toHaveLength(2);
  // With it goes what it has.
  accept(one);
  distribution.leave(one);
  come(distribution, 1);
  expect(dropped).toHaveLength(2);
});

test("it is settled once all that came has been taken", async () => {
  const { distribution, takers, accept } = openDistribution();
  const [one, other] = takers;
  come(distribution, 3);
  let isSettled = false;
  const settled = (async () => {
    await distribution.settled();
    isSettled = true;
  })();
  accept(one);
  accept(other);
  await Promise.resolve();
  expect(isSettled).toBe(false);
  accept(one);
  await settled;
});
