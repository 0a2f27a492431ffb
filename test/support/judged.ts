/** Whether figures over their mark fail: `npm run bench:pauses` sets it. Tests only tell, since they share the machine. */
export const isJudged = process.env["PBFLAGD_JUDGE_PAUSES"] === "1";

/** Options of a test that judges figures: by its tag, `npm run bench:pauses` finds it. */
export const JUDGED = { tags: ["judged"] };

export interface Figure {
  /** Of what, with its unit, for the message. */
  readonly what: string;
  readonly value: number;
  /** The mark: what is allowed. */
  readonly max: number;
}

/** Tells a figure. In `npm run bench:pauses` it throws where that is over its mark. */
export function judge({ what, value, max }: Figure): void {
  const told = `${what}: ${value.toFixed(1)}, at most ${max} is allowed`;
  console.log(told);
  if (isJudged && value > max) throw new Error(`Over the mark: ${told}`);
}
