/**
 * Draws numbers from 0 to `count` - 1 as requests of people are spread: the second is drawn half as often as the first,
 * the third a third as often, and so on.
 */
export function zipf(count: number, random: () => number): () => number {
  const upTo = new Float64Array(count);
  let sum = 0;
  for (let i = 0; i < count; i++) {
    sum += 1 / (i + 1);
    upTo[i] = sum;
  }
  return () => firstAbove(upTo, random() * sum);
}

/** The index of the first that is above `wanted`, in ascending numbers. */
function firstAbove(ascending: Float64Array, wanted: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ascending[middle] ?? Infinity) > wanted) high = middle;
    else low = middle + 1;
  }
  return low;
}
