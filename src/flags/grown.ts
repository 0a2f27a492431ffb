/** The list with one more. Nearly all have one at most, and an empty one would take room for many more when it grows. */
export function grown<T>(list: T[] | undefined, item: T): T[] {
  if (list === undefined) return [item];
  list.push(item);
  return list;
}
