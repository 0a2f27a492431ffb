import { create, createFileRegistry, type DescMessage } from "@bufbuild/protobuf";
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FileDescriptorSetSchema,
  file_google_protobuf_struct,
} from "@bufbuild/protobuf/wkt";

const PACKAGE = "flagd.evaluation.v1";
const { STRING, MESSAGE } = FieldDescriptorProto_Type;
const STRUCT = ".google.protobuf.Struct";

/** What is asked of flagd, in the little of its messages that it takes. */
const registry = createFileRegistry(
  create(FileDescriptorSetSchema, {
    file: [
      file_google_protobuf_struct.proto,
      {
        name: "flagd.proto",
        package: PACKAGE,
        syntax: "proto3",
        dependency: [file_google_protobuf_struct.proto.name],
        messageType: [
          {
            name: "ResolveStringRequest",
            field: [describeField("flagKey", 1, STRING), describeField("context", 2, MESSAGE)],
          },
          {
            name: "ResolveStringResponse",
            field: [
              describeField("value", 1, STRING),
              describeField("reason", 2, STRING),
              describeField("variant", 3, STRING),
              describeField("metadata", 4, MESSAGE),
            ],
          },
        ],
      },
    ],
  }),
);

export const RESOLVE_STRING_PATH = `/${PACKAGE}.Service/ResolveString`;
export const ResolveStringRequestSchema = messageOf("ResolveStringRequest");
export const ResolveStringResponseSchema = messageOf("ResolveStringResponse");

function describeField(name: string, number: number, type: typeof STRING | typeof MESSAGE) {
  const label = FieldDescriptorProto_Label.OPTIONAL;
  return { name, jsonName: name, number, type, label, ...(type === MESSAGE ? { typeName: STRUCT } : {}) };
}

function messageOf(name: string): DescMessage {
  const message = registry.getMessage(`${PACKAGE}.${name}`);
  if (message === undefined) throw new Error(`Cannot ask flagd: there is no ${name}`);
  return message;
}
