import { connect } from "node:http2";
import { Duplex } from "node:stream";
import fc from "fast-check";
import { expect, test } from "vitest";
import { PREFACE, readFrames, SETTINGS } from "../../../../test/support/http2-frames.ts";
import { headerFrames } from "../frames.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { EMPTY_TABLE, encodeField } from "./hpack-encoder.ts";
import { STATIC_TABLE } from "./static-table.ts";

const LENGTHS = [0, 1, 126, 127, 128, 253, 254, 255, 256, 382, 383, 16_384, 16_510, 16_511, 20_000];

function open(): HpackDecoder {
  return new HpackDecoder({ bytesMax: 1_000_000, fieldsMax: 1_000 });
}

function decode(block: string): readonly string[] | undefined {
  const decoder = open();
  const fields = decoder.decode(Buffer.from(block, "latin1"));
  // Nothing was added to the table.
  expect(decoder.revision).toBe(0);
  return fields;
}

/** What Node's client makes of a block. */
async function decodeAsNode(block: string): Promise<Readonly<Record<string, unknown>>> {
  let said = "";
  const wire = new Duplex({
    read() {},
    write(piece: Buffer, _, done) {
      const hadAsked = hasAsked(said);
      said += piece.toString("latin1");
      if (!hadAsked && hasAsked(said)) wire.push(SETTINGS + headerFrames(1, block, true), "latin1");
      done();
    },
  });
  const session = connect("http://127.0.0.1", {
    createConnection: () => wire,
    settings: { maxHeaderListSize: 1_000_000 },
  });
  const stream = session.request({ ":path": "/" });
  const response = new Promise<Readonly<Record<string, unknown>>>((resolve, reject) => {
    stream.once("response", resolve);
    for (const one of [session, stream]) one.once("error", reject);
  });
  // Without symbols.
  const headers = Object.fromEntries(Object.entries(await response));
  session.destroy();
  return headers;
}

function hasAsked(said: string): boolean {
  return readFrames(said.slice(PREFACE.length)).some(({ type }) => type === "HEADERS");
}

test("values of any length arrive, with Node's client and with us", async () => {
  for (const length of LENGTHS) {
    const value = "v".repeat(length);
    const block = encodeField(":status", "200") + encodeField("x-a", value) + encodeField("x-b", "1");
    expect(decode(block)).toEqual([":status", "200", "x-a", value, "x-b", "1"]);
    expect(await decodeAsNode(block)).toEqual({ ":status": 200, "x-a": value, "x-b": "1" });
  }
});

test("names of any length arrive", async () => {
  for (const length of LENGTHS.slice(1)) {
    const name = "n".repeat(length);
    const block = encodeField(":status", "200") + encodeField(name, "1");
    expect(decode(block)).toEqual([":status", "200", name, "1"]);
    expect(await decodeAsNode(block)).toEqual({ ":status": 200, [name]: "1" });
  }
});

test("all bytes of a value arrive", async () => {
  const value = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).join("");
  expect(decode(encodeField("x-a", value))).toEqual(["x-a", value]);
  const visible = value.replaceAll(/[^!-~\x80-\xff]/g, "");
  expect(await decodeAsNode(encodeField(":status", "200") + encodeField("x-a", visible))).toEqual({
    ":status": 200,
    "x-a": visible,
  });
});

test("what stands whole in the static table is a byte", () => {
  for (const [name, value] of STATIC_TABLE) {
    expect(encodeField(name, value)).toHaveLength(1);
    expect(decode(encodeField(name, value))).toEqual([name, value]);
    expect(decode(encodeField(name, `${value}?`))).toEqual([name, `${value}?`]);
  }
});

test("blocks do not depend on each other", () => {
  const field = fc.tuple(
    fc.constantFrom(":status", "date", "content-type", "x-a"),
    fc.oneof(fc.constantFrom("200", "404", ""), fc.string({ unit: "binary-ascii", maxLength: 300 })),
  );
  fc.assert(
    fc.property(fc.array(field), (fields) => {
      const block = fields.map(([name, value]) => encodeField(name, value)).join("");
      expect(decode(block)).toEqual(fields.flat());
      const [decoder, emptied] = [open(), Buffer.from(EMPTY_TABLE + block, "latin1")];
      for (let i = 0; i < 2; i++) expect(decoder.decode(emptied)).toEqual(fields.flat());
    }),
  );
});
