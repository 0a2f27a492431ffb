import { isUtf8 } from "node:buffer";
import { WireType } from "@bufbuild/protobuf/wire";

/** The bytes are no protobuf, or none of the kind expected. */
export class WireError extends Error {
  override readonly name = "WireError";
}

const groupFieldsMax = 1_000;
const replacement = "\uFFFD";

/**
 * Walks the fields of one message as they stand in the bytes, and copies nothing that is not asked for: a set of
 * descriptors has tens of thousands. Its methods throw a WireError for bytes that are no protobuf.
 */
export class WireReader {
  /** The number of the field that `next` found. */
  no = 0;
  wireType: WireType = WireType.Varint;
  readonly #bytes: Buffer;
  readonly #end: number;
  /** Where that field's content begins. It ends at `#at`. */
  #from: number;
  #at: number;
  /** The last varint, 32 bits each. */
  #low = 0;
  #high = 0;

  constructor(bytes: Uint8Array, from = 0, end = bytes.length) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#from = from;
    this.#at = from;
    this.#end = end;
  }

  /** Goes on to the next field. False: there is none. */
  next(): boolean {
    if (this.#at >= this.#end) return false;
    const from = this.#at;
    this.#readVarint();
    const tag = this.#low >>> 0;
    this.no = tag >>> 3;
    if (this.no === 0 || this.#high !== 0 || this.#at - from > 5)
      throw new WireError(`illegal tag: field no ${this.no} wire type ${tag & 7}`);
    this.wireType = toWireType(tag & 7);
    this.#pass(this.wireType);
    return true;
  }

  /** Walks the fields that are left, without going on here. */
  again(): WireReader {
    return new WireReader(this.#bytes, this.#at, this.#end);
  }

  /** All bytes that have not been walked yet. */
  rest(): Uint8Array {
    return this.#bytes.subarray(this.#at, this.#end);
  }

  /** How many bytes the field's content has. */
  get length(): number {
    return this.#at - this.#from;
  }

  /** The content of a length-delimited field. */
  bytes(): Uint8Array {
    this.#require(WireType.LengthDelimited);
    return this.#bytes.subarray(this.#from, this.#at);
  }

  /** The same, as a message. */
  message(): WireReader {
    this.#require(WireType.LengthDelimited);
    return new WireReader(this.#bytes, this.#from, this.#at);
  }

  /** The same, as text, with U+FFFD for what is not UTF-8. */
  text(): string {
    this.#require(WireType.LengthDelimited);
    return this.#bytes.toString("utf8", this.#from, this.#at);
  }

  /** The same, as text that has to be UTF-8. */
  strictText(): string {
    const text = this.text();
    if (text.includes(replacement) && !isUtf8(this.bytes())) throw new WireError("a text is not UTF-8");
    return text;
  }

  /** The low 32 bits of a varint, signed. */
  int32(): number {
    this.#require(WireType.Varint);
    return this.#low;
  }

  int64(): bigint {
    this.#require(WireType.Varint);
    if (this.#high === 0 && this.#low >= 0) return BigInt(this.#low);
    return (BigInt(this.#high) << 32n) | BigInt(this.#low >>> 0);
  }

  bool(): boolean {
    this.#require(WireType.Varint);
    return this.#low !== 0 || this.#high !== 0;
  }

  double(): number {
    this.#require(WireType.Bit64);
    return this.#bytes.readDoubleLE(this.#from);
  }

  /** All values of a packed list, one by one, as if each had come as a field of this type. Otherwise just the one. */
  *values(wireType: WireType): Generator<this, void> {
    if (this.wireType === wireType || this.wireType !== WireType.LengthDelimited) {
      yield this;
      return;
    }
    const end = this.#at;
    this.wireType = wireType;
    this.#at = this.#from;
    while (this.#at < end) {
      this.#pass(wireType);
      if (this.#at > end) throw new WireError("a packed list ends within a value");
      yield this;
    }
  }

  #require(wireType: WireType): void {
    if (this.wireType !== wireType)
      throw new WireError(`field ${this.no} has wire type ${this.wireType}, not ${wireType}`);
  }

  /** Moves behind the content of a field that begins here. */
  #pass(wireType: WireType): void {
    this.#from = this.#at;
    if (wireType === WireType.Varint) this.#readVarint();
    else if (wireType === WireType.LengthDelimited) {
      this.#readVarint();
      this.#from = this.#at;
      this.#advance(this.#low >>> 0);
    } else if (wireType === WireType.Bit64) this.#advance(8);
    else if (wireType === WireType.Bit32) this.#advance(4);
    else if (wireType === WireType.StartGroup) this.#passGroup();
    else throw new WireError("a group ends that never began");
  }

  #advance(bytes: number): void {
    this.#at += bytes;
    if (this.#at > this.#end) throw new WireError("premature EOF");
  }

  #readVarint(): void {
    let at = this.#at;
    const first = this.#bytes[at] ?? 0;
    // As nearly all are.
    if (first < 0x80 && at < this.#end) {
      this.#low = first;
      this.#high = 0;
      this.#at = at + 1;
      return;
    }
    let low = 0;
    let high = 0;
    for (let shift = 0; ; shift += 7) {
      if (at >= this.#end) throw new WireError("premature EOF");
      if (shift >= 70) throw new WireError("invalid varint");
      const byte = this.#bytes[at++] ?? 0;
      const bits = byte & 0x7f;
      if (shift < 32) low |= bits << shift;
      if (shift > 24) high |= shift < 32 ? bits >>> (32 - shift) : bits << (shift - 32);
      if (byte < 0x80) break;
    }
    this.#low = low;
    this.#high = high;
    this.#at = at;
  }

  /** Without recursion, and never for long: a hostile group costs neither stack nor time. */
  #passGroup(): void {
    const open = [this.no];
    for (let i = 0; i < groupFieldsMax; i++) {
      this.#readVarint();
      const [no, wireType] = [this.#low >>> 3, toWireType(this.#low & 7)];
      if (wireType === WireType.StartGroup) open.push(no);
      else if (wireType !== WireType.EndGroup) this.#pass(wireType);
      else if (open.pop() !== no) throw new WireError("a group ends that never began");
      if (open.length === 0) return;
    }
    throw new WireError(`a group has more than ${groupFieldsMax} fields`);
  }
}

const wireTypes: readonly WireType[] = [
  WireType.Varint,
  WireType.Bit64,
  WireType.LengthDelimited,
  WireType.StartGroup,
  WireType.EndGroup,
  WireType.Bit32,
];

function toWireType(number: number): WireType {
  const wireType = wireTypes[number];
  if (wireType === undefined) throw new WireError(`illegal tag: wire type ${number}`);
  return wireType;
}
