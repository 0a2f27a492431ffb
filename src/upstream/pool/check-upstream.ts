import { StateService } from "../../gen/pbflagd/v1/state_pb.ts";
import { EvaluatorStatus, FlagEvaluatorService } from "../../gen/pbflags/v1/evaluator_pb.ts";
import { toldVersion } from "../told-version.ts";
import type { Deadline } from "../transport/deadline.ts";
import { UpstreamError } from "../upstream-error.ts";
import type { Condition, Member } from "./member.ts";

/**
 * Asks an upstream how it does, and finds out what it is: pbflagd answers GetStatus, and whoever does not know that
 * RPC is a plain evaluator, which answers Health. Rejects if it does not answer in time, or not sensibly.
 */
export async function checkUpstream(member: Member, deadline: Deadline): Promise<Condition> {
  const { transport, settings, certainKind } = member;
  const expected = settings.kind === "auto" ? certainKind : settings.kind;
  if (expected !== "pbflags") {
    try {
      const answer = await transport.call(StateService.method.getStatus, {}, deadline);
      const { status, version, descriptorHash } = answer;
      return { kind: "pbflagd", status: toStatus(status), version: toldVersion(version), descriptorHash };
    } catch (error) {
      if (expected !== undefined || !isUnknownRpc(error)) throw error;
    }
  }
  const { status } = await transport.call(FlagEvaluatorService.method.health, {}, deadline);
  return { kind: "pbflags", status: toStatus(status), version: undefined, descriptorHash: "" };
}

function isUnknownRpc(error: unknown): boolean {
  return error instanceof UpstreamError && error.code === "unimplemented";
}

function toStatus(status: EvaluatorStatus): Condition["status"] {
  if (status === EvaluatorStatus.SERVING) return "serving";
  return status === EvaluatorStatus.DEGRADED ? "degraded" : "connecting";
}
