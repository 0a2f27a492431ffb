/** A signal that aborts with the first of others, until it is disposed of. */
export interface LinkedSignal extends Disposable {
  readonly signal: AbortSignal;
}

/** `AbortSignal.any` for signals that live as long as the daemon: those would keep what it makes of them. */
export function linkSignals(...signals: readonly AbortSignal[]): LinkedSignal {
  const end = new AbortController();
  const follow = signals.map((signal) => {
    const abort = () => end.abort(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    return () => signal.removeEventListener("abort", abort);
  });
  return {
    signal: end.signal,
    [Symbol.dispose]() {
      for (const letGo of follow) letGo();
    },
  };
}
