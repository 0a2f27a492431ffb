import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadDescriptors } from "../../src/flags/load-descriptors.ts";
import { type AdminStore, createAdminStore } from "../../src/store/admin-store.ts";
import { connectDatabase } from "../../src/store/database.ts";
import { type SyncReport, syncDefinitions } from "../../src/store/sync-definitions.ts";
import type { TestDaemon, TestEvaluation } from "../support/daemon.ts";
import { describeFlags, type FeatureSpec } from "../support/descriptors.ts";
import type { Question, Reply } from "../support/load.ts";

/** What the shop's descriptors define. */
export const shop: readonly FeatureSpec[] = [
  {
    feature: "shop",
    flags: [
      { number: 1, name: "banner", type: "STRING", layer: "user", default: "daily" },
      { number: 2, name: "dark", type: "BOOL", layer: "user", default: true },
      { number: 3, name: "limit", type: "INT64", default: 5n },
      { number: 4, name: "ratio", type: "DOUBLE", default: 0.5 },
      { number: 5, name: "sizes", type: "STRING_LIST", layer: "user", default: ["s", "m"] },
      { number: 6, name: "quota", type: "INT64" },
    ],
  },
];

/** What an operator has set in the shop. shop/4 was set, and then killed; shop/6 has no default and no value. */
export async function furnish(store: AdminStore): Promise<void> {
  await store.setValue("shop/1", "weekly");
  await store.setOverride("shop/1", "ann", "never");
  await store.setOverride("shop/2", "bob", "false");
  await store.setValue("shop/3", "7");
  await store.setValue("shop/4", "0.9");
  await store.kill("shop/4");
  await store.setValue("shop/5", '["l"]');
}

const global: Readonly<Record<string, unknown>> = {
  "shop/1": { stringValue: "weekly" },
  "shop/2": { boolValue: true },
  "shop/3": { int64Value: "7" },
  "shop/4": { doubleValue: 0.5 },
  "shop/5": { stringListValue: { values: ["l"] } },
};

const ofEntities: Readonly<Record<string, unknown>> = {
  "shop/1 ann": { stringValue: "never" },
  "shop/2 bob": { boolValue: false },
};

/** The value that a furnished shop answers with, whatever happens to its database; as JSON, "" for none. */
export function rightValue({ flagId, entityId }: Question): string {
  const value = ofEntities[`${flagId} ${entityId}`] ?? global[flagId];
  return value === undefined ? "" : JSON.stringify(value);
}

export function valueOf({ value }: TestEvaluation): string {
  return value === undefined ? "" : JSON.stringify(value);
}

const entities = ["", "ann", "bob", "carl"];
/** One that the database does not know either. */
const flagIds = ["shop/1", "shop/2", "shop/3", "shop/4", "shop/5", "shop/6", "ghost/1"];

/** Everything that a daemon should have looked up before its database is taken away. */
export const familiar: readonly Question[] = flagIds.flatMap((flagId) =>
  entities.map((entityId) => ({ flagId, entityId })),
);

let strangers = 0;

/** Mostly familiar questions, and one in nine about an entity that nobody has asked about before. */
export function mixed(n: number): Question {
  const question = familiar[n % familiar.length];
  if (question !== undefined && n % 9 !== 0) return question;
  return { flagId: flagIds[n % 5] ?? "", entityId: `stranger-${strangers++}` };
}

/** How many replies are no answer, or not the right one, and a few of them to look at. */
export function wrongReplies(replies: readonly Reply[]) {
  return few(replies.filter((reply) => reply.status !== 200 || reply.value !== rightValue(reply.question)));
}

/** Enough of many replies to see what is wrong with them. */
export function few(replies: readonly Reply[]) {
  return { count: replies.length, first: replies.slice(0, 3) };
}

/** What `few` and `wrongReplies` should say. */
export const NONE = { count: 0, first: [] };

/** A shop: descriptors in a file, their rows in a database, and an operator who sits right at that database. */
export interface Scene extends AsyncDisposable {
  /** The descriptors' path. */
  readonly descriptors: string;
  /** Changes state, past any proxy. */
  operate<T>(change: (store: AdminStore) => Promise<T>): Promise<T>;
  /** Runs SQL, past any proxy. */
  sql(text: string, values?: readonly unknown[]): Promise<readonly Record<string, unknown>[]>;
  /** Replaces the descriptor file in one step. */
  describe(features: readonly FeatureSpec[]): Promise<void>;
  /** Writes rows for what the descriptor file says now. */
  sync(): Promise<SyncReport>;
}

export interface SceneOptions {
  /** Straight to a migrated database. */
  readonly url: string;
  /** The shop unless set. */
  readonly features?: readonly FeatureSpec[];
  /** As `furnish` unless set. */
  readonly operate?: (store: AdminStore) => Promise<void>;
}

export async function openScene({ url, features = shop, operate = furnish }: SceneOptions): Promise<Scene> {
  const folder = await mkdtemp(join(tmpdir(), "pbflagd-daemon-"));
  const descriptors = join(folder, "flags.pb");
  const actor = "tester";
  const scene: Scene = {
    descriptors,
    async operate(change) {
      await using database = await connectDatabase({ url });
      return await change(createAdminStore(database, { actor }));
    },
    async sql(text, values) {
      await using database = await connectDatabase({ url });
      return (await database.query(text, values)).rows;
    },
    async describe(next) {
      await writeFile(`${descriptors}.new`, describeFlags(next));
      await rename(`${descriptors}.new`, descriptors);
    },
    async sync() {
      await using database = await connectDatabase({ url });
      return await syncDefinitions(database, await loadDescriptors(descriptors), { actor });
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
  await scene.describe(features);
  await scene.sync();
  await scene.operate(operate);
  return scene;
}

/** What a daemon answers an entity now, as `value SOURCE` by name; for `expect.poll`. */
export function answersTo(daemon: Pick<TestDaemon, "bulkEvaluate">, entityId: string) {
  const names = [
    "shop/1",
    "shop/2",
    "shop/3",
    "shop/4",
    "shop/5",
    "shop/6",
    "shop/77",
    "shop.banner",
    "shop.limit",
  ];
  return async (): Promise<Readonly<Record<string, string>>> => {
    const evaluations = await daemon.bulkEvaluate(names, entityId);
    return Object.fromEntries(
      evaluations.map((each) => [
        each.flagId,
        `${valueOf(each)} ${each.source.replace("EVALUATION_SOURCE_", "")}`,
      ]),
    );
  };
}

/** How soon a daemon knows what changed, be it that the store has just come back. For `expect.poll`. */
export const SOON = { timeout: 30_000, interval: 20 };

/** `cache.fetch_timeout` of a daemon whose store answers, be the machine as busy as it may. */
export const PATIENCE = "10s";

/** Arguments of a daemon in front of a scene whose store may say nothing for long, which it is to notice soon. */
export const IMPATIENTLY = ["--cache-fetch-timeout", "1s"];

/** Arguments of a daemon in front of a scene, with a short memory: in a second it knows what changed. */
export function serveArgs(url: string, { descriptors }: Pick<Scene, "descriptors">): readonly string[] {
  const settings = {
    database: url,
    descriptors,
    "cache-fetch-timeout": PATIENCE,
    "cache-kill-ttl": "1s",
    "cache-flag-ttl": "2s",
    "cache-override-ttl": "2s",
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

/** The same database by another way. */
export function through({ port }: { readonly port: number }, url: string): string {
  return Object.assign(new URL(url), { port: String(port) }).href;
}
