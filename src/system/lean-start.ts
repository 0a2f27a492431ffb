import { setFlagsFromString } from "node:v8";

/**
 * How much of a function V8 runs before it thinks of optimising it, in bytes of bytecode: by default, which is that of Node 20
 * (test/deploy/bundle.test.ts fails where it is another), and in a start.
 */
const OPTIMISED_AFTER = 67_584;
const OPTIMISED_IN_A_START_AFTER = 400_000;

/**
 * From now on V8 takes what a start needs, and no more. Young objects get no more room than they have: what a start makes
 * is kept, and would have V8 reserve 32 MB that an idle process never returns. And little is optimised: nothing runs for
 * long, while compilers on other threads take memory, and time from whatever else has to start, such as a session of the
 * database. Ended by calling what is returned; then the load decides again.
 */
export function startLean(): () => void {
  setFlagsFromString("--semi-space-growth-factor=1");
  setFlagsFromString(`--interrupt-budget=${OPTIMISED_IN_A_START_AFTER}`);
  return () => {
    setFlagsFromString("--semi-space-growth-factor=2");
    // What V8 has compiled ahead fits only a process with the default.
    setFlagsFromString(`--interrupt-budget=${OPTIMISED_AFTER}`);
  };
}
