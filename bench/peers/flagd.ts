import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { create, toJson } from "@bufbuild/protobuf";
import { type DefaultSpec, type FlagSpec, manyFeatures } from "../../test/support/descriptors.ts";
import { askOnce } from "../load/ask-once.ts";
import type { Load } from "../load/load.ts";
import { type Question, questionsOf } from "../load/questions.ts";
import { PROTOCOLS, type ProtocolName } from "../load/requests.ts";
import { ASKED_FLAGS, ENTITIES, expect, FLAG_COUNT, hasOverrides, isOverridden, ONE_FLAG } from "../scene.ts";
import { type ServerProcess, startProgram } from "../servers/server-process.ts";
import {
  RESOLVE_STRING_PATH,
  ResolveStringRequestSchema,
  ResolveStringResponseSchema,
} from "./flagd-messages.ts";
import { freePorts } from "./free-ports.ts";
import type { Peer, PeerScene } from "./peer.ts";

export const FLAGD_PROGRAM = "flagd";

/** Starts flagd on a file with the same flags, values and overrides, with its defaults. */
export async function openFlagd(program: string, { folder }: PeerScene): Promise<Peer> {
  const file = join(folder, "flagd.json");
  await writeFile(file, JSON.stringify({ flags: describeFlags() }));
  const server = await startFlagd(program, file);
  return {
    name: "flagd",
    server,
    async askedFor(protocol, questionName) {
      const question = questionsOf(protocol).get(questionName);
      // It resolves one flag, or all that there are.
      if (question === undefined || question.isBulk) return undefined;
      const load = createLoad(protocol, question);
      await checkAnswers(server.port, load, { protocol, question });
      return load;
    },
  };
}

async function startFlagd(program: string, file: string): Promise<ServerProcess> {
  const [port = 0, management, sync, ofrep] = await freePorts(4);
  const ports = { port, "management-port": management, "sync-port": sync, "ofrep-port": ofrep };
  const args = Object.entries(ports).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return startProgram(
    { program, args: ["start", "--uri", `file:${file}`, ...args] },
    { port, isReady: () => knowsFlags(port) },
  );
}

/** It calls itself ready before it has read its flags. */
function knowsFlags(port: number): Promise<boolean> {
  const load = createLoad("Connect JSON", { isBulk: false, entityIds: [""] });
  return askOnce(port, load, load.bodies[0] ?? new Uint8Array()).then(
    () => true,
    () => false,
  );
}

/** What it calls targeting says who gets another value than the rest. */
const OVERRIDES = {
  if: [{ in: [{ var: "targetingKey" }, ENTITIES.filter(hasOverrides)] }, "override", null],
};

function describeFlags(): Readonly<Record<string, unknown>> {
  const flags = manyFeatures(FLAG_COUNT).flatMap(({ feature, flags }) =>
    flags.map((flag) => [`${feature}/${flag.number}`, describeFlag(flag)] as const),
  );
  const asked = ASKED_FLAGS.map((flagId, i) => {
    const { source, value } = expect(flagId, "");
    const variants = { global: value, override: "never" };
    const targeting = source !== "killed" && isOverridden(i) ? { targeting: OVERRIDES } : {};
    return [flagId, { state: "ENABLED", variants, defaultVariant: "global", ...targeting }] as const;
  });
  return Object.fromEntries([...flags, ...asked]);
}

function describeFlag({ default: value = "" }: FlagSpec) {
  return { state: "ENABLED", variants: { default: toVariant(value) }, defaultVariant: "default" };
}

/** It has no 64-bit numbers, and instead of lists objects. */
function toVariant(value: DefaultSpec): unknown {
  if (typeof value === "bigint") return Number(value);
  return Array.isArray(value) ? { values: value.map(toVariant) } : value;
}

function createLoad(protocol: ProtocolName, { entityIds }: Question): Load {
  const { with: program, headers, encode } = PROTOCOLS[protocol];
  const bodies = entityIds.map((entityId) => {
    const context = entityId === "" ? {} : { context: { targetingKey: entityId } };
    const request = create(ResolveStringRequestSchema, { flagKey: ONE_FLAG, ...context });
    return encode(ResolveStringRequestSchema, request);
  });
  return { with: program, path: RESOLVE_STRING_PATH, headers, bodies };
}

const CHECKED_MAX = 50;

async function checkAnswers(
  port: number,
  load: Load,
  { protocol, question }: { readonly protocol: ProtocolName; readonly question: Question },
): Promise<void> {
  for (const [i, body] of load.bodies.slice(0, CHECKED_MAX).entries()) {
    const answer = await askOnce(port, load, body);
    const message = PROTOCOLS[protocol].decode(ResolveStringResponseSchema, answer);
    const got = toJson(ResolveStringResponseSchema, message);
    const { value } = expect(ONE_FLAG, question.entityIds[i] ?? "");
    if (typeof got !== "object" || got === null || Array.isArray(got) || got["value"] !== value)
      throw new Error(`Cannot measure: flagd should have answered "${value}", got ${JSON.stringify(got)}`);
  }
}
