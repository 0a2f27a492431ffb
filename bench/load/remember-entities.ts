import { type Sender } from "../../test/support/load.ts";
import { rawSender } from "../../test/support/raw-sender.ts";
import { ENTITIES, hasOverrides, ONE_FLAG } from "../scene.ts";

const CONNECTIONS = 16;
const PASSES_MAX = 20;

/**
 * Asks for every entity, so that the evaluator on this port has all of them in memory; again, where it could not look up
 * every one of them in time.
 */
export async function rememberEntities(port: number): Promise<void> {
  const sender = rawSender(port, CONNECTIONS);
  try {
    for (let pass = 0; pass < PASSES_MAX; pass++) if (await askAll(sender)) return;
    throw new Error(
      "Cannot measure: overrides are not answered although they were asked for again and again",
    );
  } finally {
    sender.close();
  }
}

/** Whether every entity that has an override was answered with it. */
async function askAll(sender: Sender): Promise<boolean> {
  const isRight = await Promise.all(
    // The most frequent last: they are to be the most recently used.
    ENTITIES.toReversed().map(async (entityId) => {
      const { status, body } = await sender.send({ flagId: ONE_FLAG, entityId });
      if (status !== 200) throw new Error(`Cannot measure: an Evaluate was answered ${status}`);
      return !hasOverrides(entityId) || body.includes("EVALUATION_SOURCE_OVERRIDE");
    }),
  );
  return isRight.every(Boolean);
}
