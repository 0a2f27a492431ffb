import { type PlainHead, readPlainHead } from "./plain-head.ts";

/** Where the answer to a plain request goes. One of these is called, once. */
export interface PlainExchange {
  /** Status 200. `fields` are lines of the head, each with its end, the body's length among them; a byte a character. */
  reply(fields: string, body: string): void;
  /** Has Node's server read the request again, if the client is still there. */
  fallThrough(): void;
  /** Gives up, and the connection with it. */
  destroy(): void;
}

/** Answers the requests that have one head. */
export interface PlainRoute {
  /** Requests with a larger one are not for it. */
  readonly bodyBytesMax: number;
  answer(body: Buffer, exchange: PlainExchange): void;
  /** The client left in the middle of a request, or before Node's server could read it again. */
  cutOff(): void;
}

/** Undefined: such requests are not for it. */
export type PlainHandler = (head: PlainHead) => PlainRoute | undefined;

/** A route, and how long the body is that comes with this head. */
export interface FoundRoute {
  readonly route: PlainRoute;
  readonly bodyBytes: number;
}

/** Of all connections together: a client sends the same few heads over and over, but for the length of the body. */
const HEADS_MAX = 256;

/** Finds the route for the text of a head. Those that came lately are not read again. */
export function createRouteFinder(handle: PlainHandler): (head: string) => FoundRoute | undefined {
  const known = new Map<string, FoundRoute>();
  return (head) => {
    const remembered = known.get(head);
    if (remembered !== undefined) return remembered;
    const read = readPlainHead(head);
    const route = read === undefined ? undefined : handle(read);
    if (read === undefined || route === undefined || read.bodyBytes > route.bodyBytesMax) return undefined;
    const found = { route, bodyBytes: read.bodyBytes };
    if (known.size === HEADS_MAX) known.clear();
    known.set(head, found);
    return found;
  };
}
