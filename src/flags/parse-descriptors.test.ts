import { create, fromBinary, setExtension, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  FieldDescriptorProto_Type,
  FieldOptionsSchema,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
  MessageOptionsSchema,
} from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { describeFlags, type FeatureSpec, type FlagSpec } from "../../test/support/descriptors.ts";
import { FeatureOptionsSchema, FlagOptionsSchema, feature, flag } from "../gen/pbflags/options_pb.ts";
import { DescriptorError, parseDescriptors } from "./parse-descriptors.ts";

const emailEnabled: FlagSpec = {
  number: 1,
  name: "email_enabled",
  type: "BOOL",
  layer: "user",
  default: true,
};
const digest: FlagSpec = { number: 2, name: "digest_frequency", type: "STRING", default: "daily" };
const notifications: FeatureSpec = {
  feature: "notifications",
  description: "How people are told.",
  owner: "team-messaging",
  flags: [digest, emailEnabled],
};

describe("what a set says", () => {
  test("is one table, in order of feature and field", () => {
    const search: FeatureSpec = { feature: "search", flags: [{ number: 3, name: "fuzzy", type: "BOOL" }] };
    const table = parse(describeFlags([search, notifications]));
    expect(table.features).toEqual([
      {
        id: "notifications",
        displayName: "Feature1",
        description: "How people are told.",
        owner: "team-messaging",
      },
      { id: "search", displayName: "Feature0", description: "", owner: "" },
    ]);
    expect(table.flags.map(({ id, alias }) => [id, alias])).toEqual([
      ["notifications/1", "notifications.email_enabled"],
      ["notifications/2", "notifications.digest_frequency"],
      ["search/3", "search.fuzzy"],
    ]);
    expect(table.find("notifications.email_enabled")).toBe(table.find("notifications/1"));
  });

  test.for<[FlagSpec["type"], FlagSpec["default"], object]>([
    ["BOOL", false, { case: "boolValue", value: false }],
    ["STRING", "", { case: "stringValue", value: "" }],
    ["INT64", -(2n ** 63n), { case: "int64Value", value: -(2n ** 63n) }],
    ["DOUBLE", Number.NaN, { case: "doubleValue", value: Number.NaN }],
    ["BOOL_LIST", [true, false], { case: "boolListValue", value: { values: [true, false] } }],
    ["STRING_LIST", [], { case: "stringListValue", value: { values: [] } }],
    ["INT64_LIST", [2n ** 63n - 1n], { case: "int64ListValue", value: { values: [2n ** 63n - 1n] } }],
    ["DOUBLE_LIST", [0.5, -1], { case: "doubleListValue", value: { values: [0.5, -1] } }],
  ])("includes a default of type %s", ([type, given, expected]) => {
    const [defined] = parse(
      describe1({ number: 1, name: "f", type, ...(given !== undefined && { default: given }) }),
    ).flags;
    expect(defined).toMatchObject({ type, defaultValue: { value: expected } });
  });

  test("has no default where none is named, or an empty one", () => {
    const empty = edited(notifications, (file) => {
      const option = create(FlagOptionsSchema, { default: {} });
      setFlag(file, option);
    });
    expect(parse(describe1({ number: 1, name: "f", type: "BOOL" })).flags[0]?.defaultValue).toBeUndefined();
    expect(parse(empty).find("notifications/2")?.defaultValue).toBeUndefined();
  });

  test.for<[kind: keyof typeof FieldDescriptorProto_Type, "INT64"]>([
    ["SINT64", "INT64"],
    ["SFIXED64", "INT64"],
  ])("takes %s for %s", ([kind, type]) => {
    const set = edited({ feature: "f", flags: [{ number: 1, name: "n", type }] }, (file) => {
      field(file).type = FieldDescriptorProto_Type[kind];
    });
    expect(parse(set).flags[0]?.type).toBe(type);
  });

  test.for<[given: string, layer: string]>([
    ["", ""],
    ["global", ""],
    ["GLOBAL", ""],
    ["User", "user"],
    ["tenant_group-2.eu", "tenant_group-2.eu"],
  ])("knows the layer %j as %j", ([given, layer]) => {
    expect(parse(describe1({ ...emailEnabled, layer: given })).flags[0]?.layer).toBe(layer);
  });

  test("takes the layer from the enum that pbflags v0.4 and v0.5 wrote in field 3", () => {
    const layers = ["", "global", "user"].map((layer, i) => ({
      ...digest,
      number: i + 1,
      name: `f${i}`,
      layer,
    }));
    const table = parse(describeFlags([{ feature: "old", flags: layers }], { layers: "enum" }));
    expect(table.flags.map(({ layer }) => layer)).toEqual(["", "", "user"]);
  });

  test("believes field 5 where both name a layer", () => {
    const set = edited(notifications, (file) => {
      const option = create(FlagOptionsSchema, { layer: "tenant" });
      option.$unknown = [{ no: 3, wireType: WireType.Varint, data: Uint8Array.of(2) }];
      setFlag(file, option);
    });
    expect(parse(set).find("notifications/2")?.layer).toBe("tenant");
  });

  test("counts a field once that comes in two pieces, as protobuf allows", () => {
    const set = edited(notifications, (file) => {
      const options = field(file).options ?? create(FieldOptionsSchema);
      const more = toBinary(FlagOptionsSchema, create(FlagOptionsSchema, { description: "More." }));
      const data = new BinaryWriter().bytes(more).finish();
      options.$unknown = [
        ...(options.$unknown ?? []),
        { no: flag.number, wireType: WireType.LengthDelimited, data },
      ];
    });
    expect(parse(set).find("notifications/2")).toMatchObject({
      description: "More.",
      defaultValue: { value: { value: "daily" } },
    });
  });

  test("may be that there are no flags", () => {
    expect(parse(new Uint8Array())).toMatchObject({ features: [], flags: [] });
    expect(parse(describeFlags([])).flags).toEqual([]);
    expect(parse(describeFlags([{ feature: "empty", flags: [] }]))).toMatchObject({
      features: [{ id: "empty" }],
      flags: [],
    });
  });

  test("finds features in nested messages", () => {
    const set = edited(notifications, (file) => {
      const [inner] = file.messageType;
      if (inner !== undefined)
        file.messageType = [{ ...inner, name: "Outer", options: undefined, field: [], nestedType: [inner] }];
    });
    expect(parse(set).features).toMatchObject([{ id: "notifications", displayName: "Feature0" }]);
    expect(parse(set).flags).toHaveLength(2);
  });
});

