import type { Evaluation } from "../../evaluation/precedence.ts";
import type { EncodedAnswer, EncodedAnswers } from "./encoded-answers.ts";
import type { Form } from "./fast-rpcs.ts";
import { type ByteText, toFrame } from "./write-answer.ts";

/** Of an answer that is kept. */
const KEPT_BYTES_MAX = 1_024 * 1_024;

/** Names that are asked for together. Where the outcomes are those of the last time, so is the answer. */
export class NameList {
  readonly names: readonly string[];
  #answers: readonly EncodedAnswer[] = [];
  #kept: { readonly form: Form; readonly text: ByteText } | undefined;

  constructor(names: readonly string[]) {
    this.names = names;
  }

  /** A `BulkEvaluateResponse`. `evaluations` are in the order of the names. */
  write(evaluations: readonly Evaluation[], form: Form, encoded: EncodedAnswers): ByteText {
    const last = this.#answers;
    const answers: EncodedAnswer[] = [];
    let isSame = last.length === evaluations.length;
    for (let i = 0; i < evaluations.length; i++) {
      const [known, evaluation] = [last[i], evaluations[i]];
      if (evaluation === undefined) continue;
      if (known?.isOf(evaluation) === true) {
        answers.push(known);
      } else {
        answers.push(encoded.of(this.names[i] ?? "", evaluation));
        isSame = false;
      }
    }
    if (isSame && this.#kept?.form === form) return this.#kept.text;
    const text = join(answers, form);
    this.#answers = answers;
    this.#kept = text.length > KEPT_BYTES_MAX ? undefined : { form, text };
    return text;
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
