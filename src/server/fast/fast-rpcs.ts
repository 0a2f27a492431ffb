import { isLater, type MaybeLater } from "../../evaluation/evaluator.ts";
import type { FlagTable } from "../../flags/definition.ts";
import type { Namespace } from "../../namespaces/namespace.ts";
import type { ByteText } from "../byte-text.ts";
import { namesAsked } from "../evaluator-service.ts";
import { BULK_EVALUATE, EVALUATE } from "../procedures.ts";
import type { Evaluating } from "../trace-evaluations.ts";
import type { KeptAnswer } from "./compression.ts";
import { EncodedAnswers } from "./encoded-answers.ts";
import { NameList } from "./name-list.ts";
import { readEvaluateJson } from "./read-json.ts";
import { readEvaluate } from "./read-message.ts";
import { JSON_READER, PROTO_READER, RememberedLists } from "./remembered-lists.ts";

/** How messages are written. gRPC's are proto, and those of answers stand in a frame. */
export type Form = "proto" | "json" | "grpc";

/** An RPC that can be answered in few steps. */
export interface FastRpc {
  /** `package.Service/Method`. */
  readonly procedure: string;
  /**
   * The answer to a request's message, as it is sent. Undefined for what is better left to Connect's implementation:
   * what cannot be read, and what is refused.
   */
  answer(message: Buffer, form: Form): MaybeLater<ByteText | KeptAnswer> | undefined;
}

export interface FastRpcOptions {
  readonly namespace: Pick<Namespace, "flags">;
  readonly evaluating: Evaluating;
  /** How many flags one request may name. */
  readonly bulkFlagsMax: number;
}

/** Evaluate and BulkEvaluate. */
export function createFastRpcs({ namespace, evaluating, bulkFlagsMax }: FastRpcOptions): readonly FastRpc[] {
  const encoded = new EncodedAnswers(namespace);
  const lists = new RememberedLists(PROTO_READER);
  const jsonLists = new RememberedLists(JSON_READER);
  const all = new WeakMap<FlagTable, NameList>();

  /** All that are defined, unless it names some. */
  function listOf(list: NameList): NameList {
    if (list.names.length > 0) return list;
    const table = namespace.flags.value;
    const known = all.get(table);
    if (known !== undefined) return known;
    const made = new NameList(namesAsked(table, []));
    all.set(table, made);
    return made;
  }

  return [
    {
      procedure: EVALUATE,
      answer(message, form) {
        const question = form === "json" ? readEvaluateJson(message) : readEvaluate(message);
        if (question === undefined || question.flagId === "") return undefined;
        const { flagId, entityId } = question;
        const evaluation = evaluating.evaluate(flagId, entityId);
        if (isLater(evaluation)) return evaluation.then((later) => encoded.of(flagId, later).alone(form));
        return encoded.of(flagId, evaluation).alone(form);
      },
    },
    {
      procedure: BULK_EVALUATE,
      answer(message, form) {
        const question = (form === "json" ? jsonLists : lists).read(message);
        if (question === undefined || question.list.names.length > bulkFlagsMax) return undefined;
        const list = listOf(question.list);
        const evaluations = list.evaluate(evaluating, question.entityId);
        if (isLater(evaluations)) return evaluations.then((later) => list.write(later, form, encoded));
        return list.write(evaluations, form, encoded);
      },
    },
  ];
}
