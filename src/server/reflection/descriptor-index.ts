import {
  type DescExtension,
  type DescFile,
  type DescMessage,
  type DescService,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";

/** Finds the files of descriptors by what they define. Never changes. */
export interface DescriptorIndex {
  /** Full names of the services, ordered. */
  readonly services: readonly string[];
  fileNamed(name: string): DescFile | undefined;
  /** The file that defines a message, enum, service, extension, or one of their parts. */
  fileDefining(symbol: string): DescFile | undefined;
  /** The extensions of a message that are known here; undefined if the message is not. */
  extensionsOf(message: string): readonly DescExtension[] | undefined;
}

/** Indexes the services' files and everything these import. */
export function indexDescriptors(services: readonly DescService[]): DescriptorIndex {
  const files = new Map<string, DescFile>();
  for (const { file } of services) for (const one of withDependencies(file)) files.set(one.proto.name, one);
  const symbols = new Map<string, DescFile>();
  const extensions = new Map<string, DescExtension[]>();
  for (const file of files.values()) {
    for (const symbol of symbolsOf(file)) symbols.set(symbol, file);
    for (const extension of extensionsIn(file)) {
      const { typeName } = extension.extendee;
      extensions.set(typeName, [...(extensions.get(typeName) ?? []), extension]);
    }
  }
  return {
    services: services.map((service) => service.typeName).toSorted(),
    fileNamed: (name) => files.get(name),
    fileDefining: (symbol) => symbols.get(symbol),
    extensionsOf: (message) => extensions.get(message) ?? (symbols.has(message) ? [] : undefined),
  };
}

/** A file and all that it imports, directly or not, itself first. */
export function withDependencies(file: DescFile): readonly DescFile[] {
  const found = new Set([file]);
  for (const one of found) for (const dependency of one.dependencies) found.add(dependency);
  return [...found];
}

/** A file as a `FileDescriptorProto`. */
export function encodeFile(file: DescFile): Uint8Array {
  return toBinary(FileDescriptorProtoSchema, file.proto);
}

function* symbolsOf(file: DescFile): Generator<string> {
  for (const message of file.messages) yield* symbolsOfMessage(message);
  for (const { typeName, values, parent } of file.enums) {
    yield typeName;
    // A value is named beside its enum, not within it.
    const scope = parent?.typeName ?? file.proto.package;
    for (const value of values) yield `${scope}.${value.name}`;
  }
  for (const extension of file.extensions) yield extension.typeName;
  for (const { typeName, methods } of file.services) {
    yield typeName;
    for (const method of methods) yield `${typeName}.${method.name}`;
  }
}

function* symbolsOfMessage(message: DescMessage): Generator<string> {
  const { typeName, fields, oneofs, nestedEnums, nestedMessages, nestedExtensions } = message;
  yield typeName;
  for (const part of [...fields, ...oneofs]) yield `${typeName}.${part.name}`;
  for (const nested of nestedEnums) {
    yield nested.typeName;
    for (const value of nested.values) yield `${typeName}.${value.name}`;
  }
  for (const extension of nestedExtensions) yield extension.typeName;
  for (const nested of nestedMessages) yield* symbolsOfMessage(nested);
}

function* extensionsIn(scope: DescFile | DescMessage): Generator<DescExtension> {
  yield* scope.kind === "file" ? scope.extensions : scope.nestedExtensions;
  for (const message of scope.kind === "file" ? scope.messages : scope.nestedMessages)
    yield* extensionsIn(message);
}
