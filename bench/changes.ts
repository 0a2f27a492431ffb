import type { Question } from "../test/support/load.ts";

/** What is measured, in the order of the table. */
export const CHANGE_KINDS = ["kill", "revive", "value", "override"] as const;
export type ChangeKind = (typeof CHANGE_KINDS)[number];

/** What somebody commits, and how to tell from answers that it is in force. */
export interface Change {
  readonly kind: ChangeKind;
  readonly sql: string;
  readonly question: Question;
  readonly isIn: (body: string) => boolean;
}

export const KILLED_FLAG = "shop/5";
/** An integer without a layer. */
const VALUED_FLAG = "shop/3";
const OVERRIDDEN_FLAG = "shop/1";
/** One who has no other overrides. */
const OVERRIDDEN_ENTITY = "carl";

/** Two changes of the kill set, a value and an override, each once, in an order that chance decides. Nobody saw `n` before. */
export function changesOf(n: number): readonly Change[] {
  const isKilled = (body: string) => body.includes("EVALUATION_SOURCE_KILLED");
  const ofKilled = { flagId: KILLED_FLAG, entityId: "" };
  const kill: Change = {
    kind: "kill",
    sql: `SELECT feature_flags.kill('${KILLED_FLAG}')`,
    question: ofKilled,
    isIn: isKilled,
  };
  const revive: Change = {
    kind: "revive",
    sql: `SELECT feature_flags.revive('${KILLED_FLAG}')`,
    question: ofKilled,
    isIn: (body) => !isKilled(body),
  };
  const others = shuffled<Change>([
    {
      kind: "value",
      sql: `SELECT feature_flags.set_value('${VALUED_FLAG}', '${n}')`,
      question: { flagId: VALUED_FLAG, entityId: "" },
      isIn: (body) => body.includes(`"${n}"`),
    },
    {
      kind: "override",
      sql: `SELECT feature_flags.set_override('${OVERRIDDEN_FLAG}', '${OVERRIDDEN_ENTITY}', 'override ${n}')`,
      question: { flagId: OVERRIDDEN_FLAG, entityId: OVERRIDDEN_ENTITY },
      isIn: (body) => body.includes(`"override ${n}"`),
    },
  ]);
  const killAt = Math.floor(Math.random() * (others.length + 1));
  const reviveAt = killAt + Math.floor(Math.random() * (others.length + 1 - killAt));
  return [
    ...others.slice(0, killAt),
    kill,
    ...others.slice(killAt, reviveAt),
    revive,
    ...others.slice(reviveAt),
  ];
}

function shuffled<T>(pair: readonly [T, T]): readonly T[] {
  return Math.random() < 0.5 ? pair : pair.toReversed();
}
