import type { TestDaemon } from "./daemon.ts";

/** A flag that is asked again and again while somebody writes ever higher numbers into it. */
export interface Watch {
  /** The highest number that was answered; -1 for none. */
  readonly highest: number;
  /** Stops asking. `wentBack` are answers that were older than one before. */
  stop(): Promise<{ readonly answered: number; readonly wentBack: readonly string[] }>;
}

/** Asks one question at a time, so that answers have an order. Values have to end in a number. */
export function watchForwards(daemon: TestDaemon, flagId: string, entityId = ""): Watch {
  const stop = new AbortController();
  const wentBack: string[] = [];
  let highest = -1;
  let answered = 0;

  async function watch(): Promise<void> {
    while (!stop.signal.aborted) {
      const { value = {} } = await daemon.evaluate(flagId, entityId);
      const [text] = Object.values(value);
      const number = Number(/\d+$/.exec(String(text))?.[0] ?? Number.NaN);
      if (!(number >= highest)) wentBack.push(`${flagId}: ${JSON.stringify(value)} after ${highest}`);
      else highest = number;
      answered += 1;
    }
  }

  const watching = watch();
  // Who awaits the end hears of it.
  watching.catch(() => {});
  return {
    get highest() {
      return highest;
    },
    async stop() {
      stop.abort();
      await watching;
      return { answered, wentBack };
    },
  };
}
