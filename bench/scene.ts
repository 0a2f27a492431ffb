import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type DescFile, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { Source } from "../src/evaluation/precedence.ts";
import { loadDescriptors } from "../src/flags/load-descriptors.ts";
import { file_pbflags_options } from "../src/gen/pbflags/options_pb.ts";
import { syncDefinitions } from "../src/store/sync-definitions.ts";
import { describeFlags, type FeatureSpec, manyFeatures } from "../test/support/descriptors.ts";
import type { BenchDatabase } from "./bench-database.ts";

/** How much there is. */
export const FLAG_COUNT = 5_000;
export const ENTITY_COUNT = 10_000;
/** As many in a hundred have overrides. */
const OVERRIDDEN_PERCENT = 1;

/** What is asked for in bulk: of every feature the one flag that is a string with a default and varies by user. */
export const ASKED_FLAGS: readonly string[] = Array.from(
  { length: FLAG_COUNT / 50 },
  (_, i) => `feature-${i}/34`,
);

/** What is asked for alone: a flag with a value, and overrides. */
export const [ONE_FLAG = ""] = ASKED_FLAGS;

/** For whoever changes something meanwhile: of every feature the first string, which nobody asks for. */
export const CHANGED_FLAGS: readonly string[] = Array.from(
  { length: FLAG_COUNT / 50 },
  (_, i) => `feature-${i}/2`,
);

/** Entities by how often they are asked for: those with overrides are spread over all of them. */
export const ENTITIES: readonly string[] = Array.from({ length: ENTITY_COUNT }, (_, i) => `user-${i}`);

/** One with overrides. */
export const OVERRIDDEN_ENTITY = `user-${100 / OVERRIDDEN_PERCENT}`;

export function hasOverrides(entityId: string): boolean {
  return Number(entityId.slice("user-".length)) % (100 / OVERRIDDEN_PERCENT) === 0;
}

/** What has to be answered. */
export interface Expected {
  readonly flagId: string;
  readonly source: Source;
  readonly value: string;
}

/** Of the flags that are asked for, a quarter is killed, a quarter has no value, and a fifth of the rest is overridden. */
export function expect(flagId: string, entityId: string): Expected {
  const i = ASKED_FLAGS.indexOf(flagId);
  if (i % 4 === 3) return { flagId, source: "killed", value: "daily" };
  if (isOverridden(i) && entityId !== "" && hasOverrides(entityId))
    return { flagId, source: "override", value: "never" };
  if (i % 4 === 2) return { flagId, source: "default", value: "daily" };
  return { flagId, source: "global", value: "weekly" };
}

/** Whether the asked-for flag with this number has overrides. */
export function isOverridden(i: number): boolean {
  return i % 5 === 0;
}

/** Describes the flags in a file, writes it all into the database, and resolves with the file's path. */
export async function furnish({ database, folder }: BenchDatabase): Promise<string> {
  // The daemon watches where it stands: not where the load writes.
  const own = join(folder, "descriptors");
  await mkdir(own);
  const descriptors = join(own, "flags.pb");
  await writeFile(descriptors, describeCompletely(manyFeatures(FLAG_COUNT)));
  await syncDefinitions(database, await loadDescriptors(descriptors), { actor: "bench" });
  const valued = ASKED_FLAGS.filter((_, i) => i % 4 !== 2);
  const killed = ASKED_FLAGS.filter((_, i) => i % 4 === 3);
  const overridden = ASKED_FLAGS.filter((_, i) => isOverridden(i));
  await database.query("SELECT feature_flags.set_value(flag, 'weekly'::text) FROM unnest($1::text[]) flag", [
    valued,
  ]);
  await database.query("SELECT feature_flags.kill(flag) FROM unnest($1::text[]) flag", [killed]);
  await database.query(
    `SELECT feature_flags.set_override(flag, entity, 'never'::text)
       FROM unnest($1::text[]) flag, unnest($2::text[]) entity`,
    [overridden, ENTITIES.filter(hasOverrides)],
  );
  return descriptors;
}

/** With the files that are imported, as compilers write it: pbflags looks its options up there. */
function describeCompletely(features: readonly FeatureSpec[]): Uint8Array {
  const set = fromBinary(FileDescriptorSetSchema, describeFlags(features));
  for (const file of set.file) file.dependency.push(file_pbflags_options.proto.name);
  set.file.unshift(...withImports(file_pbflags_options).map(({ proto }) => proto));
  return toBinary(FileDescriptorSetSchema, set);
}

/** Each after those that it imports. */
function withImports(file: DescFile): readonly DescFile[] {
  return [...new Set([...file.dependencies.flatMap(withImports), file])];
}
