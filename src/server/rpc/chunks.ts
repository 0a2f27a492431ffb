/** A body that is all there. */
export async function* oneChunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** An empty body, or one of which nothing can be had but the error. */
export async function* noBytes(error?: Error): AsyncGenerator<Uint8Array> {
  if (error !== undefined) throw error;
  yield* [];
}

/** All of a body, in one piece. */
export async function bytesOf(body: AsyncIterable<Uint8Array> | undefined): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  if (body !== undefined) for await (const chunk of body) chunks.push(chunk);
  const [first] = chunks;
  return first !== undefined && chunks.length === 1 ? first : Buffer.concat(chunks);
}
