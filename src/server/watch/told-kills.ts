import { create, toBinary } from "@bufbuild/protobuf";
import type { KillSet } from "../../evaluation/kill-set.ts";
import { KillSetSchema } from "../../gen/pbflagd/v1/watch_pb.ts";
import { runAtOnce } from "../../system/run-in-slices.ts";

/** How a caller wants its messages. */
export type Format = "proto" | "json";

/** How many entries are encoded without a pause: a millisecond's work, the first time too. */
const STEP_ENTRIES = 500;

/** A kill set as all are told it: encoded once in each format, whoever many are told. */
export class ToldKills {
  /** Another one for each kill set that holds something else. */
  readonly number: number;
  readonly #killSet: KillSet;
  readonly #encoded = new Map<Format, Uint8Array>();

  constructor(number: number, killSet: KillSet) {
    this.number = number;
    this.#killSet = killSet;
  }

  /** `pbflagd.v1.KillSet`, always the same bytes. At once, unless it was prepared. */
  in(format: Format): Uint8Array {
    return runAtOnce(this.prepare(format));
  }

  /** Encodes it with places to pause. */
  *prepare(format: Format): Generator<undefined, Uint8Array> {
    const known = this.#encoded.get(format);
    if (known !== undefined) return known;
    const encoded = format === "proto" ? yield* encodeProto(this.#killSet) : yield* encodeJson(this.#killSet);
    this.#encoded.set(format, encoded);
    return encoded;
  }
}

/** Messages that follow each other are one with the entries of all. */
function* encodeProto({ polledIds, overrides }: KillSet): Generator<undefined, Uint8Array> {
  const pieces: Uint8Array[] = [];
  for (const flagIds of inSteps([...polledIds])) {
    pieces.push(toBinary(KillSetSchema, create(KillSetSchema, { flagIds: [...flagIds] })));
    yield undefined;
  }
  for (const step of inSteps(overrides)) {
    const killedOverrides = step.map(({ flagId, entityId }) => ({ flagId, entityId }));
    pieces.push(toBinary(KillSetSchema, create(KillSetSchema, { killedOverrides })));
    yield undefined;
  }
  return Buffer.concat(pieces);
}

/** By hand, since the library would encode all of it in one go. What is empty is left out, as everywhere in proto3's JSON. */
function* encodeJson({ polledIds, overrides }: KillSet): Generator<undefined, Uint8Array> {
  const fields: string[] = [];
  if (polledIds.size > 0) fields.push(`"flagIds":[${yield* encodeEntries([...polledIds])}]`);
  if (overrides.length > 0) {
    const entries = overrides.map(({ flagId, entityId }) => ({ flagId, entityId }));
    fields.push(`"killedOverrides":[${yield* encodeEntries(entries)}]`);
  }
  return Buffer.from(`{${fields.join(",")}}`);
}

function* encodeEntries(entries: readonly unknown[]): Generator<undefined, string> {
  const texts: string[] = [];
  for (const step of inSteps(entries)) {
    texts.push(JSON.stringify(step).slice(1, -1));
    yield undefined;
  }
  return texts.join(",");
}

function* inSteps<T>(entries: readonly T[]): Generator<readonly T[], void> {
  for (let at = 0; at < entries.length; at += STEP_ENTRIES) yield entries.slice(at, at + STEP_ENTRIES);
}
