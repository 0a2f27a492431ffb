/** What the tests of tracing run in processes of their own. */
export { systemClock } from "../../src/system/clock.ts";
export { openTracing } from "../../src/telemetry/tracing.ts";
