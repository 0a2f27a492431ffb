/**
 * Length in bits of the code of each symbol, in base 36: of the 256 bytes, and of the end of a string, which never
 * occurs in one (RFC 7541, appendix B). The code is canonical, so its lengths say it all.
 */
const CODE_BITS =
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6" +
  "f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmnqq" +
  "kjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu";
const END_OF_STRING = 256;
/** Of padding, at the end of a string. */
const PADDING_BITS_MAX = 7;

/**
 * The code as a tree: where a node stands, its two children follow, for a 0 and for a 1. Of another node the place,
 * of a symbol its complement.
 */
const TREE = buildTree();

function buildTree(): Int16Array {
  const symbols = Array.from(CODE_BITS, (digit, symbol) => ({ symbol, bits: Number.parseInt(digit, 36) }));
  symbols.sort((a, b) => a.bits - b.bits || a.symbol - b.symbol);
  const tree = new Int16Array(2 * (symbols.length - 1));
  let used = 2;
  let code = 0;
  let codeBits = 0;
  for (const { symbol, bits } of symbols) {
    code *= 2 ** (bits - codeBits);
    codeBits = bits;
    let node = 0;
    for (let left = bits - 1; left > 0; left--) {
      const at = node + ((code >>> left) & 1);
      if (tree[at] === 0) {
        tree[at] = used;
        used += 2;
      }
      node = tree[at] ?? 0;
    }
    tree[node + (code & 1)] = ~symbol;
    code += 1;
  }
  return tree;
}

/** The text that the bytes from `start` to `end` stand for, a byte a character. Undefined if there is none. */
export function decodeHuffman(bytes: Buffer, start: number, end: number): string | undefined {
  let text = "";
  let node = 0;
  /** Since the last symbol, and whether all of them were ones, as padding is. */
  let bits = 0;
  let areOnes = true;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    for (let left = 7; left >= 0; left--) {
      const bit = (byte >>> left) & 1;
      const next = TREE[node + bit] ?? 0;
      bits += 1;
      areOnes &&= bit === 1;
      node = next;
      if (next >= 0) continue;
      if (~next === END_OF_STRING) return undefined;
      text += String.fromCharCode(~next);
      node = 0;
      bits = 0;
      areOnes = true;
    }
  }
  return areOnes && bits <= PADDING_BITS_MAX ? text : undefined;
}
