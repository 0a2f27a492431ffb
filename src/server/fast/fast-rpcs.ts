import { isLater, type MaybeLater } from "../../evaluation/evaluator.ts";
import type { Evaluation } from "../../evaluation/precedence.ts";
import { FlagEvaluatorService } from "../../gen/pbflags/v1/evaluator_pb.ts";
import type { Namespace } from "../../namespaces/namespace.ts";
import { namesAsked } from "../evaluator-service.ts";
import { procedureOf } from "../rpc/codes.ts";
import { EncodedAnswers } from "./encoded-answers.ts";
import { readBulkJson, readEvaluateJson } from "./read-json.ts";
import { readBulk, readEvaluate } from "./read-message.ts";
import { type ByteText, toFrame } from "./write-answer.ts";

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
  answer(message: Buffer, form: Form): MaybeLater<ByteText> | undefined;
}

export interface FastRpcOptions {
  readonly namespace: Pick<Namespace, "flags" | "evaluate" | "evaluateMany">;
  /** How many flags one request may name. */
  readonly bulkFlagsMax: number;
}

/** Evaluate and BulkEvaluate. */
export function createFastRpcs({ namespace, bulkFlagsMax }: FastRpcOptions): readonly FastRpc[] {
  const encoded = new EncodedAnswers(namespace.flags);

  function encodeOne(name: string, evaluation: Evaluation, form: Form): ByteText {
    const answer = encoded.of(name, evaluation);
    if (form === "grpc") return answer.framed;
    return form === "json" ? answer.json : answer.proto;
  }

  function encodeMany(names: readonly string[], evaluations: readonly Evaluation[], form: Form): ByteText {
    let message = "";
    for (const [i, evaluation] of evaluations.entries()) {
      const answer = encoded.of(names[i] ?? "", evaluation);
      if (form !== "json") message += answer.entry;
      else message += message === "" ? answer.json : `,${answer.json}`;
    }
    if (form === "grpc") return toFrame(message);
    if (form === "proto") return message;
    // As proto3's JSON has it, an empty list is left out.
    return message === "" ? "{}" : `{"evaluations":[${message}]}`;
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
