const MS_PER_UNIT: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

const BYTES_PER_UNIT: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  kB: 1_000,
  KB: 1_000,
  MB: 1_000_000,
  GB: 1_000_000_000,
  KiB: 1_024,
  MiB: 1_048_576,
  GiB: 1_073_741_824,
};

/** Longer texts are no quantity that anybody writes by hand. */
const TEXT_LENGTH_MAX = 40;

/**
 * Reads a duration as Go writes it (`500ms`, `30s`, `1m30s`, `1.5h`, `0`), in whole milliseconds,
 * rounded up so that only zero becomes zero. Undefined if the text is none.
 */
export function parseDuration(text: string): number | undefined {
  if (text === "0") return 0;
  if (text.length > TEXT_LENGTH_MAX || !/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(text))
    return undefined;
  let ms = 0;
  for (const [, amount = "", unit = ""] of text.matchAll(/([\d.]+)([a-zµ]+)/g)) {
    ms += Number(amount) * (MS_PER_UNIT[unit] ?? 0);
  }
  // 0.1h is 360000.00000000006 ms in floating point: that is not a millisecond more.
  return Math.ceil(Number(ms.toPrecision(12)));
}

/** Reads a number of bytes (`1MiB`, `16KiB`, `64kB`, `1048576`). Undefined if the text is none. */
export function parseBytes(text: string): number | undefined {
  if (text.length > TEXT_LENGTH_MAX) return undefined;
  const [, amount, unit] = /^(\d+(?:\.\d+)?) ?([A-Za-z]*)$/.exec(text) ?? [];
  const bytesPerUnit = unit === undefined ? undefined : BYTES_PER_UNIT[unit];
  if (amount === undefined || bytesPerUnit === undefined) return undefined;
  const bytes = Number(amount) * bytesPerUnit;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Reads a whole number, zero or more, in decimal digits. Undefined if the text is none. */
export function parseCount(text: string): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** Reads a whole number in decimal digits, with a minus sign if it is below zero. Undefined if the text is none. */
export function parseInteger(text: string): number | undefined {
  // Adding 0 makes minus zero a plain one.
  return /^-?\d{1,15}$/.test(text) ? Number(text) + 0 : undefined;
}

/** Reads a number, zero or more, such as `2` or `1.5`. Undefined if the text is none. */
export function parseDecimal(text: string): number | undefined {
  return /^\d{1,15}(?:\.\d{1,6})?$/.test(text) ? Number(text) : undefined;
}
