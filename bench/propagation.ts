import { parseArgs } from "node:util";
import { openScene } from "../test/daemon/scene.ts";
import { openBenchDatabase } from "./bench-database.ts";
import { KILLED_FLAG } from "./changes.ts";
import { followMany } from "./followers.ts";
import { describeKills } from "./kill-table.ts";
import { describeMachine } from "./machine.ts";
import { type Measured, measure } from "./measure-kills.ts";
import { openThreeTiers } from "./three-tiers.ts";

/** How many follow the edge, and how many other changes a second are committed meanwhile. */
interface Round {
  readonly followers: number;
  readonly othersPerSecond: number;
}

const ROUNDS: readonly Round[] = [
  { followers: 10, othersPerSecond: 0 },
  { followers: 100, othersPerSecond: 0 },
  { followers: 1_000, othersPerSecond: 0 },
  { followers: 10, othersPerSecond: 20 },
];

const { values: options } = parseArgs({
  options: {
    followers: { type: "string" },
    kills: { type: "string", default: "200" },
    others: { type: "string", default: "0" },
    // For the process of the followers, which this one starts.
    follow: { type: "string" },
  },
});

if (options.follow === undefined) await main();
else await followMany(options.follow, Number(options.followers), KILLED_FLAG);

async function main(): Promise<void> {
  const kills = Number(options.kills);
  const rounds =
    options.followers === undefined
      ? ROUNDS
      : [{ followers: Number(options.followers), othersPerSecond: Number(options.others) }];
  const numbers = [kills, ...rounds.flatMap((round) => [round.followers, round.othersPerSecond])];
  if (numbers.some((number) => !Number.isInteger(number) || number < 0) || kills === 0)
    throw new Error("Cannot measure: --followers, --kills and --others must be whole numbers");

  const measured: Measured[] = [];
  for (const round of rounds) measured.push(await measureRound(round, kills));
  console.log(`\n${describeMachine()}, ${kills} kills a row\n\n${describeKills(measured)}`);
}

async function measureRound({ followers, othersPerSecond }: Round, kills: number): Promise<Measured> {
  await using bench = await openBenchDatabase();
  const { url } = bench;
  await using scene = await openScene({ url });
  await using tiers = await openThreeTiers(url, scene);
  console.log(`${followers} followers, ${othersPerSecond} other changes a second: ${kills} kills …`);
  return await measure({ url, tiers, kills, followers, othersPerSecond });
}
