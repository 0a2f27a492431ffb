/** Whether this run is to use the full sizes: `npm run test:faults` sets it. */
export const full = process.env["PBFLAGD_FULL"] === "1";

/** How much of something a test does: `normal` in `npm test`, `fullSize` in a full run. */
export function size(normal: number, fullSize: number): number {
  return full ? fullSize : normal;
}
