import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { create, fromJson, type JsonValue, setExtension, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import {
  type DescriptorProto,
  DescriptorProtoSchema,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FieldDescriptorProtoSchema,
  FieldOptionsSchema,
  FileDescriptorSetSchema,
  MessageOptionsSchema,
} from "@bufbuild/protobuf/wkt";
import type { FlagType } from "../../src/flags/definition.ts";
import { caseOfType } from "../../src/flags/flag-value.ts";
import {
  FeatureOptionsSchema,
  type FlagDefault,
  FlagDefaultSchema,
  FlagOptionsSchema,
  feature as featureOption,
  flag as flagOption,
} from "../../src/gen/pbflags/options_pb.ts";

/** A feature as a test writes it down. */
export interface FeatureSpec {
  readonly feature: string;
  readonly description?: string;
  readonly owner?: string;
  readonly flags: readonly FlagSpec[];
}

/** A flag as a test writes it down. */
export interface FlagSpec {
  readonly number: number;
  readonly name: string;
  readonly type: FlagType;
  readonly layer?: string;
  readonly default?: DefaultSpec;
  readonly description?: string;
}

/** As the type asks for it: `true`, `"daily"`, `3n`, `0.5`, or a list of these. */
export type DefaultSpec =
  | boolean
  | string
  | bigint
  | number
  | readonly (boolean | string | bigint | number)[];

export interface DescribeOptions {
  /** Where the layer goes: `string` is field 5, as now; `enum` field 3, as in pbflags v0.4 and v0.5. */
  readonly layers?: "string" | "enum";
  readonly fileName?: string;
}

/** The bytes of a FileDescriptorSet that defines these features in one file. Fast: nothing is compiled. */
export function describeFlags(features: readonly FeatureSpec[], options: DescribeOptions = {}): Uint8Array {
  const { layers = "string", fileName = "flags.proto" } = options;
  return toBinary(
    FileDescriptorSetSchema,
    create(FileDescriptorSetSchema, {
      file: [
        {
          name: fileName,
          package: "test",
          syntax: "proto3",
          messageType: features.map((feature, i) => toMessage(feature, `Feature${i}`, layers)),
        },
      ],
    }),
  );
}

/** As many flags as asked for, over all types, with layers and defaults, `perFeature` to a feature. */
export function manyFeatures(flagCount: number, perFeature = 50): readonly FeatureSpec[] {
  return Array.from({ length: Math.ceil(flagCount / perFeature) }, (_, i) => ({
    feature: `feature-${i}`,
    description: `The feature with the number ${i}.`,
    owner: "team-test",
    flags: Array.from({ length: Math.min(perFeature, flagCount - i * perFeature) }, (_unused, j) => {
      const type = types[j % types.length] ?? "BOOL";
      return {
        number: j + 1,
        name: `flag_${j + 1}`,
        type,
        layer: j % 3 === 0 ? "user" : "",
        description: `What flag ${j + 1} of feature ${i} switches.`,
        ...(j % 5 === 4 ? {} : { default: sampleDefaults[type] }),
      };
    }),
  }));
}

/** The bytes of the FileDescriptorSet that buf makes of .proto sources by path. Slow: starts a compiler. */
export async function buildDescriptors(
  sources: Readonly<Record<string, string>>,
  options: { readonly arguments?: readonly string[] } = {},
): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), "pbflagd-buf-"));
  try {
    const protos = join(folder, "protos");
    await cp(join(project, "proto/pbflags/options.proto"), join(protos, "pbflags/options.proto"));
    for (const [path, source] of Object.entries(sources)) {
      await mkdir(dirname(join(protos, path)), { recursive: true });
      await writeFile(join(protos, path), source);
    }
    const out = join(folder, "out.binpb");
    await buf(["build", protos, "-o", out, ...(options.arguments ?? [])], join(folder, "cache"));
    return await readFile(out);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const project = new URL("../../", import.meta.url).pathname;

async function buf(args: readonly string[], cache: string): Promise<void> {
  const program = join(project, "node_modules/@bufbuild/buf/bin/buf");
  await promisify(execFile)(process.execPath, [program, ...args], {
    env: { ...process.env, BUF_CACHE_DIR: cache },
  });
}

function toMessage(spec: FeatureSpec, name: string, layers: "string" | "enum"): DescriptorProto {
  const options = create(MessageOptionsSchema);
  const { feature: id, description = "", owner = "" } = spec;
  setExtension(options, featureOption, create(FeatureOptionsSchema, { id, description, owner }));
  return create(DescriptorProtoSchema, {
    name,
    options,
    field: spec.flags.map((flag) => toField(flag, layers)),
  });
}

function toField(spec: FlagSpec, layers: "string" | "enum"): FieldDescriptorProto {
  const { name, number, type, layer = "", description = "" } = spec;
  const option = create(FlagOptionsSchema, { description });
  if (spec.default !== undefined) option.default = toDefault(type, spec.default);
  if (layers === "string") option.layer = layer;
  else
    option.$unknown = [{ no: 3, wireType: WireType.Varint, data: Uint8Array.of(oldLayers.indexOf(layer)) }];
  const options = create(FieldOptionsSchema);
  setExtension(options, flagOption, option);
  return create(FieldDescriptorProtoSchema, {
    name,
    number,
    type: fieldTypes[type],
    label: type.endsWith("_LIST") ? FieldDescriptorProto_Label.REPEATED : FieldDescriptorProto_Label.OPTIONAL,
    jsonName: name,
    options,
  });
}

/** By their number in the enum of pbflags v0.4 and v0.5. */
const oldLayers = ["", "global", "user"];

function toDefault(type: FlagType, value: DefaultSpec): FlagDefault {
  const json = Array.isArray(value) ? { values: value.map(toJsonValue) } : toJsonValue(value);
  return fromJson(FlagDefaultSchema, { [caseOfType[type]]: json });
}

/** Protobuf's JSON writes int64 as text, and NaN as well. */
function toJsonValue(value: unknown): JsonValue {
  if (typeof value === "boolean" || typeof value === "string") return value;
  return typeof value === "number" && Number.isFinite(value) ? value : String(value);
}

const fieldTypes: Readonly<Record<FlagType, FieldDescriptorProto_Type>> = {
  BOOL: FieldDescriptorProto_Type.BOOL,
  STRING: FieldDescriptorProto_Type.STRING,
  INT64: FieldDescriptorProto_Type.INT64,
  DOUBLE: FieldDescriptorProto_Type.DOUBLE,
  BOOL_LIST: FieldDescriptorProto_Type.BOOL,
  STRING_LIST: FieldDescriptorProto_Type.STRING,
  INT64_LIST: FieldDescriptorProto_Type.INT64,
  DOUBLE_LIST: FieldDescriptorProto_Type.DOUBLE,
};

const sampleDefaults = {
  BOOL: true,
  STRING: "daily",
  INT64: 3n,
  DOUBLE: 0.5,
  BOOL_LIST: [true, false],
  STRING_LIST: ["red", "green"],
  INT64_LIST: [1n, 2n, 3n],
  DOUBLE_LIST: [0.25, 0.75],
} satisfies Record<FlagType, DefaultSpec>;

const types: readonly FlagType[] = [
  "BOOL",
  "STRING",
  "INT64",
  "DOUBLE",
  "BOOL_LIST",
  "STRING_LIST",
  "INT64_LIST",
  "DOUBLE_LIST",
];
