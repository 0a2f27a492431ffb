import { create } from "@bufbuild/protobuf";
import {
  BulkEvaluateRequestSchema,
  BulkEvaluateResponseSchema,
  EvaluateRequestSchema,
  type EvaluateResponse,
  EvaluateResponseSchema,
  type EvaluationSource,
  FlagEvaluatorService,
} from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import type { FlagValue } from "../../src/gen/pbflags/v1/types_pb.ts";
import { toWireSource } from "../../src/server/to-wire.ts";
import { seededRandom } from "../../test/support/seeded-random.ts";
import { ASKED_FLAGS, ENTITIES, ENTITY_COUNT, expect, ONE_FLAG, OVERRIDDEN_ENTITY } from "../scene.ts";
import { askOnce } from "./ask-once.ts";
import type { Load } from "./load.ts";
import { PROTOCOLS, type ProtocolName } from "./requests.ts";
import { zipf } from "./zipf.ts";

/** What is asked for, whatever the protocol. */
export interface Question {
  readonly isBulk: boolean;
  /** Whom it is asked for, in turn. */
  readonly entityIds: readonly string[];
  /** As in `Load`. */
  readonly isTraced?: boolean;
}

/** As many requests are prepared, and sent over and over. */
const DRAWS = 4_000;
const draw = zipf(ENTITY_COUNT, seededRandom(1));
const drawn = Array.from({ length: DRAWS }, () => ENTITIES[draw()] ?? "");

/** One flag for many entities. */
export const singleEntities: Question = { isBulk: false, entityIds: drawn };

/** h2load has one body only: what many entities cost is measured over HTTP/1.1. */
export function questionsOf(protocol: ProtocolName): ReadonlyMap<string, Question> {
  const overridden = [OVERRIDDEN_ENTITY];
  const isWrk = PROTOCOLS[protocol].with === "wrk";
  return new Map<string, Question>([
    ["1 flag", { isBulk: false, entityIds: [""] }],
    ...(isWrk
      ? ([
          ["1 flag, entities", { isBulk: false, entityIds: drawn }],
          ["1 flag, entities, traced", { isBulk: false, entityIds: drawn, isTraced: true }],
        ] as const)
      : ([["1 flag, an entity", { isBulk: false, entityIds: overridden }]] as const)),
    ["100 flags", { isBulk: true, entityIds: [""] }],
    ...(isWrk ? [["100 flags, entities", { isBulk: true, entityIds: drawn }] as const] : []),
    ["100 flags, an entity", { isBulk: true, entityIds: overridden }],
  ]);
}

export function createLoad(protocol: ProtocolName, { isBulk, entityIds, isTraced = false }: Question): Load {
  const { with: program, headers, encode } = PROTOCOLS[protocol];
  const { evaluate, bulkEvaluate } = FlagEvaluatorService.method;
  return {
    with: program,
    headers,
    isTraced,
    path: `/${FlagEvaluatorService.typeName}/${(isBulk ? bulkEvaluate : evaluate).name}`,
    bodies: entityIds.map((entityId) =>
      isBulk
        ? encode(
            BulkEvaluateRequestSchema,
            create(BulkEvaluateRequestSchema, { flagIds: [...ASKED_FLAGS], entityId }),
          )
        : encode(EvaluateRequestSchema, create(EvaluateRequestSchema, { flagId: ONE_FLAG, entityId })),
    ),
  };
}

/** As many different bodies are looked at, the one with overrides among them where it is sent. */
const CHECKED_MAX = 50;

export interface Checked {
  readonly protocol: ProtocolName;
  readonly question: Question;
  /** The value has to be right, wherever a server says it is from: what it remembers may be past its time to live. */
  readonly mayBeStale?: boolean;
}

/** Rejects unless a server answers what the scene expects. Resolves with the answer to the first body. */
export async function checkAnswers(
  port: number,
  load: Load,
  { protocol, question, mayBeStale = false }: Checked,
): Promise<Uint8Array> {
  const { decode } = PROTOCOLS[protocol];
  const { isBulk, entityIds } = question;
  for (const [entityId, i] of samples(entityIds)) {
    const answer = await askOnce(port, load, load.bodies[i] ?? new Uint8Array());
    const evaluations = isBulk
      ? decode(BulkEvaluateResponseSchema, answer).evaluations
      : [decode(EvaluateResponseSchema, answer)];
    const flagIds = isBulk ? ASKED_FLAGS : [ONE_FLAG];
    checkEvaluations(evaluations, { flagIds, entityId, mayBeStale });
  }
  return askOnce(port, load, load.bodies[0] ?? new Uint8Array());
}

/** Different entities, each with the place of a body about it. */
function samples(entityIds: readonly string[]): readonly (readonly [string, number])[] {
  const places = [...new Map(entityIds.map((entityId, i) => [entityId, i]))];
  const overridden = places.filter(([entityId]) => entityId === OVERRIDDEN_ENTITY);
  return [...overridden, ...places.slice(0, CHECKED_MAX)];
}

interface Wanted {
  readonly flagIds: readonly string[];
  readonly entityId: string;
  readonly mayBeStale: boolean;
}

function checkEvaluations(
  evaluations: readonly EvaluateResponse[],
  { flagIds, entityId, mayBeStale }: Wanted,
): void {
  const shown = (source: EvaluationSource) => (mayBeStale ? "" : `${source}`);
  const wanted = flagIds.map((flagId) => {
    const { source, value } = expect(flagId, entityId);
    return `${flagId} ${shown(toWireSource[source])} ${value}`;
  });
  const got = evaluations.map(({ flagId, source, value }) => `${flagId} ${shown(source)} ${textOf(value)}`);
  const wrongAt = wanted.findIndex((each, i) => each !== got[i]);
  if (wrongAt < 0 && got.length === wanted.length) return;
  throw new Error(`Cannot measure: for "${entityId}" expected ${wanted[wrongAt]}, got ${got[wrongAt]}`);
}

function textOf(value: FlagValue | undefined): string {
  return value?.value.case === "stringValue" ? value.value.value : "";
}
