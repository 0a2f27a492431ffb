import type { Clock } from "../../system/clock.ts";
import { withDeadline } from "../transport/deadline.ts";
import { toUpstreamError } from "../upstream-error.ts";
import type { HealthCheckSettings } from "../upstream-settings.ts";
import { checkUpstream } from "./check-upstream.ts";
import type { Member } from "./member.ts";
import type { Rotation } from "./rotation.ts";

export interface HealthCheckOptions {
  readonly rotation: Rotation;
  /** As they are in force. */
  readonly settings: () => HealthCheckSettings;
  readonly clock: Clock;
  readonly random: () => number;
}

/** Checks a member at once, and again and again until it is closed. */
export async function keepChecking(member: Member, options: HealthCheckOptions): Promise<void> {
  const { settings, clock, random } = options;
  await checkMember(member, options, member.gone);
  // The first pause spreads them out; from then on they keep their distance.
  let share = random();
  while (!member.gone.aborted) {
    const { intervalMs, jitter } = settings();
    const spread = 1 + jitter * (2 * random() - 1);
    await clock.sleep(intervalMs * share * spread, member.gone).catch(() => {});
    share = 1;
    if (!member.gone.aborted) await checkMember(member, options, member.gone);
  }
}

/** Checks a member once. False if it failed, or was cut short. Never rejects. */
export async function checkMember(
  member: Member,
  { rotation, settings, clock }: HealthCheckOptions,
  signal: AbortSignal,
): Promise<boolean> {
  const askedAt = clock.now();
  try {
    const condition = await withDeadline(
      { timeoutMs: settings().timeoutMs, clock, outer: signal },
      (deadline) => checkUpstream(member, deadline),
    );
    rotation.recordCondition(member, condition, askedAt);
    rotation.recordSuccess(member);
    return true;
  } catch (error) {
    // What closing cut short is no failure of the upstream.
    if (signal.aborted || member.gone.aborted) return false;
    member.recordFailedCheck(toUpstreamError(error, member.transport.target));
    rotation.recordFailure(member);
    return false;
  }
}
