import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Deadline } from "./deadline.ts";

/** Calls the RPCs of one upstream, whatever they travel over. */
export interface Transport extends AsyncDisposable {
  /** Its URL, without credentials: for people. */
  readonly target: string;
  /**
   * Makes one call that changes nothing. Rejects with an UpstreamError that names the target and shows no secret, or
   * with the reason of the deadline's signal.
   */
  call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
    deadline: Deadline,
  ): Promise<MessageShape<O>>;
}

/** A method as a generated service has it. */
export type UnaryMethod<I extends DescMessage, O extends DescMessage> = Pick<
  DescMethod,
  "name" | "parent"
> & {
  readonly input: I;
  readonly output: O;
};
