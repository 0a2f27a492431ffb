import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import {
  create,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { Clock } from "../system/clock.ts";
import { fromAnswer } from "./connect-answer.ts";
import type { Deadline } from "./deadline.ts";
import { post } from "./http-post.ts";
import { describeTarget, parseTarget } from "./parse-target.ts";

/** Calls the RPCs of one upstream: Connect's unary protocol over HTTP/1.1, on connections that are kept open. */
export interface UpstreamClient extends AsyncDisposable {
  /** Its URL, without credentials. */
  readonly name: string;
  /** Rejects with an UpstreamError, or with the reason of the deadline's signal. For RPCs that change nothing. */
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

export interface UpstreamClientOptions {
  /** See `parseTarget`. */
  readonly url: string;
  readonly clock: Pick<Clock, "now">;
  /** Asked before each call, for headers such as those that carry a trace on. */
  readonly headers?: () => Readonly<Record<string, string>>;
}

/** Further calls wait for one of these. */
const CONNECTIONS_MAX = 64;
/** More than any kill set or entity that makes sense. */
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;

/** Throws an UpstreamError for a URL that cannot be one. Connects when first called. */
export function openUpstreamClient({ url, clock, headers }: UpstreamClientOptions): UpstreamClient {
  const target = parseTarget(url);
  const name = describeTarget(target);
  const settings = { keepAlive: true, maxSockets: CONNECTIONS_MAX };
  const agent = target.secure ? new HttpsAgent(settings) : new HttpAgent(settings);

  return {
    name,
    async call(method, request, { at, signal }) {
      const answer = await post({
        target,
        agent,
        path: `/${method.parent.typeName}/${method.name}`,
        headers: {
          ...headers?.(),
          "content-type": "application/proto",
          "connect-protocol-version": "1",
          "connect-timeout-ms": String(Math.max(1, Math.ceil(at - clock.now()))),
        },
        body: toBinary(method.input, create(method.input, request)),
        answerBytesMax: ANSWER_BYTES_MAX,
        signal,
      });
      return fromAnswer(name, method.output, answer);
    },
    async [Symbol.asyncDispose]() {
      agent.destroy();
    },
  };
}
