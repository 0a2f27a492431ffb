/** What was stored under each key at each commit. Commits come in order. */
export class History<V> {
  readonly #entries = new Map<string, { readonly commit: number; readonly value: V | undefined }[]>();

  /** Undefined: from this commit on there is none. */
  add(key: string, commit: number, value: V | undefined): void {
    const entries = this.#entries.get(key) ?? [];
    this.#entries.set(key, entries);
    entries.push({ commit, value });
  }

  at(key: string, commit: number): V | undefined {
    return this.#entries.get(key)?.findLast((entry) => entry.commit <= commit)?.value;
  }

  allAt(commit: number): ReadonlyMap<string, V> {
    const found = new Map<string, V>();
    for (const key of this.#entries.keys()) {
      const value = this.at(key, commit);
      if (value !== undefined) found.set(key, value);
    }
    return found;
  }

  /** At `commit` all is again as it was at `earlier`. */
  repeat(earlier: number, commit: number): void {
    for (const key of this.#entries.keys()) this.add(key, commit, this.at(key, earlier));
  }
}
