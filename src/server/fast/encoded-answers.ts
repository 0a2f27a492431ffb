import type { Evaluation, Source } from "../../evaluation/precedence.ts";
import type { FlagTable } from "../../flags/definition.ts";
import type { FlagValue } from "../../gen/pbflags/v1/types_pb.ts";
import type { Latest } from "../../system/latest.ts";
import { type ByteText, inOnePiece, toEntry, toFrame, writeJson, writeMessage } from "./write-answer.ts";

/** An `EvaluateResponse` as bytes, in each form made when it is first asked for. */
export class EncodedAnswer {
  readonly evaluation: Evaluation;
  readonly #name: string;
  #proto: ByteText | undefined;
  #framed: ByteText | undefined;
  #entry: ByteText | undefined;
  #json: ByteText | undefined;

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
}

/** What has been encoded of the answers for one name. */
interface Kept {
  /** What a flag answers wherever nothing varies: the last of each source. */
  readonly bySource: Partial<Record<Source, EncodedAnswer>>;
  /** The last of each value. They go with the values, which a cache replaces when it learns new ones. */
  readonly byValue: WeakMap<FlagValue, EncodedAnswer>;
}

/** Answers that come from what may be an override: another one for each entity. */
const VARYING: ReadonlySet<Source> = new Set(["override", "stale", "cached"]);

/**
 * Answers as bytes, encoded once for each outcome of a flag. An answer follows from the name that was asked for, the
 * value and the source alone, and values are never edited: whatever is found here under these three is right.
 */
export class EncodedAnswers {
  readonly #flags: Latest<FlagTable>;
  #table: FlagTable;
  #byName = new Map<string, Kept>();

  constructor(flags: Latest<FlagTable>) {
    this.#flags = flags;
    this.#table = flags.value;
  }

  of(name: string, evaluation: Evaluation): EncodedAnswer {
    const kept = this.#keptOf(name);
    if (kept === undefined) return new EncodedAnswer(name, evaluation);
    const { value, source } = evaluation;
    if (value !== undefined && VARYING.has(source)) {
      const known = kept.byValue.get(value);
      if (known?.isOf(evaluation) === true) return known;
      const made = new EncodedAnswer(name, evaluation);
      kept.byValue.set(value, made);
      return made;
    }
    const known = kept.bySource[source];
    if (known?.isOf(evaluation) === true) return known;
    return (kept.bySource[source] = new EncodedAnswer(name, evaluation));
  }

  /** Undefined for names that anybody could have made up: of them nothing is kept. */
  #keptOf(name: string): Kept | undefined {
    const table = this.#flags.value;
    if (table !== this.#table) {
      this.#table = table;
      this.#byName = new Map();
    }
    const known = this.#byName.get(name);
    if (known !== undefined || table.find(name) === undefined) return known;
    const empty: Kept = { bySource: {}, byValue: new WeakMap() };
    this.#byName.set(name, empty);
    return empty;
  }
}
