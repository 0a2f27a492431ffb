import type { Secrets } from "../system/hide-secrets.ts";

/** Shorter ones, such as a tenant's number, would be found in all that is said. */
const CHARACTERS_MIN = 4;

/** What OpenTelemetry's variables have a collector shown, and with it whoever answers in its place. */
export function otlpSecrets(env: Readonly<Record<string, string | undefined>>): Secrets {
  const values = ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"]
    .flatMap((name) => (env[name] ?? "").split(","))
    .map((pair) => decode(pair.slice(pair.indexOf("=") + 1).trim()))
    .filter(({ length }) => length >= CHARACTERS_MIN);
  const credentials = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    .map((name) => env[name] ?? "")
    .filter((url) => URL.canParse(url))
    .map((url) => new URL(url))
    .filter(({ username }) => username !== "")
    .map(({ username, password }) => `Basic ${btoa(`${decode(username)}:${decode(password)}`)}`);
  return { headers: [...values, ...credentials], credentials: undefined };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
