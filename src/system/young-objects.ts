import { setFlagsFromString } from "node:v8";

/**
 * From now on V8 gives young objects no more room than they have: what a start makes is kept, and would have it
 * reserve 32 MB that an idle process never returns. Ended by calling what is returned; then the load decides again.
 */
export function keepYoungObjectsSmall(): () => void {
  setFlagsFromString("--semi-space-growth-factor=1");
  return () => setFlagsFromString("--semi-space-growth-factor=2");
}
