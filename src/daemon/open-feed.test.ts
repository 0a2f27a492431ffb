import { expect, test } from "vitest";
import type { FeedState } from "../kills/change-feed.ts";
import { takeUpUsable } from "./open-feed.ts";

const reason = "it has ended the stream";

test.each<readonly [string, FeedState | undefined, boolean]>([
  ["there is no feed", undefined, true],
  ["the feed has not connected yet", { kind: "connecting" }, true],
  ["the feed is connected", { kind: "connected", since: 0 }, true],
  ["the feed finds its way back by itself", { kind: "broken", reason, retryAt: 9_000 }, false],
  ["there is nothing to follow, though it is looked for soon", { kind: "lacking", reason, retryAt: 1 }, true],
])("where an upstream can be used again and %s", (_, state, isAsked) => {
  expect(isAskedAtOnce(true, state), "and all is ready").toBe(isAsked);
  expect(isAskedAtOnce(false, state), "and nothing is ready").toBe(true);
});

function isAskedAtOnce(ready: boolean, state: FeedState | undefined): boolean {
  let isAsked = false;
  const storeReturned = () => {
    isAsked = true;
  };
  takeUpUsable({ namespace: { ready, storeReturned }, feed: state === undefined ? undefined : { state } });
  return isAsked;
}
