import { NameList } from "./name-list.ts";
import { readBulkJson, readEntityJson } from "./read-json.ts";
import { type BulkMessage, readBulk, readEntity } from "./read-message.ts";

/** A program asks for the same few lists over and over. */
const LISTS_MAX = 8;

interface Remembered {
  /** A message's beginning that names the flags. */
  readonly bytes: Buffer;
  readonly list: NameList;
}

/** How a `BulkEvaluateRequest` is read: all of it, and what follows the names of the flags. Undefined for everything unusual. */
export interface BulkReader {
  readonly read: (message: Buffer) => BulkMessage | undefined;
  readonly readEntity: (message: Buffer, flagsEnd: number) => string | undefined;
}

export const PROTO_READER: BulkReader = { read: readBulk, readEntity };
export const JSON_READER: BulkReader = { read: readBulkJson, readEntity: readEntityJson };

/** Lists of flags as messages name them: the names of those that came lately need not be decoded again. */
export class RememberedLists {
  readonly #reader: BulkReader;
  #lists: readonly Remembered[] = [];

  constructor(reader: BulkReader) {
    this.#reader = reader;
  }

  /** Reads a `BulkEvaluateRequest`. Undefined for everything unusual. */
  read(message: Buffer): { readonly list: NameList; readonly entityId: string } | undefined {
    for (const { bytes, list } of this.#lists) {
      if (message.length < bytes.length || bytes.compare(message, 0, bytes.length) !== 0) continue;
      const entityId = this.#reader.readEntity(message, bytes.length);
      if (entityId !== undefined) return { list, entityId };
    }
    return this.#readNew(message);
  }

  #readNew(message: Buffer): { readonly list: NameList; readonly entityId: string } | undefined {
    const read = this.#reader.read(message);
    if (read === undefined) return undefined;
    const { flagIds, entityId, flagsEnd } = read;
    const list = new NameList(flagIds);
    // Otherwise the entity stands among the flags.
    if (flagsEnd !== undefined && flagsEnd > 0) {
      const bytes = Buffer.from(message.subarray(0, flagsEnd));
      this.#lists = [{ bytes, list }, ...this.#lists.slice(0, LISTS_MAX - 1)];
    }
    return { list, entityId };
  }
}