describe("several sources", () => {
  const search = describeFlags([{ feature: "search", flags: [digest] }], { fileName: "search.proto" });
  const both = describeFlags([notifications]);

  test("are merged", () => {
    const table = parseDescriptors([source("a.pb", both), source("b.pb", search)]);
    expect(table.features.map(({ id }) => id)).toEqual(["notifications", "search"]);
  });

  test("may hold the same file, even from other compilers", () => {
    const commented = edited(notifications, (file) => {
      file.syntax = "";
      file.dependency = ["pbflags/options.proto"];
    });
    expect(parseDescriptors([source("a.pb", both), source("b.pb", commented)]).flags).toHaveLength(2);
  });

  test("must not hold one file with different flags", () => {
    const other = describeFlags([{ ...notifications, flags: [emailEnabled] }]);
    expect(problemsOf(source("a.pb", both), source("b.pb", other))).toEqual([
      "flags.proto: it must define the same flags everywhere, got others in b.pb than in a.pb",
    ]);
  });

  test("must not define one feature twice", () => {
    const again = describeFlags([{ feature: "notifications", flags: [] }], { fileName: "again.proto" });
    expect(problemsOf(source("a.pb", both), source("b.pb", again))).toEqual([
      'again.proto: Feature0: the feature id must be unique, got "notifications" as in flags.proto: Feature0',
    ]);
  });
});

