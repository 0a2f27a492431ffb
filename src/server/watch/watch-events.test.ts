import { fromBinary, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { afterPoll, type KillSet } from "../../evaluation/kill-set.ts";
import type { KilledOverride } from "../../evaluation/state.ts";
import type { Version } from "../../evaluation/version.ts";
import { type WatchResponse, WatchResponseSchema } from "../../gen/pbflagd/v1/watch_pb.ts";
import type { Changes } from "../../store/flag-store.ts";
import { Latest } from "../../system/latest.ts";
import { runAtOnce } from "../../system/run-in-slices.ts";
import type { MessageBytes } from "./message-bytes.ts";
import type { Format } from "./told-kills.ts";
import { type Manner, WatchEvents } from "./watch-events.ts";

const FORMATS: readonly Format[] = ["proto", "json"];
const at = (revision: number): Version => ({ epoch: "one", revision });

/** Events of a namespace that a test tells what it knows. */
class Scene {
  readonly clock = new FakeClock();
  readonly killSet = new Latest<KillSet | undefined>(undefined);
  changes: Changes = { kind: "unknown" };
  readonly events = new WatchEvents(
    { killSet: this.killSet, committedAt: undefined, changesSince: () => this.changes },
    this.clock,
  );

  /** It has polled, and followers may be told. */
  poll(revision: number, flagIds: readonly string[], overrides: readonly KilledOverride[] = []): void {
    const now = this.clock.now();
    const polled = { flagIds: new Set(flagIds), overrides, readAt: now };
    this.killSet.replace(afterPoll(undefined, { ...polled, stamp: { version: at(revision), askedAt: now } }));
    runAtOnce(this.events.takeIn());
  }
}

const manner = (format: Format, part: Partial<Manner> = {}): Manner => ({
  format,
  omitsKills: false,
  isFirst: false,
  ...part,
});

function messageIn(message: MessageBytes = [], format: Format): WatchResponse {
  const bytes = Buffer.concat(message);
  expect(bytes.readUInt8(0)).toBe(0);
  expect(bytes.readUInt32BE(1)).toBe(bytes.length - 5);
  const body = bytes.subarray(5);
  return format === "proto"
    ? fromBinary(WatchResponseSchema, body)
    : fromJsonString(WatchResponseSchema, body.toString());
}

const OVERRIDES = Array.from({ length: 1_234 }, (_, i) => ({ flagId: `ü/${i % 7}`, entityId: `"${i}` }));

describe.each(FORMATS)("in %s", (format) => {
  /** What the message says, if the library encodes that in the same way, byte for byte. */
  function asEncoded(message: MessageBytes | undefined): WatchResponse {
    const decoded = messageIn(message, format);
    const encoded =
      format === "proto"
        ? toBinary(WatchResponseSchema, decoded)
        : toJsonString(WatchResponseSchema, decoded);
    const [bytes, again] = [Buffer.concat(message ?? []).subarray(5), Buffer.from(encoded)];
    expect(bytes.equals(again), `${bytes.length} bytes instead of ${again.length}`).toBe(true);
    return decoded;
  }

  test("a message is what the library would have made of it, whatever its event", () => {
    const scene = new Scene();
    const first = (since?: Version, part?: Partial<Manner>) =>
      scene.events.first(since, manner(format, part))?.message;
    scene.poll(1, []);
    expect(asEncoded(first())).toMatchObject({
      event: { case: "resync", value: { kills: { flagIds: [], killedOverrides: [] } } },
    });
    const flagIds = ["a/1", "ü/2"];
    scene.poll(2, flagIds, OVERRIDES);
    expect(asEncoded(first(undefined, { isFirst: true }))).toMatchObject({
      heartbeatIntervalMs: 2_000n,
      event: { case: "resync", value: { kills: { flagIds, killedOverrides: OVERRIDES } } },
    });
    scene.changes = { kind: "listed", flagIds: ["a/3"], entityIds: ["ann"] };
    expect(asEncoded(first(at(1)))).toMatchObject({
      event: { case: "changed", value: { changes: { flagIds: ["a/3"] }, kills: { flagIds } } },
    });
    const { event } = asEncoded(first(at(1), { omitsKills: true }));
    expect(event).toMatchObject({ case: "changed", value: { changes: { entityIds: ["ann"] } } });
    expect(event.value).not.toHaveProperty("kills.flagIds");
    expect(asEncoded(scene.events.heartbeat(manner(format)))).toMatchObject({ event: { case: "heartbeat" } });
  });

  test("a kill set is the same memory for all who are told it, whenever and however they are", async () => {
    const scene = new Scene();
    const { events } = scene;
    scene.poll(3, ["a/1"], OVERRIDES);
    const kills = events.first(undefined, manner(format))?.message[1];
    expect(kills?.length).toBeGreaterThan(10_000);
    await scene.clock.advance(7);
    scene.changes = { kind: "listed", flagIds: ["a/1"], entityIds: [] };
    const later = [
      events.first(undefined, manner(format, { isFirst: true })),
      events.first(at(1), manner(format)),
      events.next({ version: at(2), kills: undefined }, manner(format)),
    ];
    // A poll that finds the same kills brings another kill set.
    scene.poll(4, ["a/1"], [...OVERRIDES]);
    later.push(events.next({ version: at(1), kills: undefined }, manner(format)));
    expect(later.map((news) => news?.message[1] === kills)).toEqual([true, true, true, true]);
    scene.poll(5, ["a/2"], OVERRIDES);
    expect(events.first(undefined, manner(format))?.message[1]).not.toBe(kills);
  });

  test("what is told at the same time is the same memory", async () => {
    const scene = new Scene();
    scene.poll(3, ["a/1"]);
    scene.changes = { kind: "listed", flagIds: ["a/1"], entityIds: [] };
    const told = { version: at(2), kills: undefined };
    const tell = () => [
      scene.events.next(told, manner(format))?.message,
      scene.events.heartbeat(manner(format)),
    ];
    const [changed, heartbeat] = tell();
    expect(tell()[0]).toBe(changed);
    expect(tell()[1]).toBe(heartbeat);
    await scene.clock.advance(1);
    expect(tell()[0]).not.toBe(changed);
    expect(messageIn(tell()[1], format).ageMs).toBe(1n);
  });

  test("a kill set is encoded with places to pause, where a follower wants it", () => {
    const scene = new Scene();
    scene.poll(1, []);
    const overrides = Array.from({ length: 20_000 }, (_, i) => ({ flagId: "a/1", entityId: `entity-${i}` }));
    const stepsOf = () => {
      let steps = 0;
      for (const _ of scene.events.takeIn()) steps += 1;
      return steps;
    };
    scene.poll(2, ["a/1"], overrides);
    expect(stepsOf()).toBe(0);
    const wantNoMore = scene.events.want(format);
    expect(stepsOf()).toBeGreaterThanOrEqual(40);
    expect(stepsOf()).toBe(0);
    wantNoMore();
    const killSet = scene.killSet.value;
    if (killSet !== undefined) scene.killSet.replace({ ...killSet, overrides: overrides.slice(1) });
    expect(stepsOf()).toBe(0);
  });
});

test("what is known only since it was looked at last is not told before it is taken in", () => {
  const scene = new Scene();
  scene.poll(1, ["a/1"]);
  const told = scene.events.first(undefined, manner("proto"))?.told ?? {
    version: undefined,
    kills: undefined,
  };
  const killSet = scene.killSet.value;
  if (killSet !== undefined)
    scene.killSet.replace({ ...killSet, stamp: { version: at(2), askedAt: 0 }, polledIds: new Set() });
  expect(scene.events.next(told, manner("proto"))).toBeUndefined();
  runAtOnce(scene.events.takeIn());
  expect(scene.events.next(told, manner("proto"))).toMatchObject({ told: { version: at(2) } });
});

test("too many changes to list are told as a new beginning", () => {
  const scene = new Scene();
  scene.poll(2, ["a/1"]);
  const eventFor = (ids: number) => {
    scene.changes = { kind: "listed", flagIds: [], entityIds: Array(ids).fill("x".repeat(1_024)) };
    scene.poll(2, ["a/1"]);
    return messageIn(scene.events.first(at(1), manner("proto"))?.message, "proto").event.case;
  };
  expect(eventFor(64)).toBe("changed");
  expect(eventFor(65)).toBe("resync");
});
