import { UpstreamError } from "../../src/upstream/upstream-error.ts";

/** For transports that a test plays, whose upstream has no streams. */
export async function* noStream(): AsyncGenerator<never> {
  yield* [];
  throw new UpstreamError("unimplemented", "answered unimplemented", { answered: true });
}
