import { type HttpFront, openHttpFront } from "./http-front.ts";
import { passOn } from "./pass-on.ts";

/** Several servers under one address, as behind a load balancer. `portOf` says by its path who answers a request. */
export function openSplitFront(portOf: (path: string) => number): Promise<HttpFront> {
  return openHttpFront((asked, answer) => passOn(asked, answer, portOf(asked.url ?? "")));
}
