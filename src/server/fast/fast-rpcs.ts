import { isLater, type MaybeLater } from "../../evaluation/evaluator.ts";
import type { Evaluation } from "../../evaluation/precedence.ts";
import { FlagEvaluatorService } from "../../gen/pbflags/v1/evaluator_pb.ts";
import type { Namespace } from "../../namespaces/namespace.ts";
import { namesAsked } from "../evaluator-service.ts";
import { procedureOf } from "../rpc/codes.ts";
import { EncodedAnswers } from "./encoded-answers.ts";
import { frame } from "./grpc-frame.ts";
import { readBulkJson, readEvaluateJson } from "./read-json.ts";
import { readBulk, readEvaluate } from "./read-message.ts";

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
  answer(message: Buffer, form: Form): MaybeLater<Buffer> | undefined;
}

export interface FastRpcOptions {
  readonly namespace: Pick<Namespace, "flags" | "evaluate" | "evaluateMany">;
  /** How many flags one request may name. */
  readonly bulkFlagsMax: number;
}

/** Evaluate and BulkEvaluate. */
export function createFastRpcs({ namespace, bulkFlagsMax }: FastRpcOptions): readonly FastRpc[] {
  const encoded = new EncodedAnswers(namespace.flags);

  function encodeOne(name: string, evaluation: Evaluation, form: Form): Buffer {
    const answer = encoded.of(name, evaluation);
    if (form === "grpc") return answer.framed;
    return form === "json" ? answer.json : answer.proto;
  }

  function encodeMany(names: readonly string[], evaluations: readonly Evaluation[], form: Form): Buffer {
    const pieces: Buffer[] = [];
    let length = 0;
    for (const [i, evaluation] of evaluations.entries()) {
      const answer = encoded.of(names[i] ?? "", evaluation);
      const piece = form === "json" ? answer.json : answer.entry;
      pieces.push(piece);
      length += piece.length;
    }
    if (form === "json") return joinJson(pieces, length);
    return form === "grpc" ? frame(pieces, length) : Buffer.concat(pieces, length);
  }

  return [
    {
      procedure: procedureOf(FlagEvaluatorService.method.evaluate),
      answer(message, form) {
        const question = form === "json" ? readEvaluateJson(message) : readEvaluate(message);
        if (question === undefined || question.flagId === "") return undefined;
        const { flagId, entityId } = question;
        const evaluation = namespace.evaluate(flagId, entityId);
        if (isLater(evaluation)) return evaluation.then((later) => encodeOne(flagId, later, form));
        return encodeOne(flagId, evaluation, form);
      },
    },
    {
      procedure: procedureOf(FlagEvaluatorService.method.bulkEvaluate),
      answer(message, form) {
        const question = form === "json" ? readBulkJson(message) : readBulk(message);
        if (question === undefined || question.flagIds.length > bulkFlagsMax) return undefined;
        const names = namesAsked(namespace.flags.value, question.flagIds);
        const evaluations = namespace.evaluateMany(names, question.entityId);
        if (isLater(evaluations)) return evaluations.then((later) => encodeMany(names, later, form));
        return encodeMany(names, evaluations, form);
      },
    },
  ];
}

const COMMA = Buffer.from(",");
const BEFORE = Buffer.from('{"evaluations":[');
const AFTER = Buffer.from("]}");
/** An empty list is left out. */
const EMPTY = Buffer.from("{}");

/** A `BulkEvaluateResponse` of elements of `length` bytes in all. */
function joinJson(elements: readonly Buffer[], length: number): Buffer {
  if (elements.length === 0) return EMPTY;
  const joined = Buffer.allocUnsafe(
    BEFORE.length + length + (elements.length - 1) * COMMA.length + AFTER.length,
  );
  joined.set(BEFORE);
  let at = BEFORE.length;
  for (const [i, element] of elements.entries()) {
    if (i > 0) {
      joined.set(COMMA, at);
      at += COMMA.length;
    }
    joined.set(element, at);
    at += element.length;
  }
  joined.set(AFTER, at);
  return joined;
}
