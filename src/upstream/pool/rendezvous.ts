/**
 * Weighted rendezvous hashing: every pair of a key and a node has a rank of its own, and a key goes to the node that
 * ranks lowest. If a node leaves, only the keys that it had go elsewhere.
 * After Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998), and the logarithmic method of
 * Schindelhauer and Schomaker, "Weighted distributed hash tables" (2005).
 */
export function weightedHashRank(key: string, node: string, weight: number): number {
  // Above 0 and below 1.
  const uniform = (hash(key, hash(node, 0x811c9dc5)) + 0.5) / 2 ** 32;
  return -Math.log(uniform) / weight;
}

/** FNV-1a over UTF-16 code units, then MurmurHash3's finaliser, which spreads what differs in the last unit only. */
function hash(text: string, seed: number): number {
  let h = seed;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
