/** An upstream's words as a message may have them: without our secrets, and no more of them than help. */
export type UpstreamWords = (text: string) => string;

/** Who said something, and how to repeat it. */
export interface Speaker {
  /** For people. */
  readonly target: string;
  readonly words: UpstreamWords;
}

/** Of them. */
export const WORDS_MAX = 500;
