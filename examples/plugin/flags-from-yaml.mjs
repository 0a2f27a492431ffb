#!/usr/bin/env node
// A store plug-in: serves flags from a YAML file to the pbflagd that runs it. See docs/plugins.md.
import { readFileSync, watchFile } from "node:fs";
import { createServer } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { parse } from "yaml";
// In a project of your own, generate these from pbflagd's proto/ folder.
import {
  EvaluationSource,
  EvaluatorStatus,
  FlagEvaluatorService,
} from "../../dist/gen/pbflags/v1/evaluator_pb.js";
import { State } from "../../dist/gen/pbflags/v1/types_pb.js";

const [file] = process.argv.slice(2);
const address = process.env.PBFLAGD_PLUGIN_ADDRESS;
if (file === undefined || address === undefined) {
  console.error("usage: flags-from-yaml.mjs FILE, run by pbflagd with PBFLAGD_PLUGIN_ADDRESS set");
  process.exit(2);
}

/** Flag id → what is set for it: { state, value, overrides: entity id → { state, value } }. */
let flags = load();
watchFile(file, { interval: 500 }, () => {
  try {
    flags = load();
    console.log(`serves ${flags.size} flags of ${file}`);
  } catch (error) {
    console.error(`${error.message}; what was there before is served on`);
  }
});

const service = {
  health: () => ({ status: EvaluatorStatus.SERVING, cachedFlagCount: flags.size }),

  getFlagState({ flagId }) {
    const flag = flags.get(flagId);
    // NOT_FOUND is "nothing is set", and pbflagd serves the default. Any other error is a failure.
    if (flag === undefined) throw new ConnectError(`Cannot find flag ${flagId}`, Code.NotFound);
    return { flag: { flagId, state: flag.state, value: flag.value } };
  },

  getKilledFlags: () => ({
    flagIds: [...flags].filter(([, { state }]) => state === State.KILLED).map(([flagId]) => flagId),
    killedOverrides: listOverrides().filter(({ state }) => state === State.KILLED),
  }),

  getOverrides: ({ entityId, flagIds }) => ({
    overrides: listOverrides()
      .filter((override) => override.entityId === entityId)
      .filter(({ flagId }) => flagIds.length === 0 || flagIds.includes(flagId)),
  }),

  // pbflagd decides itself and never asks these two. They are for people who ask the plug-in.
  evaluate: ({ flagId, entityId }) => evaluate(flagId, entityId),
  bulkEvaluate: ({ flagIds, entityId }) => ({
    evaluations: (flagIds.length === 0 ? [...flags.keys()] : flagIds).map((id) => evaluate(id, entityId)),
  }),
};

function listOverrides() {
  return [...flags].flatMap(([flagId, { overrides }]) =>
    [...overrides].map(([entityId, { state, value }]) => ({ flagId, entityId, state, value })),
  );
}

function evaluate(flagId, entityId) {
  const flag = flags.get(flagId);
  const override = flag?.overrides.get(entityId);
  if (flag?.state === State.KILLED || override?.state === State.KILLED) {
    return { flagId, source: EvaluationSource.KILLED };
  }
  if (override?.state === State.ENABLED) {
    return { flagId, source: EvaluationSource.OVERRIDE, value: override.value };
  }
  if (override === undefined && flag?.state === State.ENABLED) {
    return { flagId, source: EvaluationSource.GLOBAL, value: flag.value };
  }
  return { flagId, source: EvaluationSource.DEFAULT };
}

/** Reads the whole file before any of it is served: a mistake anywhere changes nothing. */
function load() {
  try {
    const { flags = {} } = parse(readFileSync(file, "utf8"), { intAsBigInt: true }) ?? {};
    return new Map(Object.entries(flags).map(([id, flag]) => [id, toFlag(id, flag)]));
  } catch (cause) {
    throw new Error(`Cannot read ${file}: ${cause.message}`, { cause });
  }
}

function toFlag(id, { overrides = {}, ...setting }) {
  const entries = Object.entries(overrides);
  return {
    ...toSetting(id, setting),
    overrides: new Map(entries.map(([entity, each]) => [entity, toSetting(`${id} for ${entity}`, each)])),
  };
}

function toSetting(where, { state = "enabled", value }) {
  const wire = { enabled: State.ENABLED, default: State.DEFAULT, killed: State.KILLED }[state];
  if (wire === undefined) throw new Error(`${where}: state must be enabled, default or killed, got ${state}`);
  return { state: wire, value: value === undefined ? undefined : toValue(where, value) };
}

/** The type is that of the flag, as YAML has it: `1` is an integer, `1.0` a double. */
function toValue(where, value) {
  const types = new Set([value].flat().map((one) => typeof one));
  const [type] = types;
  const name = { boolean: "bool", string: "string", bigint: "int64", number: "double" }[type];
  if (types.size !== 1 || name === undefined) {
    throw new Error(`${where}: value must be a bool, string, number or a list of one of these`);
  }
  return {
    value: Array.isArray(value)
      ? { case: `${name}ListValue`, value: { values: value } }
      : { case: `${name}Value`, value },
  };
}

const routes = (router) => router.service(FlagEvaluatorService, service);
const server = createServer(connectNodeAdapter({ routes, readMaxBytes: 1024 * 1024 }));
server.listen(address.replace("unix://", ""), () => console.log(`pbflagd-plugin 1 connect ${address}`));

// pbflagd holds our stdin open. When it closes, pbflagd is gone, and so must we be.
process.stdin.resume().on("end", () => process.exit());
process.on("SIGTERM", () => process.exit());
