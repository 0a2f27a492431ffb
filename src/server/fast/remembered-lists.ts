import { NameList } from "./name-list.ts";
import { readBulk } from "./read-message.ts";

/** A program asks for the same few lists over and over. */
const LISTS_MAX = 8;

interface Remembered {
  /** A message's beginning that names the flags. */
  readonly bytes: Buffer;
  readonly list: NameList;
}

/** Lists of flags as messages name them: the names of those that came lately need not be decoded again. */
export class RememberedLists {
  #lists: readonly Remembered[] = [];

  /** Reads a `BulkEvaluateRequest`. Undefined for everything unusual. */
  read(message: Buffer): { readonly list: NameList; readonly entityId: string } | undefined {
    for (const { bytes, list } of this.#lists) {
      if (message.length < bytes.length || bytes.compare(message, 0, bytes.length) !== 0) continue;
      const rest = readBulk(message.subarray(bytes.length));
      if (rest === undefined) return undefined;
      if (rest.flagIds.length === 0) return { list, entityId: rest.entityId };
    }
    return this.#readNew(message);
  }

  #readNew(message: Buffer): { readonly list: NameList; readonly entityId: string } | undefined {
    const read = readBulk(message);
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
