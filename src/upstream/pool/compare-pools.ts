import type { PoolSettings, UpstreamSettings } from "../upstream-settings.ts";
import type { PoolChange } from "./upstream-pool.ts";

/** What the upstreams of a pool are compared to those of another, by name. */
export function comparePools(old: PoolSettings, next: PoolSettings): PoolChange {
  const before = new Map(old.upstreams.map((upstream) => [upstream.name, upstream]));
  const after = new Set(next.upstreams.map(({ name }) => name));
  const added: string[] = [];
  const updated: PoolChange["updated"][number][] = [];
  const unchanged: string[] = [];
  for (const upstream of next.upstreams) {
    const known = before.get(upstream.name);
    const keys = known === undefined ? undefined : changedKeys(known, upstream);
    if (keys === undefined) added.push(upstream.name);
    else if (keys.length > 0) updated.push({ name: upstream.name, keys });
    else unchanged.push(upstream.name);
  }
  const removed = old.upstreams.map(({ name }) => name).filter((name) => !after.has(name));
  const settings = changedKeys({ ...old, upstreams: [] }, { ...next, upstreams: [] });
  return { added, updated, removed, unchanged, settings };
}

/** As the file names them, such as `url` and `breaker.open`; never a value: it may be secret. */
function changedKeys(
  old: UpstreamSettings | PoolSettings,
  next: UpstreamSettings | PoolSettings,
): readonly string[] {
  const before = leavesOf(old);
  const after = leavesOf(next);
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...new Set([...keys].filter((key) => before.get(key) !== after.get(key)).map(nameOf))].toSorted();
}

/** Every value of a tree as JSON, by its path. */
function leavesOf(value: unknown, path = ""): ReadonlyMap<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return new Map([[path, JSON.stringify(value) ?? "unset"]]);
  }
  const prefix = path === "" ? "" : `${path}.`;
  return new Map(
    Object.entries(value).flatMap(([key, child]: [string, unknown]) => [
      ...leavesOf(child, `${prefix}${key}`),
    ]),
  );
}

function nameOf(path: string): string {
  // What lies within these is named by the operator: headers and variables.
  const [within] = /^(auth|exec\.env)\b/.exec(path) ?? [];
  const name = (within ?? path)
    .replace(/Ms$/, "")
    .replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return /\b(jitter|budget)$/.test(name) ? `${name}_percent` : name;
}
