import { isDeepStrictEqual } from "node:util";
import type { PoolSettings } from "../upstream/upstream-settings.ts";
import { type Config, propertyOf, type SettingKey, settingEntries } from "./settings.ts";

/** Settings that differ, by the operator's keys. No value is named: it may be secret. */
export interface ConfigChange {
  /** Can be put into force while the daemon runs. */
  readonly live: readonly (SettingKey | "upstreams")[];
  /** Cannot: the daemon has to start again. */
  readonly needRestart: readonly string[];
}

/** What a reload would change. The upstreams are named `server` where the next configuration has them from there. */
export function compareConfigs(inForce: Config, next: Config): ConfigChange {
  const changed = settingEntries.filter(
    // The pool says what this one comes to.
    ([key]) => key !== "server" && !isDeepStrictEqual(valueOf(inForce, key), valueOf(next, key)),
  );
  const live = changed.filter(([, setting]) => setting.live).map(([key]) => key);
  const needRestart = changed.filter(([, setting]) => !setting.live).map(([key]) => key);
  if (isSamePool(inForce.upstreams, next.upstreams)) return { live, needRestart };
  const pool = (next.upstreams === undefined ? inForce : next).server === undefined ? "upstreams" : "server";
  const isProxy = inForce.upstreams !== undefined && next.upstreams !== undefined;
  // Whether there is a pool at all is decided when the daemon starts.
  return isProxy ? { live: [...live, pool], needRestart } : { live, needRestart: [...needRestart, pool] };
}

/** `drain_timeout` is compared by its own name. */
function isSamePool(one: PoolSettings | undefined, other: PoolSettings | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return isDeepStrictEqual({ ...one, drainTimeoutMs: 0 }, { ...other, drainTimeoutMs: 0 });
}

function valueOf(config: Config, key: SettingKey): unknown {
  const [group, property] = propertyOf(key);
  const all: Readonly<Record<string, unknown>> = config;
  const owner = group === "" ? all : all[group];
  return typeof owner === "object" && owner !== null ? Reflect.get(owner, property) : undefined;
}