describe("a set with a mistake is refused, naming file, message and field:", () => {
  const refused: readonly (readonly [
    what: string,
    edit: (file: FileDescriptorProto) => void,
    problem: string,
  ])[] = [
    ...(
      [
        ["INT32", "int32"],
        ["UINT64", "uint64"],
        ["FLOAT", "float"],
        ["BYTES", "bytes"],
        ["ENUM", "enum"],
        ["MESSAGE", "message"],
        ["GROUP", "group"],
        ["UINT32", "uint32"],
        ["FIXED64", "fixed64"],
        ["SFIXED32", "sfixed32"],
      ] as const
    ).map(
      ([type, kind]) =>
        [
          `a flag of kind ${kind}`,
          (file: FileDescriptorProto) => {
            field(file).type = FieldDescriptorProto_Type[type];
          },
          `flags.proto: Feature0.digest_frequency: a flag must be bool, string, int64, sint64, sfixed64, double or a list of these, got ${kind}`,
        ] as const,
    ),
    [
      "a flag of a message type",
      (file) => {
        Object.assign(field(file), {
          type: FieldDescriptorProto_Type.MESSAGE,
          typeName: ".test.Limits",
          label: 3,
        });
      },
      "flags.proto: Feature0.digest_frequency: a flag must be bool, string, int64, sint64, sfixed64, double or a list of these, got repeated message .test.Limits",
    ],
    [
      "a flag of an unknown kind",
      (file) => {
        Object.assign(field(file), { type: 99 });
      },
      "flags.proto: Feature0.digest_frequency: a flag must be bool, string, int64, sint64, sfixed64, double or a list of these, got type 99",
    ],
    [
      "a default of another type",
      (file) => setFlag(file, { default: { value: { case: "int64Value", value: { value: 3n } } } }),
      "flags.proto: Feature0.digest_frequency: the default must be string_value, got int64_value",
    ],
    [
      "a list as default of a scalar",
      (file) => setFlag(file, { default: { value: { case: "stringListValue", value: { values: ["a"] } } } }),
      "flags.proto: Feature0.digest_frequency: the default must be string_value, got string_list_value",
    ],
    [
      "a default of a kind yet unknown",
      (file) => {
        const option = create(FlagOptionsSchema, { default: {} });
        if (option.default)
          option.default.$unknown = [{ no: 9, wireType: WireType.Varint, data: Uint8Array.of(1) }];
        setFlag(file, option);
      },
      "flags.proto: Feature0.digest_frequency: the default must be string_value, got a field unknown here",
    ],
    [
      "a flag outside of a feature",
      (file) => {
        message(file).options = undefined;
        message(file).field.splice(1);
      },
      "flags.proto: Feature0.digest_frequency: a flag must stand in a message with the option (pbflags.feature), got one without",
    ],
    [
      "a flag as an extension",
      (file) => {
        message(file).extension = message(file).field.splice(0, 1);
      },
      "flags.proto: Feature0.digest_frequency: a flag must be a field of its message, got an extension",
    ],
    [
      "a blank feature id",
      (file) => setFeature(file, ""),
      'flags.proto: Feature0: the feature id must not be blank, got ""',
    ],
    [
      "a feature id with a space at its end",
      (file) => setFeature(file, "notifications "),
      'flags.proto: Feature0: the feature id must not begin or end with a space, got "notifications "',
    ],
    [
      "a feature id that is too long",
      (file) => setFeature(file, "n".repeat(256)),
      "flags.proto: Feature0: the feature id must have at most 255 characters, got 256",
    ],
    [
      "a feature id with a control character",
      (file) => setFeature(file, "a\nb"),
      'flags.proto: Feature0: the feature id must not contain control characters, got "a\\nb"',
    ],
    [
      "an owner that is too long",
      (file) => setFeature(file, "notifications", { owner: "o".repeat(256) }),
      "flags.proto: Feature0: the owner must have at most 255 characters, got 256",
    ],
    [
      "a description that the database cannot hold",
      (file) => setFeature(file, "notifications", { description: "a\0b" }),
      'flags.proto: Feature0: the description must not contain a NUL character, got "a\\u0000b"',
    ],
    [
      "a layer that is too long",
      (file) => setFlag(file, { layer: "l".repeat(51) }),
      "flags.proto: Feature0.digest_frequency: the layer must have at most 50 characters, got 51",
    ],
    [
      "a layer that is no word",
      (file) => setFlag(file, { layer: "user " }),
      'flags.proto: Feature0.digest_frequency: the layer must be letters, digits, _ . and -, got "user "',
    ],
    [
      "a layer that pbflags v0.5 did not have",
      (file) => {
        const option = create(FlagOptionsSchema);
        option.$unknown = [{ no: 3, wireType: WireType.Varint, data: Uint8Array.of(7) }];
        setFlag(file, option);
      },
      "flags.proto: Feature0.digest_frequency: the layer in field 3 must be 0, 1 or 2, got 7",
    ],
    [
      "a field without a name",
      (file) => {
        field(file).name = "";
      },
      'flags.proto: Feature0.(unnamed): the name must be at most 255 letters, digits and _, got ""',
    ],
    [
      "a field with a number out of range",
      (file) => {
        field(file).number = 0;
      },
      "flags.proto: Feature0.digest_frequency: the number must be 1 to 536870911, got 0",
    ],
    [
      "a field number twice",
      (file) => {
        field(file).number = 1;
      },
      'flags.proto: Feature0.email_enabled: the field number must be unique, got "notifications/1" as in flags.proto: Feature0.digest_frequency',
    ],
    [
      "a field name twice",
      (file) => {
        field(file).name = "email_enabled";
      },
      'flags.proto: Feature0.email_enabled: the field name must be unique, got "notifications.email_enabled" as in flags.proto: Feature0.email_enabled',
    ],
    [
      "a message without a name",
      (file) => {
        message(file).name = "";
      },
      'flags.proto: (unnamed): the name must be at most 255 letters, digits and _, got ""',
    ],
  ];

  test.for(refused)("%s", ([, edit, problem]) => {
    expect(problemsOf(source("flags.pb", edited(notifications, edit)))).toEqual([problem]);
  });

  test("an option whose text is not UTF-8", () => {
    const broken = Buffer.from(describe1({ ...digest, default: "daily" }));
    broken[broken.lastIndexOf("daily")] = 0xff;
    expect(problemsOf(source("flags.pb", broken))).toEqual([
      expect.stringMatching(
        /^flags.proto: Feature0.digest_frequency: the option must be a pbflags.FlagOptions, got bytes/,
      ),
    ]);
  });

  test("an option whose bytes do not fit its definition", () => {
    const set = edited(notifications, (file) => {
      const options = create(FieldOptionsSchema);
      // The description as a number, which the library would take for a length.
      const data = new BinaryWriter().bytes(Uint8Array.of(0x08, 0x05)).finish();
      options.$unknown = [{ no: flag.number, wireType: WireType.LengthDelimited, data }];
      field(file).options = options;
    });
    expect(problemsOf(source("flags.pb", set))).toEqual([
      "flags.proto: Feature0.digest_frequency: the option must be a pbflags.FlagOptions, got bytes that are none (the bytes of field description do not fit its type)",
    ]);
  });

  test("everything that is wrong, at once", () => {
    const set = edited(notifications, (file) => {
      setFeature(file, " ");
      setFlag(file, { layer: "?" });
      field(file).type = FieldDescriptorProto_Type.INT32;
    });
    const error = errorOf([source("flags.pb", set)]);
    expect(error.problems).toHaveLength(2);
    expect(error.message).toBe(`Cannot use descriptors:\n  ${error.problems.join("\n  ")}`);
  });

  test("but not more than a log can hold", () => {
    const flags = Array.from({ length: 1_000 }, (_, i) => ({
      ...digest,
      number: i + 1,
      name: `f_${i}`,
      layer: "?",
    }));
    const problems = problemsOf(source("flags.pb", describeFlags([{ feature: "f", flags }])));
    expect(problems).toHaveLength(101);
    expect(problems.at(-1)).toBe("and perhaps more");
  });
});

