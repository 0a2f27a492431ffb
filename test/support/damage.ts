import fc from "fast-check";

/** What may happen to bytes in transit or on a disk. */
export interface Harm {
  readonly kind: "flip" | "set" | "cut" | "insert" | "double" | "drop";
  /** Share of the length, from 0 to less than 1. */
  readonly at: number;
  readonly length: number;
  readonly byte: number;
}

/** One to `harmsMax` of them, none of which is longer than `lengthMax` bytes. */
export function someHarm({ harmsMax, lengthMax }: Readonly<Record<"harmsMax" | "lengthMax", number>>) {
  return fc.array(
    fc.record({
      kind: fc.constantFrom<Harm["kind"][]>("flip", "flip", "flip", "set", "cut", "insert", "double", "drop"),
      at: fc.nat(9_999).map((share) => share / 10_000),
      length: fc.integer({ min: 1, max: lengthMax }),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(0x00, 0x7f, 0x80, 0xff)),
    }),
    { minLength: 1, maxLength: harmsMax },
  );
}

/** The bytes, after that has happened to them one by one. */
export function damage(whole: Uint8Array, harms: readonly Harm[]): Uint8Array {
  return harms.reduce<Uint8Array>((bytes, { kind, at: share, length, byte }) => {
    const at = Math.floor(share * bytes.length);
    const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
    switch (kind) {
      case "flip":
        return bytes.map((each, i) => (i === at ? each ^ (1 << (byte % 8)) : each));
      case "set":
        return bytes.map((each, i) => (i === at ? byte : each));
      case "cut":
        return before;
      case "insert":
        return Buffer.concat([before, new Uint8Array(length).fill(byte), after]);
      case "double":
        return Buffer.concat([before, after.subarray(0, length), after]);
      case "drop":
        return Buffer.concat([before, after.subarray(length)]);
    }
    return kind satisfies never;
  }, whole);
}
