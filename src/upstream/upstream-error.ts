import { DeadlineError } from "./transport/deadline.ts";

/** An upstream was not reached, refused, or answered what makes no sense. */
export class UpstreamError extends Error {
  override readonly name = "UpstreamError";
  /**
   * What the upstream answered, as Connect names it: `not_found`, `unavailable` and so on.
   * Without an answer, `url`: not usable; `connection`: not reached, or broken off; `answer`: makes no sense.
   */
  readonly code: string;
  /** The upstream's own service said so, and not something on the way to it. */
  readonly answered: boolean;

  constructor(code: string, message: string, options: ErrorOptions & { readonly answered?: boolean } = {}) {
    super(message, options);
    this.code = code;
    this.answered = options.answered ?? false;
  }
}

/** It was reached, and says that it cannot tell: its own store is away. That is no failure of the upstream. */
export function saysStoreIsAway(error: unknown): error is UpstreamError {
  return error instanceof UpstreamError && error.answered && error.code === "unavailable";
}

/** A failed call for people: an UpstreamError stays what it is, and a time-out says whose it was. */
export function toUpstreamError(error: unknown, target: string): unknown {
  if (!(error instanceof DeadlineError)) return error;
  return new UpstreamError("deadline_exceeded", `${target} gave ${error.message}`, { cause: error });
}
