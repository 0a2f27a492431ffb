import type { ConnectError } from "@connectrpc/connect";

/** Who wants what. */
export interface Asking {
  /** `package.Service/Method`. */
  readonly procedure: string;
  /** A request header by its name in lower case. */
  readonly header: (name: string) => string | undefined;
}

/**
 * Why a call may not be made; undefined: it may. Whatever way a call takes, it is asked before anything is looked up. Of a
 * call that is refused it may be asked once more, by the way that tells the caller: it must not count.
 */
export type Permit = (asking: Asking) => ConnectError | undefined;

/** Callers do not say yet who they are. */
export const permitAll: Permit = () => undefined;
