import { isSecretName, REDACTED, redact } from "./redact.ts";

/** How much one line may carry. */
const DEPTH_MAX = 6;
const ENTRIES_MAX = 50;
const VALUES_MAX = 500;
const CHARACTERS_MAX = 8_192;

/** Fields as a log line can carry them: plain JSON, bounded, errors taken apart, secrets taken out. Never throws. */
export function toLogFields(fields: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return fromEntries(Object.entries(fields), { depth: 0, budget: { valuesLeft: VALUES_MAX } });
}

/** A text as a log line can carry it: bounded, secrets taken out. */
export function toLogText(text: string): string {
  // Cut twice: first so that no text is too long to search, far enough behind what will be shown
  // that no secret loses the end by which it is known.
  const clean = redact(text.slice(0, 2 * CHARACTERS_MAX));
  if (text.length <= CHARACTERS_MAX) return clean;
  return `${clean.slice(0, CHARACTERS_MAX)}… [${text.length} characters]`;
}

interface Position {
  readonly depth: number;
  /** Shared by all values of a line. */
  readonly budget: { valuesLeft: number };
}

function toLogValue(value: unknown, position: Position): unknown {
  position.budget.valuesLeft -= 1;
  if (position.budget.valuesLeft < 0) return "[too much]";
  try {
    return convert(value, position);
  } catch (error) {
    // A getter or a toString that throws must not take down whoever wanted to log.
    return `[unreadable: ${error instanceof Error ? toLogText(error.message) : typeof error}]`;
  }
}

function convert(value: unknown, position: Position): unknown {
  if (typeof value === "string") return toLogText(value);
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value === "bigint") return String(value);
  if (typeof value === "symbol" || typeof value === "function") return undefined;
  return typeof value === "object" && value !== null ? fromObject(value, position) : value;
}

function fromObject(value: object, { depth, budget }: Position): unknown {
  if (value instanceof Uint8Array) return `[${value.length} bytes]`;
  if (value instanceof URL) return toLogText(value.href);
  if (depth >= DEPTH_MAX) return "[too deep]";
  const inside = { depth: depth + 1, budget };
  if (value instanceof Error) return fromError(value, inside);
  if (Array.isArray(value) || value instanceof Set) return fromList([...value], inside);
  if (value instanceof Map) return fromEntries([...value], inside);
  if ("toJSON" in value && typeof value.toJSON === "function") return toLogValue(value.toJSON(), inside);
  return fromEntries(Object.entries(value), inside);
}

/** `type`, `message`, `stack`, `cause`, and whatever else was attached, such as a `code`. */
function fromError(error: Error, inside: Position): Readonly<Record<string, unknown>> {
  const { name, message, stack, cause, ...attached } = error;
  return {
    ...fromEntries(Object.entries(attached), inside),
    type: toLogText(name),
    message: toLogText(message),
    stack: toLogText(stack ?? ""),
    ...(error instanceof AggregateError ? { errors: toLogValue(error.errors, inside) } : {}),
    ...(cause === undefined ? {} : { cause: toLogValue(cause, inside) }),
  };
}

function fromList(items: readonly unknown[], inside: Position): readonly unknown[] {
  const shown = items.slice(0, ENTRIES_MAX).map((item) => toLogValue(item, inside));
  return items.length > ENTRIES_MAX ? [...shown, `[${items.length} in all]`] : shown;
}

function fromEntries(
  entries: readonly (readonly [unknown, unknown])[],
  inside: Position,
): Readonly<Record<string, unknown>> {
  const shown = entries.slice(0, ENTRIES_MAX).map(([key, item]) => {
    const name = String(key);
    return [toLogText(name), isSecretName(name) ? REDACTED : toLogValue(item, inside)];
  });
  return Object.fromEntries(shown);
}
