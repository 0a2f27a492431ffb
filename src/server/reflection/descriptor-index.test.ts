import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { FlagAdminService } from "../../gen/pbflags/v1/admin_pb.ts";
import { FlagEvaluatorService } from "../../gen/pbflags/v1/evaluator_pb.ts";
import { encodeFile, indexDescriptors, withDependencies } from "./descriptor-index.ts";
import { answer } from "./reflection-service.ts";

const index = indexDescriptors([FlagEvaluatorService, FlagAdminService]);
const OPTIONS = "pbflags/options.proto";

test("services are listed in order", () => {
  expect(index.services).toEqual(["pbflags.v1.FlagAdminService", "pbflags.v1.FlagEvaluatorService"]);
});

test("everything that a file defines leads to it", () => {
  const home = {
    "pbflags.v1.FlagValue": "pbflags/v1/types.proto",
    "pbflags.v1.FlagValue.value": "pbflags/v1/types.proto",
    "pbflags.v1.State": "pbflags/v1/types.proto",
    "pbflags.v1.STATE_KILLED": "pbflags/v1/types.proto",
    "pbflags.v1.FlagAdminService.GetFlag": "pbflags/v1/admin.proto",
    "pbflags.flag": OPTIONS,
    "google.protobuf.FieldDescriptorProto.Type": "google/protobuf/descriptor.proto",
    "google.protobuf.FieldDescriptorProto.TYPE_BOOL": "google/protobuf/descriptor.proto",
    "google.protobuf.DescriptorProto.ReservedRange.start": "google/protobuf/descriptor.proto",
  };
  for (const [symbol, file] of Object.entries(home))
    expect(index.fileDefining(symbol)?.proto.name, symbol).toBe(file);
  for (const symbol of ["", "pbflags", "pbflags.v1", "pbflags.v1.State.STATE_KILLED", "constructor"]) {
    expect(index.fileDefining(symbol), symbol).toBeUndefined();
  }
});

test("extensions are found by what they extend", () => {
  const containingType = "google.protobuf.FieldOptions";
  expect(answer(index, { case: "allExtensionNumbersOfType", value: containingType })).toEqual({
    case: "allExtensionNumbersResponse",
    value: { baseTypeName: containingType, extensionNumber: [51001] },
  });
  const found = answer(index, {
    case: "fileContainingExtension",
    value: { $typeName: "grpc.reflection.v1.ExtensionRequest", containingType, extensionNumber: 51001 },
  });
  const options = index.fileNamed(OPTIONS);
  expect(found).toEqual({
    case: "fileDescriptorResponse",
    value: { fileDescriptorProto: options === undefined ? [] : withDependencies(options).map(encodeFile) },
  });
  expect(answer(index, { case: "allExtensionNumbersOfType", value: "nobody.Message" })).toMatchObject({
    case: "errorResponse",
  });
});

test("a file comes with everything it imports", () => {
  const admin = index.fileNamed("pbflags/v1/admin.proto");
  const names = admin === undefined ? [] : withDependencies(admin).map((file) => file.proto.name);
  expect(names[0]).toBe("pbflags/v1/admin.proto");
  expect(names.slice(1).toSorted()).toEqual([
    "google/protobuf/descriptor.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/wrappers.proto",
    OPTIONS,
    "pbflags/v1/types.proto",
  ]);
  const decoded = admin === undefined ? undefined : fromBinary(FileDescriptorProtoSchema, encodeFile(admin));
  expect(decoded?.service[0]?.name).toBe("FlagAdminService");
});

test("a request for nothing is answered with an error", () => {
  expect(answer(index, { case: undefined })).toMatchObject({
    case: "errorResponse",
    value: { errorCode: 3 },
  });
});
