import { type PlainHead, readPlainHead } from "./plain-head.ts";
import { RepeatedTexts } from "./repeated-texts.ts";

/** Where the answer to a plain request over HTTP/1.1 goes. One of these is called, once. */
export interface PlainExchange {
  /** Status 200. `fields` are lines of the head, each with its end, the body's length among them; a byte a character. */
  reply(fields: string, body: string): void;
  /** Has Node's server read the request again, if the client is still there. */
  fallThrough(): void;
  /** Gives up, and the connection with it. */
  destroy(): void;
}

/** Answers the requests that have one head, over either version of HTTP. */
export interface PlainRoute<Exchange> {
  /** Requests with a larger one are not for it. */
  readonly bodyBytesMax: number;
  answer(body: Buffer, exchange: Exchange): void;
  /** The client left in the middle of a request, or before it could be answered in another way. */
  cutOff(): void;
}

/** By the head of a POST. Undefined: such requests are not for it. */
export type PlainHandler<Exchange> = (
  head: Pick<PlainHead, "path" | "headers">,
) => PlainRoute<Exchange> | undefined;

/** A route, and how long the body is that comes with this head. */
export interface FoundRoute {
  readonly route: PlainRoute<PlainExchange>;
  readonly bodyBytes: number;
}

/** Of all connections together: a client sends the same few heads over and over, but for the length of the body. */
const HEADS_MAX = 256;

/** Finds the route for the text of a head. Those that came lately are not read again. */
export function createRouteFinder(
  handle: PlainHandler<PlainExchange>,
): (head: string) => FoundRoute | undefined {
  const known = new RepeatedTexts<FoundRoute>(HEADS_MAX);
  return (head) => {
    const remembered = known.get(head);
    if (remembered !== undefined) return remembered;
    const read = readPlainHead(head);
    const route = read === undefined ? undefined : handle(read);
    if (read === undefined || route === undefined || read.bodyBytes > route.bodyBytesMax) return undefined;
    const found = { route, bodyBytes: read.bodyBytes };
    known.found(head, found);
    return found;
  };
}
