/**
 * Measures every variant once a round, one after the other, so that whatever else the machine does meets all of them.
 * Resolves with what was measured of each, by its name, a result a round.
 */
export async function interleave<V, R>(
  variants: ReadonlyMap<string, V>,
  { rounds, measure }: { readonly rounds: number; readonly measure: (variant: V) => R | Promise<R> },
): Promise<ReadonlyMap<string, readonly R[]>> {
  const results = new Map([...variants.keys()].map((name) => [name, [] as R[]]));
  for (let round = 0; round < rounds; round++)
    for (const [name, variant] of variants) results.get(name)?.push(await measure(variant));
  return results;
}