describe("bytes that are no FileDescriptorSet are refused, naming the source:", () => {
  const valid = describeFlags([notifications]);
  const deep = nested(101);

  test.for<[what: string, bytes: Uint8Array, problem: RegExp]>([
    [
      "text",
      Buffer.from("this is not a descriptor set"),
      /^x.pb: it must be a usable FileDescriptorSet, got /,
    ],
    ["JSON", Buffer.from('{"file": []}'), /^x.pb: it must be a usable FileDescriptorSet, got /],
    ["a set that was cut off", valid.subarray(0, -1), /got premature EOF$/],
    ["a single file", valid.subarray(3), /^x.pb: it must be a usable FileDescriptorSet, got /],
    ["another message", Uint8Array.of(0x10, 0x01), /got field 2, where only 1 is known$/],
    ["a file without a name", Uint8Array.of(0x0a, 0x00), /got a file has no name$/],
    ["a group that never ends", Uint8Array.of(0x0b), /got /],
    ["a number that never ends", new Uint8Array(1_000).fill(0xff), /got /],
    ["messages nested too deeply", deep, /got messages are nested deeper than 100$/],
    ["a name that is too long", describeFlags([], { fileName: "n".repeat(2_000) }), /got .* more than 1024$/],
  ])("%s", ([, bytes, problem]) => {
    expect(problemsOf(source("x.pb", bytes))).toEqual([expect.stringMatching(problem)]);
  });

  test("more flags than could be served", () => {
    const flags = Array.from({ length: 20_001 }, (_, i) => ({
      number: i + 1,
      name: `f_${i}`,
      type: "BOOL" as const,
    }));
    expect(problemsOf(source("x.pb", describeFlags([{ feature: "f", flags }])))).toEqual([
      "x.pb: it must be a usable FileDescriptorSet, got more than 20000 features and flags",
    ]);
  });

  test("and what they call themselves breaks no line of a log", () => {
    const set = edited(notifications, (file) => {
      file.name = "evil\nname\u001b[31m";
      setFeature(file, "");
    });
    expect(errorOf([source("x.pb", set)]).problems.join()).not.toMatch(/\p{Cc}/u);
  });
});

