import { BulkMemory, type MaybeLater } from "../../evaluation/evaluator.ts";
import type { Evaluation } from "../../evaluation/precedence.ts";
import type { Namespace } from "../../namespaces/namespace.ts";
import type { EncodedAnswer, EncodedAnswers } from "./encoded-answers.ts";
import type { Form } from "./fast-rpcs.ts";
import { type ByteText, inOnePiece, toFrame } from "./write-answer.ts";

/** Of an answer that is kept. */
const KEPT_BYTES_MAX = 1_024 * 1_024;

/** What all are answered who have no overrides, as long as nothing changes. */
interface AnswerToAll {
  readonly evaluations: readonly Evaluation[];
  /** In each form made when it is first asked for. */
  readonly texts: Partial<Record<Form, ByteText>>;
}

/** Names that are asked for together. */
export class NameList {
  readonly names: readonly string[];
  readonly #memory = new BulkMemory();
  /** Of each name, one that was given lately. */
  #lately: EncodedAnswer[] = [];
  /** What came twice in a row, and what came last. */
  #toAll: AnswerToAll | undefined;
  #last: readonly Evaluation[] | undefined;

  constructor(names: readonly string[]) {
    this.names = names;
  }

  evaluate(namespace: Pick<Namespace, "evaluateMany">, entityId: string): MaybeLater<readonly Evaluation[]> {
    return namespace.evaluateMany(this.names, entityId, this.#memory);
  }

  /** A `BulkEvaluateResponse`. `evaluations` are in the order of the names. */
  write(evaluations: readonly Evaluation[], form: Form, encoded: EncodedAnswers): ByteText {
    if (this.#last === evaluations && this.#toAll?.evaluations !== evaluations)
      this.#toAll = { evaluations, texts: {} };
    this.#last = evaluations;
    const texts = this.#toAll?.evaluations === evaluations ? this.#toAll.texts : undefined;
    const kept = texts?.[form];
    if (kept !== undefined) return kept;
    const text = join(this.#encode(evaluations, encoded), form);
    if (texts !== undefined && text.length <= KEPT_BYTES_MAX) texts[form] = inOnePiece(text);
    return text;
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
