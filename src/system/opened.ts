/** What has been opened so far. Disposing of it closes all of it, last opened first. */
export class Opened implements AsyncDisposable {
  readonly #parts: AsyncDisposable[] = [];

  /** Returns what it is given. */
  add<T extends AsyncDisposable>(part: T): T {
    this.#parts.push(part);
    return part;
  }

  /** Something that closes by being called. */
  defer(close: () => Promise<void> | void): void {
    this.#parts.push({ [Symbol.asyncDispose]: async () => close() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const part of this.#parts.splice(0).toReversed()) await part[Symbol.asyncDispose]();
  }
}
