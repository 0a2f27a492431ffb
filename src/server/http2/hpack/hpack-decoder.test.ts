import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createHpackWriter,
  END_OF_STRING_BITS,
  huffman,
  indexed,
  integer,
  literal,
  tableSize,
  text,
  type WrittenField,
} from "../../../../test/support/hpack-writer.ts";
import { PREFACE, readFrames } from "../../../../test/support/http2-frames.ts";
import { recordHttp2Request } from "../../../../test/support/wire-clients.ts";
import { HpackDecoder, HpackError } from "./hpack-decoder.ts";

const LIMITS = { bytesMax: 16_384, fieldsMax: 200 };

/** Reads blocks as latin1. */
function open(limits: Partial<typeof LIMITS> = {}) {
  const decoder = new HpackDecoder({ ...LIMITS, ...limits });
  return Object.assign((block: string) => decoder.decode(Buffer.from(block, "latin1")), {
    revision: () => decoder.revision,
  });
}

const bytes = (hex: string) => Buffer.from(hex.replaceAll(" ", ""), "hex").toString("latin1");

describe("the examples of RFC 7541, appendix C", () => {
  const REQUESTS = [
    [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"],
    [
      ...[":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"],
      ...["cache-control", "no-cache"],
    ],
    [
      ...[":method", "GET", ":scheme", "https", ":path", "/index.html", ":authority", "www.example.com"],
      ...["custom-key", "custom-value"],
    ],
  ];
  const RESPONSES = [
    [
      ...[":status", "302", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:21 GMT"],
      ...["location", "https://www.example.com"],
    ],
    [
      ...[":status", "307", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:21 GMT"],
      ...["location", "https://www.example.com"],
    ],
    [
      ...[":status", "200", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:22 GMT"],
      ...["location", "https://www.example.com", "content-encoding", "gzip"],
      ...["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
    ],
  ];

  test.each<[name: string, hex: string, fields: readonly string[]]>([
    [
      "C.2.1, added",
      "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
      ["custom-key", "custom-header"],
    ],
    ["C.2.2, plain", "040c 2f73 616d 706c 652f 7061 7468", [":path", "/sample/path"]],
    ["C.2.3, never indexed", "1008 7061 7373 776f 7264 0673 6563 7265 74", ["password", "secret"]],
    ["C.2.4, indexed", "82", [":method", "GET"]],
  ])("%s", (_, hex, fields) => {
    expect(open()(bytes(hex))).toEqual(fields);
  });

  test.each([
    [
      "C.3, requests",
      REQUESTS,
      [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
      ],
    ],
    [
      "C.4, requests in Huffman's code",
      REQUESTS,
      [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
      ],
    ],
    [
      "C.5, responses that put each other out of a table of 256 bytes",
      RESPONSES,
      [
        `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
        "4803 3330 37c1 c0bf",
        `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
      ],
    ],
    [
      "C.6, the same in Huffman's code",
      RESPONSES,
      [
        `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
        "4883 640e ffc1 c0bf",
        `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
      ],
    ],
  ])("%s", (_, lists, blocks) => {
    const decode = open();
    // The responses have a table of that size by agreement. A size in front of the first block says the same.
    const size = lists === RESPONSES ? tableSize(256) : "";
    expect(blocks.map((hex, i) => decode((i === 0 ? size : "") + bytes(hex.replaceAll(/\s/g, ""))))).toEqual(
      lists,
    );
  });
});

const anyByte = fc.nat(255).map((byte) => String.fromCharCode(byte));
const anyText = fc.oneof(
  fc.constantFrom("", "a", "GET", "/", "x".repeat(127), "x".repeat(300), "y".repeat(5_000)),
  fc.array(anyByte, { maxLength: 40 }).map((all) => all.join("")),
);

test("whatever a client writes in whichever way is read as it was meant", () => {
  const step: fc.Arbitrary<WrittenField> = fc.record({
    name: fc.oneof(fc.constantFrom(":method", ":path", "content-length", "a", "b", "accept"), anyText),
    value: anyText,
    kind: fc.constantFrom("added", "added", "plain", "never indexed"),
    isHuffman: fc.boolean(),
    refers: fc.boolean(),
  });
  const size = fc.oneof(fc.constantFrom(0, 33, 4_096), fc.nat(4_096));
  const blocks = fc.array(
    fc.record({ sizes: fc.array(size, { maxLength: 2 }), steps: fc.array(step, { maxLength: 8 }) }),
    { minLength: 1, maxLength: 6 },
  );
  fc.assert(
    fc.property(blocks, (all) => {
      const [writer, decode] = [createHpackWriter(), open({ bytesMax: 1_000_000 })];
      for (const { sizes, steps } of all) {
        const before = decode.revision();
        const block = [
          ...sizes.map((to) => writer.resize(to)),
          ...steps.map((step) => writer.field(step)),
        ].join("");
        expect(decode(block)).toEqual(steps.flatMap(({ name, value }) => [name, value]));
        // Read again where that says so, the same bytes mean the same.
        if (decode.revision() !== before) continue;
        expect(decode(block)).toEqual(steps.flatMap(({ name, value }) => [name, value]));
        expect(decode.revision()).toBe(before);
      }
    }),
    { numRuns: 1_000 },
  );
});

describe("the Huffman code", () => {
  test("has every byte", () => {
    const decode = open();
    for (let byte = 0; byte < 256; byte++) {
      for (const value of [1, 2, 3, 8].map((count) => String.fromCharCode(byte).repeat(count)))
        expect(decode(literal("a", value, { isHuffman: true }))).toEqual(["a", value]);
    }
  });

  test("of the tests is that of Node's client, which writes what is shorter by it", async () => {
    // All but the one that ends a header where Node hands it to its library.
    const all = Array.from({ length: 255 }, (_, i) => String.fromCharCode(i + 1)).join("");
    const path = `/${"0".repeat(2_000)}${all}`;
    const said = (await recordHttp2Request(path)).toString("latin1");
    expect(said).toContain(text(path, { isHuffman: true }));
    const headers = readFrames(said.slice(PREFACE.length)).find(({ type }) => type === "HEADERS");
    expect(open()(headers?.payload ?? "")).toEqual([
      ...[":method", "POST", ":path", path, ":authority", "127.0.0.1:80", ":scheme", "http"],
      ...["content-type", "application/connect+proto"],
    ]);
  });

  test.each([
    ["ends with the end of a string", huffman("a", END_OF_STRING_BITS.padEnd(35, "1"))],
    ["has it in its middle", huffman("aaaaaaaa", `${END_OF_STRING_BITS}0001111111`)],
    ["is padded with a zero", huffman("a", "110")],
    ["is padded with zeros", huffman("aa", "000000")],
    ["is padded with a whole byte", huffman("a", "1".repeat(11))],
    ["is nothing but padding of a byte", "\xff"],
    ["ends in the middle of a code that begins with ones", "\xff\xff\xff"],
  ])("is not that of a text that %s", (_, coded) => {
    const decode = open();
    expect(() => decode(`\0\x01a${integer(coded.length, 7, 0x80)}${coded}`)).toThrow(HpackError);
  });
});

describe("a block makes no sense, and that is an HpackError, if", () => {
  test.each([
    ["it has an index of 0", indexed(0)],
    ["it has an index past the table of all", indexed(62)],
    ["it has an index past what was added", literal("a", "b", { kind: "added" }) + indexed(63)],
    ["it names a field by an index past all", literal("", "b", { index: 62 })],
    ["it ends in an index", "\xff"],
    ["it ends in a later byte of an index", "\xff\x80"],
    ["it ends before a name", "\x40"],
    ["it ends before a value", "\x40\x01a"],
    ["it ends in a name", "\0\x05name"],
    ["it ends in a value", "\0\x01a\x05some"],
    ["it ends in the length of a value", "\0\x01a\x7f"],
    ["it ends in a text in Huffman's code", "\0\x01a\x82\x18"],
    ["a length has no end", `\0\x01a\x7f${"\x80".repeat(20)}`],
    ["a length is in more bytes than any takes", `\0\x01a\x7f${"\x80".repeat(5)}\0${"x".repeat(127)}`],
    ["a length is greater than anything", `\0\x01a\x7f${"\xff".repeat(5)}\x0f`],
    ["a length would be negative in 32 bits", `\0\x01a${integer(2 ** 31 + 5, 7)}`],
    ["an index would be a small one in 32 bits", integer(2 ** 32 + 2, 7, 0x80)],
    ["the table is to be larger than was agreed", tableSize(4_097)],
    ["the table's size changes after a field", indexed(2) + tableSize(100)],
  ])("%s", (_, block) => {
    const decode = open();
    expect(() => decode(block)).toThrow(HpackError);
  });

  test("the table's size changes after a field that is too large to be told", () => {
    const decode = open({ bytesMax: 100 });
    expect(() => decode(literal("a", "x".repeat(100)) + tableSize(100))).toThrow(HpackError);
  });
});

test("random bytes are fields, too many, or an HpackError, and nothing else", () => {
  const outcomes = { fields: 0, error: 0 };
  const outcomeOf = (read: () => unknown) => {
    try {
      read();
      return "fields";
    } catch (error) {
      if (!(error instanceof HpackError)) throw error;
      return "error";
    }
  };
  fc.assert(
    fc.property(fc.array(fc.array(anyByte, { maxLength: 60 }), { maxLength: 4 }), (blocks) => {
      const decode = open();
      for (const block of blocks) {
        const outcome = outcomeOf(() => decode(block.join("")));
        outcomes[outcome] += 1;
        // The connection is lost.
        if (outcome === "error") return;
      }
    }),
    { numRuns: 5_000 },
  );
  expect(outcomes.fields).toBeGreaterThan(500);
  expect(outcomes.error).toBeGreaterThan(500);
});

describe("a list is too large", () => {
  test.each([
    ["by its bytes, with 32 for each field", { bytesMax: 2 * (32 + 2) }, 2],
    ["by its fields", { fieldsMax: 2 }, 2],
  ])("%s", (_, limits, count) => {
    const decode = open(limits);
    expect(decode(literal("a", "b").repeat(count))).toEqual(Array(count).fill(["a", "b"]).flat());
    expect(decode(literal("a", "b").repeat(count + 1))).toBeUndefined();
    // Once is not for good.
    expect(decode(literal("a", "b"))).toEqual(["a", "b"]);
  });

  test("and what it adds to the table counts all the same", () => {
    const decode = open({ bytesMax: 100 });
    expect(decode(literal("a", "x".repeat(100)) + literal("c", "d", { kind: "added" }))).toBeUndefined();
    expect(decode(indexed(62))).toEqual(["c", "d"]);
  });

  test("and costs no memory, whatever it refers to", () => {
    const decode = open();
    decode(literal("a", "x".repeat(4_000), { kind: "added" }));
    const bomb = indexed(62).repeat(65_536);
    globalThis.gc?.();
    const before = process.memoryUsage();
    for (let i = 0; i < 20; i++) expect(decode(bomb)).toBeUndefined();
    const after = process.memoryUsage();
    // Written out, each would be of 262 MB.
    expect(after.heapUsed + after.external - before.heapUsed - before.external).toBeLessThan(50_000_000);
  });
});

describe("the table", () => {
  test("is emptied by a field that is larger than it", () => {
    const decode = open();
    decode(literal("a", "b", { kind: "added" }));
    expect(decode(literal("c", "x".repeat(4_096), { kind: "added" }))).toEqual(["c", "x".repeat(4_096)]);
    expect(() => decode(indexed(62))).toThrow(HpackError);
  });

  test("holds just as much as fits", () => {
    const decode = open();
    decode(
      tableSize(2 * 34) + ["a", "b", "c"].map((name) => literal(name, name, { kind: "added" })).join(""),
    );
    expect(decode(indexed(62) + indexed(63))).toEqual(["c", "c", "b", "b"]);
    expect(() => decode(indexed(64))).toThrow(HpackError);
  });

  test("may take the name of a field from the entry that the field puts out", () => {
    const decode = open();
    decode(tableSize(40) + literal("name", "abcd", { kind: "added" }));
    expect(decode(literal("", "efgh", { kind: "added", index: 62 }) + indexed(62))).toEqual([
      ...["name", "efgh"],
      ...["name", "efgh"],
    ]);
  });

  test("is smaller, then larger, and what was put out stays out", () => {
    const decode = open();
    decode(literal("a", "b", { kind: "added" }));
    decode(tableSize(0) + tableSize(4_096));
    expect(() => decode(indexed(62))).toThrow(HpackError);
  });

  test("has another revision whenever it has changed, and no other time", () => {
    const decode = open();
    const revisionAfter = (block: string) => {
      decode(block);
      return decode.revision();
    };
    const first = revisionAfter("");
    expect(revisionAfter(literal("a", "b") + literal("a", "b", { kind: "never indexed" }) + indexed(2))).toBe(
      first,
    );
    const changed = [
      literal("a", "b", { kind: "added" }),
      literal("c", "x".repeat(5_000), { kind: "added" }),
      tableSize(100),
    ].map(revisionAfter);
    expect(new Set([first, ...changed]).size).toBe(4);
  });
});
