import type { Clock } from "../../system/clock.ts";
import { hideSecrets } from "../../system/hide-secrets.ts";
import { UpstreamError } from "../upstream-error.ts";
import type { UpstreamSettings } from "../upstream-settings.ts";
import { authHeaders } from "./auth-headers.ts";
import { openGrpcTransport } from "./grpc/grpc-transport.ts";
import { openHttpTransport } from "./http/http-transport.ts";
import { parseTarget } from "./parse-target.ts";
import { openDialer } from "./socket/dialer.ts";
import type { Transport } from "./transport.ts";
import { WORDS_MAX } from "./upstream-words.ts";

export interface TransportOptions {
  readonly settings: UpstreamSettings;
  readonly clock: Clock;
  /** Asked before each call, for headers such as those that carry a trace on. Their names are in lower case. */
  readonly headers?: () => Readonly<Record<string, string>>;
  /** Opens what `exec:` names. */
  readonly openExec?: (settings: UpstreamSettings) => Transport;
}

/**
 * Opens the transport that an upstream's URL asks for. Connects when first called. Throws an UpstreamError (`url` or
 * `settings`) that names the upstream and the setting if the settings cannot be used.
 */
export function openTransport({ settings, clock, headers, openExec }: TransportOptions): Transport {
  const { name, url, connection } = settings;
  if (url.startsWith("exec:")) {
    if (openExec !== undefined) return openExec(settings);
    throw new UpstreamError("url", `Cannot use upstream ${name}: url must not be exec:… here, got one`);
  }
  const target = parseTarget(settings);
  const identity = authHeaders(settings, target.credentials);
  const words = hideSecrets({ headers: Object.values(identity), credentials: target.credentials }, WORDS_MAX);
  const dialer = openDialer({ target, settings, words, clock });
  const wire = { target, dialer, connection, identity, words, headers, clock };
  return target.protocol === "grpc" ? openGrpcTransport(wire) : openHttpTransport(wire);
}
