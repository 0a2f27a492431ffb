export interface PrettyOptions {
  readonly color: boolean;
  /** Whether errors show their stack traces, on lines of their own. */
  readonly stacks: boolean;
}

const COLORS: Readonly<Record<string, number>> = { debug: 90, info: 36, warn: 33, error: 31 };

/** One JSON log line as a person at a terminal wants it: time of day, level, message, `name=value` for the rest. */
export function toPrettyLine(json: string, { color, stacks }: PrettyOptions): string {
  const { time, level, msg, event: _, ...fields } = parseLine(json);
  const paint = (text: string, code: number | undefined) =>
    color && code !== undefined ? `\u001b[${code}m${text}\u001b[0m` : text;
  const rest = Object.entries(fields).map(([name, value]) => `${paint(`${name}=`, 90)}${toText(value)}`);
  const head = [
    timeOfDay(String(time)),
    paint(String(level).padEnd(5), COLORS[String(level)]),
    oneLine(String(msg)),
  ];
  const traces = stacks ? Object.values(fields).flatMap(stackLines) : [];
  return `${[[...head, ...rest].join(" "), ...traces].join("\n")}\n`;
}

function parseLine(json: string): Record<string, unknown> {
  const line: unknown = JSON.parse(json);
  return isRecord(line) ? line : {};
}

/** `2026-01-01T12:34:56.789Z` to `12:34:56.789`. */
function timeOfDay(time: string): string {
  return time.slice(11, 23);
}

function toText(value: unknown): string {
  if (isSerializedError(value)) return oneLine(describeError(value));
  if (typeof value === "string") return /^[\w.:/@%+-]+$/.test(value) ? value : JSON.stringify(value);
  return JSON.stringify(value) ?? "";
}

interface SerializedError {
  readonly type: string;
  readonly message: string;
  readonly stack: string;
  readonly cause?: unknown;
  /** Of an AggregateError, which often has nothing to say itself. */
  readonly errors?: unknown;
}

function describeError({ type, message, cause, errors }: SerializedError): string {
  const parts = [type, message === "" ? "" : `: ${message}`];
  if (Array.isArray(errors)) parts.push(` (${errors.map(toText).join("; ")})`);
  if (cause !== undefined) parts.push(` (because ${toText(cause)})`);
  return parts.join("");
}

function stackLines(value: unknown): string[] {
  if (!isSerializedError(value)) return [];
  const frames = value.stack.split("\n").filter((line) => /^\s+at /.test(line));
  return [...frames.map((line) => `    ${oneLine(line.trim())}`), ...stackLines(value.cause)];
}

function isSerializedError(value: unknown): value is SerializedError {
  return isRecord(value) && ["type", "message", "stack"].every((name) => typeof value[name] === "string");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Without line breaks, and without anything a terminal would obey. */
function oneLine(text: string): string {
  return text.replaceAll(/\s*[\r\n]+\s*/g, " ").replaceAll(/\p{Cc}/gu, (character) => {
    return `\\x${(character.codePointAt(0) ?? 0).toString(16).padStart(2, "0")}`;
  });
}
