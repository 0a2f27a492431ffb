import type { PluginProtocol } from "./announcement.ts";

/** What happens to the program of an `exec:` upstream, for the log. Holds none of its arguments and variables. */
export type ExecEvent =
  /** A leftover of a process that died was ended, or had ended while it was asked to. */
  | { readonly kind: "reaped"; readonly pid: number }
  | { readonly kind: "started"; readonly pid: number }
  | { readonly kind: "announced"; readonly protocol: PluginProtocol; readonly address: string }
  /** It cannot be used as it is, and is ended. */
  | { readonly kind: "refused"; readonly reason: string }
  /** It did not end when it was asked to, and was killed. */
  | { readonly kind: "killed"; readonly pid: number; readonly afterMs: number }
  /** It has ended or could not be started, as nobody had asked for. */
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "restarting"; readonly inMs: number }
  /** It has ended, as it was asked to. */
  | { readonly kind: "stopped" };
