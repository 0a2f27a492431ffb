import type { Evaluation, Source } from "../../evaluation/precedence.ts";
import type { FlagTable } from "../../flags/definition.ts";
import type { FlagValue } from "../../gen/pbflags/v1/types_pb.ts";
import type { Latest } from "../../system/latest.ts";
import { type ByteText, inOnePiece } from "../byte-text.ts";
import { isWorthCompressing, KeptAnswer } from "./compression.ts";
import type { Form } from "./fast-rpcs.ts";
import { toEntry, toFrame, writeJson, writeMessage } from "./write-answer.ts";

/** An `EvaluateResponse` as bytes, in each form made when it is first asked for. */
export class EncodedAnswer {
  readonly evaluation: Evaluation;
  readonly #name: string;
  #proto: ByteText | undefined;
  #framed: ByteText | undefined;
  #entry: ByteText | undefined;
  #json: ByteText | undefined;
  #kept: Partial<Record<Form, KeptAnswer>> | undefined;

  /** `name` is the flag's id or alias: whichever was asked for. */
  constructor(name: string, evaluation: Evaluation) {
    this.#name = name;
    this.evaluation = evaluation;
  }

  /** Whether it is the answer of this outcome. */
  isOf({ value, source }: Evaluation): boolean {
    return this.evaluation.value === value && this.evaluation.source === source;
  }

  get proto(): ByteText {
    return (this.#proto ??= inOnePiece(writeMessage(this.#name, this.evaluation)));
  }

  /** The message as gRPC frames it. */
  get framed(): ByteText {
    return (this.#framed ??= inOnePiece(toFrame(this.proto)));
  }

  /** The message as an element of a `BulkEvaluateResponse`. */
  get entry(): ByteText {
    return (this.#entry ??= inOnePiece(toEntry(this.proto)));
  }

  get json(): ByteText {
    return (this.#json ??= writeJson(this.#name, this.evaluation));
  }

  /** As the answer to a call. A long one is compressed once. */
  alone(form: Form): ByteText | KeptAnswer {
    const text = form === "grpc" ? this.framed : this[form];
    if (!isWorthCompressing(text, form)) return text;
    return ((this.#kept ??= {})[form] ??= new KeptAnswer(text, form));
  }
}

/** Answers that come from what may be an override: another one for each entity. */
const VARYING: ReadonlySet<Source> = new Set(["override", "stale", "cached"]);

/** What has been encoded of the answers for one name. */
class KeptAnswers {
  readonly #name: string;
  /** What a flag answers wherever nothing varies: the last of each source. */
  readonly #bySource: Partial<Record<Source, EncodedAnswer>> = {};
  /** The last of each value. They go with the values, which a cache replaces when it learns new ones. */
  #byValue: WeakMap<FlagValue, EncodedAnswer> | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  of(evaluation: Evaluation): EncodedAnswer {
    const { value, source } = evaluation;
    if (value !== undefined && VARYING.has(source)) return this.#ofValue(value, evaluation);
    const known = this.#bySource[source];
    if (known?.isOf(evaluation) === true) return known;
    return (this.#bySource[source] = new EncodedAnswer(this.#name, evaluation));
  }

  #ofValue(value: FlagValue, evaluation: Evaluation): EncodedAnswer {
    this.#byValue ??= new WeakMap();
    const known = this.#byValue.get(value);
    if (known?.isOf(evaluation) === true) return known;
    const made = new EncodedAnswer(this.#name, evaluation);
    this.#byValue.set(value, made);
    return made;
  }
}

/**
 * Answers as bytes, encoded once for each outcome of a flag. An answer follows from the name that was asked for, the
 * value and the source alone, and values are never edited: whatever is found here under these three is right.
 */
export class EncodedAnswers {
  readonly #tables: { readonly flags: Latest<FlagTable> };
  #table: FlagTable | undefined;
  #byName = new Map<string, KeptAnswers>();

  constructor(tables: { readonly flags: Latest<FlagTable> }) {
    this.#tables = tables;
  }

  of(name: string, evaluation: Evaluation): EncodedAnswer {
    return this.#keptOf(name)?.of(evaluation) ?? new EncodedAnswer(name, evaluation);
  }

  /** Undefined for names that anybody could have made up: of them nothing is kept. */
  #keptOf(name: string): KeptAnswers | undefined {
    const table = this.#tables.flags.value;
    if (table !== this.#table) {
      this.#table = table;
      this.#byName = new Map();
    }
    const known = this.#byName.get(name);
    if (known !== undefined || table.find(name) === undefined) return known;
    const empty = new KeptAnswers(name);
    this.#byName.set(name, empty);
    return empty;
  }
}