function source(name: string, bytes: Uint8Array) {
  return { name, bytes };
}

function parse(bytes: Uint8Array) {
  return parseDescriptors([source("flags.pb", bytes)]);
}

function describe1(flagSpec: FlagSpec): Uint8Array {
  return describeFlags([{ feature: "notifications", flags: [flagSpec] }]);
}

function problemsOf(...sources: readonly { name: string; bytes: Uint8Array }[]): readonly string[] {
  return errorOf(sources).problems;
}

function errorOf(sources: readonly { name: string; bytes: Uint8Array }[]): DescriptorError {
  try {
    parseDescriptors(sources);
  } catch (error) {
    if (error instanceof DescriptorError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

/** A set with one file and one feature, after a change to that file. */
function edited(spec: FeatureSpec, edit: (file: FileDescriptorProto) => void): Uint8Array {
  const set = fromBinary(FileDescriptorSetSchema, describeFlags([spec]));
  for (const file of set.file) edit(file);
  return toBinary(FileDescriptorSetSchema, set);
}

function message(file: FileDescriptorProto) {
  const [first] = file.messageType;
  if (first === undefined) throw new Error("no message");
  return first;
}

/** The first field of the first message. */
function field(file: FileDescriptorProto) {
  const [first] = message(file).field;
  if (first === undefined) throw new Error("no field");
  return first;
}

function setFlag(
  file: FileDescriptorProto,
  option: Parameters<typeof create<typeof FlagOptionsSchema>>[1],
): void {
  const options = create(FieldOptionsSchema);
  setExtension(options, flag, create(FlagOptionsSchema, option));
  field(file).options = options;
}

function setFeature(
  file: FileDescriptorProto,
  id: string,
  more: { owner?: string; description?: string } = {},
): void {
  const options = create(MessageOptionsSchema);
  setExtension(options, feature, create(FeatureOptionsSchema, { id, ...more }));
  message(file).options = options;
}

/** A file with messages in messages. */
function nested(depth: number): Uint8Array {
  let bytes = new BinaryWriter().tag(1, WireType.LengthDelimited).string("M").finish();
  for (let i = 1; i < depth; i++) {
    const name = new BinaryWriter().tag(1, WireType.LengthDelimited).string("M");
    bytes = name.tag(3, WireType.LengthDelimited).bytes(bytes).finish();
  }
  const file = new BinaryWriter().tag(1, WireType.LengthDelimited).string("deep.proto");
  const inner = file.tag(4, WireType.LengthDelimited).bytes(bytes).finish();
  return new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(inner).finish();
}
