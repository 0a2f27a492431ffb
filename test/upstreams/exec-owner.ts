import { systemClock } from "../../src/system/clock.ts";
import { openExecTransport } from "../../src/upstream/exec/exec-transport.ts";
import { upstreamSettings } from "../support/fake-upstream.ts";
import { noStream } from "../support/no-stream.ts";

/** What exec-owner.ts is told as its only argument, as JSON. */
export interface ExecOwnerOrders {
  readonly program: string;
  readonly folder: string;
}

/** A process that runs a plug-in until it is killed, and says a line of JSON for each event. */
const { program, folder } = JSON.parse(process.argv[2] ?? "") as ExecOwnerOrders;
openExecTransport({
  settings: upstreamSettings({ name: "plug", url: `exec:${program}` }),
  connect: ({ url }) => ({
    target: url,
    call: () => Promise.reject(new Error("Cannot call: nobody is to")),
    stream: noStream,
    [Symbol.asyncDispose]: async () => {},
  }),
  folder,
  env: process.env,
  clock: systemClock,
  random: Math.random,
  onOutput: () => {},
  onEvent: (_, event) => console.log(JSON.stringify(event)),
});
