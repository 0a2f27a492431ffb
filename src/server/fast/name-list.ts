import { BulkMemory, type MaybeLater } from "../../evaluation/evaluator.ts";
import type { Evaluation } from "../../evaluation/precedence.ts";
import { type ByteText, inOnePiece } from "../byte-text.ts";
import type { Evaluating } from "../trace-evaluations.ts";
import { KeptAnswer } from "./compression.ts";
import type { EncodedAnswer, EncodedAnswers } from "./encoded-answers.ts";
import type { Form } from "./fast-rpcs.ts";
import { toFrame } from "./write-answer.ts";

/** Of an answer that is kept: room for that of 10,000 flags, at 200 bytes each. Compressed it is a fraction of that. */
const KEPT_BYTES_MAX = 2 * 1_024 * 1_024;

/** What all are answered who have no overrides, as long as nothing changes. */
interface AnswerToAll {
  readonly evaluations: readonly Evaluation[];
  /** In each form made when it is first asked for. */
  readonly kept: Partial<Record<Form, KeptAnswer>>;
}

/** Names that are asked for together. */
export class NameList {
  readonly names: readonly string[];
  readonly #memory = new BulkMemory();
  /** Of each name, one that was given lately. */
  #lately: EncodedAnswer[] = [];
  #toAll: AnswerToAll | undefined;

  constructor(names: readonly string[]) {
    this.names = names;
  }

  evaluate(
    evaluating: Pick<Evaluating, "evaluateMany">,
    entityId: string,
  ): MaybeLater<readonly Evaluation[]> {
    return evaluating.evaluateMany(this.names, entityId, this.#memory);
  }

  /** A `BulkEvaluateResponse`. `evaluations` are in the order of the names. */
  write(evaluations: readonly Evaluation[], form: Form, encoded: EncodedAnswers): ByteText | KeptAnswer {
    const kept = this.#keptOf(evaluations);
    const known = kept?.[form];
    if (known !== undefined) return known;
    const text = join(this.#encode(evaluations, encoded), form);
    if (kept === undefined || text.length > KEPT_BYTES_MAX) return text;
    return (kept[form] = new KeptAnswer(inOnePiece(text), form));
  }

  /** Undefined: it is not what all are answered, and of that nothing is kept. */
  #keptOf(evaluations: readonly Evaluation[]): AnswerToAll["kept"] | undefined {
    if (!this.#memory.isForAll(evaluations)) return undefined;
    const last = this.#toAll;
    if (last?.evaluations === evaluations) return last.kept;
    const kept = last !== undefined && areSame(last.evaluations, evaluations) ? last.kept : {};
    this.#toAll = { evaluations, kept };
    return kept;
  }

  #encode(evaluations: readonly Evaluation[], encoded: EncodedAnswers): readonly EncodedAnswer[] {
    const lately = this.#lately;
    return evaluations.map((evaluation, i) => {
      const known = lately[i];
      return known?.isOf(evaluation) === true
        ? known
        : (lately[i] = encoded.of(this.names[i] ?? "", evaluation));
    });
  }
}

/** Whether they are written alike. Most of what is decided anew comes to the same: after a poll without news for instance. */
function areSame(some: readonly Evaluation[], others: readonly Evaluation[]): boolean {
  return some.every(({ value, source }, i) => value === others[i]?.value && source === others[i]?.source);
}

function join(answers: readonly EncodedAnswer[], form: Form): ByteText {
  if (form === "json") {
    // As proto3's JSON has it, an empty list is left out.
    if (answers.length === 0) return "{}";
    return `{"evaluations":[${answers.map(({ json }) => json).join(",")}]}`;
  }
  // Not added one to the other: such a text is put together anew whenever it is written behind another head.
  const message = answers.map(({ entry }) => entry).join("");
  return form === "grpc" ? toFrame(message) : message;
}
