import { describe, expect, test } from "vitest";
import {
  readFrames,
  type SettingValues,
  settings as settingsFrame,
} from "../../../test/support/http2-frames.ts";
import { ConnectionError, ERROR } from "./frames.ts";
import { FIRST_SETTINGS, readSettings, writeSettings } from "./settings.ts";

/** The payload of a frame with these. */
function payloadOf(values: SettingValues): Buffer {
  return Buffer.from(readFrames(settingsFrame(values))[0]?.payload ?? "", "latin1");
}

describe("settings of a client", () => {
  test("are at first those that nobody has to say", () => {
    expect(FIRST_SETTINGS).toEqual({ windowBytes: 65_535, hasSmallTable: false });
    expect(readSettings(FIRST_SETTINGS, Buffer.alloc(0))).toEqual(FIRST_SETTINGS);
  });

  test.each<[SettingValues, Partial<typeof FIRST_SETTINGS>]>([
    [{ INITIAL_WINDOW_SIZE: 0 }, { windowBytes: 0 }],
    [{ INITIAL_WINDOW_SIZE: 2 ** 31 - 1 }, { windowBytes: 2 ** 31 - 1 }],
    [{ HEADER_TABLE_SIZE: 4_095 }, { hasSmallTable: true }],
    [{ HEADER_TABLE_SIZE: 4_096 }, {}],
    [{ HEADER_TABLE_SIZE: 2 ** 32 - 1 }, {}],
    [{ ENABLE_PUSH: 0 }, {}],
    [{ ENABLE_PUSH: 1 }, {}],
    [{ MAX_FRAME_SIZE: 16_384 }, {}],
    [{ MAX_FRAME_SIZE: 2 ** 24 - 1 }, {}],
    [{ MAX_CONCURRENT_STREAMS: 0 }, {}],
    [{ MAX_HEADER_LIST_SIZE: 0 }, {}],
    // One that nobody knows.
    [{ 4242: 1 }, {}],
  ])("say what they say: %j", (values, difference) => {
    expect(readSettings(FIRST_SETTINGS, payloadOf(values))).toEqual({ ...FIRST_SETTINGS, ...difference });
  });

  test("stay what they were where they are not spoken of", () => {
    const first = readSettings(FIRST_SETTINGS, payloadOf({ INITIAL_WINDOW_SIZE: 1, HEADER_TABLE_SIZE: 0 }));
    expect(readSettings(first, payloadOf({ ENABLE_PUSH: 0 }))).toEqual(first);
  });

  test("remember that a table was small, be it only in between", () => {
    const between = [payloadOf({ HEADER_TABLE_SIZE: 0 }), payloadOf({ HEADER_TABLE_SIZE: 4_096 })];
    expect(readSettings(FIRST_SETTINGS, Buffer.concat(between)).hasSmallTable).toBe(true);
  });

  test("count from first to last", () => {
    const twice = [payloadOf({ INITIAL_WINDOW_SIZE: 1 }), payloadOf({ INITIAL_WINDOW_SIZE: 2 })];
    expect(readSettings(FIRST_SETTINGS, Buffer.concat(twice)).windowBytes).toBe(2);
  });

  test.each<[string, Buffer, keyof typeof ERROR]>([
    ["an ENABLE_PUSH of 2", payloadOf({ ENABLE_PUSH: 2 }), "PROTOCOL_ERROR"],
    ["too large a window", payloadOf({ INITIAL_WINDOW_SIZE: 2 ** 31 }), "FLOW_CONTROL_ERROR"],
    ["too small a frame", payloadOf({ MAX_FRAME_SIZE: 16_383 }), "PROTOCOL_ERROR"],
    ["too large a frame", payloadOf({ MAX_FRAME_SIZE: 2 ** 24 }), "PROTOCOL_ERROR"],
    ["the beginning of one more", payloadOf({ ENABLE_PUSH: 0 }).subarray(0, 5), "FRAME_SIZE_ERROR"],
    ["more than anybody has", Buffer.alloc(33 * 6), "ENHANCE_YOUR_CALM"],
    ["a wrong one among right ones", payloadOf({ ENABLE_PUSH: 2, HEADER_TABLE_SIZE: 0 }), "PROTOCOL_ERROR"],
  ])("are an error with %s", (_, payload, code) => {
    expect(() => readSettings(FIRST_SETTINGS, payload)).toThrow(
      expect.objectContaining({ constructor: ConnectionError, code: ERROR[code] }),
    );
  });

  test("may be as many as fit", () => {
    expect(readSettings(FIRST_SETTINGS, Buffer.alloc(32 * 6))).toEqual(FIRST_SETTINGS);
  });
});

test("ours say how many streams and headers there may be", () => {
  expect(writeSettings({ streamsMax: 250, headerBytesMax: 16_384 })).toBe(
    payloadOf({ MAX_CONCURRENT_STREAMS: 250, MAX_HEADER_LIST_SIZE: 16_384 }).toString("latin1"),
  );
});
