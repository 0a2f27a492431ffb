import { createInterface } from "node:readline";
import { FlagEvaluatorService } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { systemClock } from "../../src/system/clock.ts";
import { withDeadline } from "../../src/upstream/transport/deadline.ts";
import { openTransport } from "../../src/upstream/transport/open-transport.ts";
import { upstreamSettings } from "../support/fake-upstream.ts";

/**
 * A process that nothing keeps from ending by an error that nobody hears. Makes a call for each line on stdin, prints
 * what came of it, and ends with stdin.
 */
async function main(): Promise<void> {
  const settings = upstreamSettings({ name: "a", url: process.argv[2] ?? "" });
  await using transport = openTransport({ settings, clock: systemClock });
  for await (const _ of createInterface({ input: process.stdin })) {
    const { flagIds } = await withDeadline({ timeoutMs: 5_000, clock: systemClock }, (deadline) =>
      transport.call(FlagEvaluatorService.method.getKilledFlags, {}, deadline),
    );
    console.log(flagIds.join());
  }
}

await main();
