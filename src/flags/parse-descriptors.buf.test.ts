import { readdir, readFile } from "node:fs/promises";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { beforeAll, describe, expect, test } from "vitest";
import { buildDescriptors } from "../../test/support/descriptors.ts";
import { parseDescriptors } from "./parse-descriptors.ts";

/** One feature in each of the languages' editions, with everything that compilers may add or leave out. */
const sources = {
  "shop/limits.proto": `
    // A comment in front of the syntax.
    syntax = "proto3";
    package shop;

    import "google/protobuf/timestamp.proto";

    // Not a feature, but used by one.
    message Window {
      google.protobuf.Timestamp from = 1;
      map<string, bool> days = 2;
      optional int32 width = 3;
    }
  `,
  "shop/checkout.proto": `
    syntax = "proto3";
    package shop;

    import "pbflags/options.proto";
    import "shop/limits.proto";

    // What a customer sees at the end.
    message Checkout {
      option (pbflags.feature) = {id: "checkout", owner: "team-shop"};

      // Whether guests may pay.
      bool guests = 1 [(pbflags.flag) = {default: {bool_value: {value: false}}}]; // Beside it.
      optional double discount = 2 [(pbflags.flag) = {default: {double_value: {value: -0.5}}}];
      repeated int64 retries = 3 [packed = false, (pbflags.flag) = {default: {int64_list_value: {values: [1, 2]}}}];
      repeated string cards = 4 [(pbflags.flag) = {default: {string_list_value: {}}}];
      Window window = 5;
      oneof kind {
        string plan = 6 [(pbflags.flag) = {layer: "tenant"}];
        Window other = 7;
      }
      sint64 depth = 8 [deprecated = true, (pbflags.flag) = {supported_values: {int64_values: [-1, 1]}}];

      message Gifts {
        option (pbflags.feature) = {id: "checkout-gifts"};
        sfixed64 amount = 536870911 [(pbflags.flag) = {default: {int64_value: {value: 9223372036854775807}}}];
      }
    }
  `,
  "shop/legacy.proto": `
    syntax = "proto2";
    package shop;

    import "pbflags/options.proto";

    message Legacy {
      option (pbflags.feature).id = "legacy";
      option (pbflags.feature).description = "Written in two pieces.";

      required bool on = 1 [default = true, (pbflags.flag).description = "On.", (pbflags.flag).layer = "user"];
      repeated bool hours = 2 [packed = true, (pbflags.flag) = {default: {bool_list_value: {values: [true]}}}];
      optional group Extra = 3 { optional int32 x = 1; }
      extensions 100 to 200;
    }
  `,
  "shop/modern.proto": `
    edition = "2023";
    package shop;

    import "pbflags/options.proto";

    option features.field_presence = IMPLICIT;

    message Modern {
      option (pbflags.feature) = {id: "modern"};
      string colour = 1 [(pbflags.flag) = {default: {string_value: {value: "grün"}}}];
      repeated double steps = 2 [features.repeated_field_encoding = EXPANDED, (pbflags.flag) = {}];
    }
  `,
};

const expected = [
  ["checkout/1", "BOOL", "", false],
  ["checkout/2", "DOUBLE", "", -0.5],
  ["checkout/3", "INT64_LIST", "", [1n, 2n]],
  ["checkout/4", "STRING_LIST", "", []],
  ["checkout/6", "STRING", "tenant", undefined],
  ["checkout/8", "INT64", "", undefined],
  ["checkout-gifts/536870911", "INT64", "", 9223372036854775807n],
  ["legacy/1", "BOOL", "user", undefined],
  ["legacy/2", "BOOL_LIST", "", [true]],
  ["modern/1", "STRING", "", "grün"],
  ["modern/2", "DOUBLE_LIST", "", undefined],
];

describe("sets made by a compiler from proto2, proto3 and editions", () => {
  let full: Uint8Array;
  beforeAll(async () => {
    full = await buildDescriptors(sources);
  });

  test("define what their sources say", () => {
    expect(outline(full)).toEqual(expected);
    const table = parseDescriptors([{ name: "full.pb", bytes: full }]);
    expect(table.features).toContainEqual({
      id: "legacy",
      displayName: "Legacy",
      description: "Written in two pieces.",
      owner: "",
    });
    expect(table.find("legacy.on")?.description).toBe("On.");
    expect(table.find("checkout/8")?.supportedValues).toMatchObject({ int64Values: [-1n, 1n] });
  });

  test("need neither imports nor source info", async () => {
    const bare = await buildDescriptors(sources, {
      arguments: ["--exclude-imports", "--exclude-source-info", "--as-file-descriptor-set"],
    });
    expect(bare.length).toBeLessThan(full.length / 2);
    expect(outline(bare)).toEqual(expected);
  });

  test("may list their files in any order, or lack those of the options", () => {
    const set = fromBinary(FileDescriptorSetSchema, full);
    set.file = set.file.filter(({ name }) => name.startsWith("shop/")).toReversed();
    expect(outline(toBinary(FileDescriptorSetSchema, set))).toEqual(expected);
  });
});

test("the example flags show every type, two layers, and flags with and without a default", async () => {
  const folder = new URL("../../examples/flags/", import.meta.url);
  const paths = (await readdir(folder, { recursive: true })).filter((path) => path.endsWith(".proto"));
  const examples = await Promise.all(
    paths.map(async (path) => [path, await readFile(new URL(path, folder), "utf8")]),
  );
  const bytes = await buildDescriptors(Object.fromEntries(examples));
  const { features, flags } = parseDescriptors([{ name: "examples.pb", bytes }]);

  expect(features.length).toBeGreaterThanOrEqual(3);
  expect(new Set(flags.map(({ type }) => type)).size).toBe(8);
  expect([...new Set(flags.map(({ layer }) => layer))].toSorted()).toEqual(["", "tenant", "user"]);
  expect(flags.filter(({ defaultValue }) => defaultValue === undefined).length).toBeGreaterThan(1);
  expect(flags.filter(({ description }) => description === "")).toEqual([]);
  expect(flags.slice(5, 7)).toMatchObject([
    {
      id: "notifications/1",
      name: "email_enabled",
      type: "BOOL",
      layer: "user",
      defaultValue: { value: { value: true } },
    },
    {
      id: "notifications/2",
      name: "digest_frequency",
      type: "STRING",
      defaultValue: { value: { value: "daily" } },
    },
  ]);
});

function outline(bytes: Uint8Array) {
  const { flags } = parseDescriptors([{ name: "test.pb", bytes }]);
  return flags.map(({ id, type, layer, defaultValue }) => {
    const value = defaultValue?.value.value;
    return [id, type, layer, typeof value === "object" ? value.values : value];
  });
}
