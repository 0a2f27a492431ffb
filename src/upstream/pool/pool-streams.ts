import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { linkSignals } from "../transport/linked-signal.ts";
import { UpstreamError } from "../upstream-error.ts";
import type { Member } from "./member.ts";
import type { Rotation } from "./rotation.ts";
import type { FollowCall, Following } from "./upstream-pool.ts";

interface OpenStream {
  readonly member: Member;
  readonly end: AbortController;
}

/**
 * Streams that are open. Whether an upstream is well is for calls and checks to say: a stream that breaks lowers no
 * score, and is broken off when its upstream is no longer among the best.
 */
export class PoolStreams {
  readonly #rotation: Rotation;
  readonly #open = new Set<OpenStream>();

  constructor(rotation: Rotation) {
    this.#rotation = rotation;
  }

  follow<I extends DescMessage, O extends DescMessage>(call: FollowCall<I, O>): Following<MessageShape<O>> {
    const member = this.#rotation.chooseToFollow(call.except);
    if (member === undefined) return { kind: "nobody", error: this.#nobody() };
    return { kind: "following", upstream: member.name, messages: this.#messages(member, call) };
  }

  canFollow(except: ReadonlySet<string>): boolean {
    return this.#rotation.canFollow(except);
  }

  /** Something has changed in the rotation. */
  review(): void {
    if (this.#open.size === 0) return;
    const best = this.#rotation.bestToFollow;
    for (const { member, end } of this.#open) {
      if (best.includes(member)) continue;
      end.abort(new UpstreamError("unavailable", `Cannot follow ${member.name}: ${this.#whyNot(member)}`));
    }
  }

  async *#messages<I extends DescMessage, O extends DescMessage>(
    member: Member,
    { method, request, versionOf, signal }: FollowCall<I, O>,
  ): AsyncGenerator<MessageShape<O>> {
    const stream = { member, end: new AbortController() };
    using linked = linkSignals(signal, stream.end.signal);
    this.#open.add(stream);
    try {
      for await (const message of member.transport.stream(method, request, linked.signal)) {
        const version = versionOf(message);
        // Of nothing that is known yet there is no version, as of a store without any.
        const refusal = version === undefined ? undefined : this.#rotation.recordVersion(member, version);
        if (refusal !== undefined)
          throw new UpstreamError("failed_precondition", `Cannot follow ${member.name}: ${refusal}`);
        yield message;
      }
    } finally {
      this.#open.delete(stream);
    }
  }

  #whyNot(member: Member): string {
    if (!this.#rotation.members.includes(member)) return "it has left the pool";
    const refusal = this.#rotation.refusalOf(member);
    if (refusal !== undefined) return refusal;
    return this.#rotation.stateOf(member) === "up" ? "another one is better" : "it is down";
  }

  #nobody(): UpstreamError {
    return this.#rotation.kind === "pbflags"
      ? new UpstreamError(
          "unimplemented",
          "Cannot follow any upstream: a plain pbflags evaluator tells nothing",
        )
      : this.#rotation.nobody();
  }
}
