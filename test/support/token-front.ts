import type { IncomingHttpHeaders } from "node:http";
import { type HttpFront, openHttpFront } from "./http-front.ts";
import { passOn } from "./pass-on.ts";

export interface TokenFrontOptions {
  /** Of the server behind it, which lets everybody in. */
  readonly port: number;
  /** Whom to let in. */
  readonly admits: (headers: IncomingHttpHeaders) => boolean;
}

/** Answers 401 to strangers, and passes on what others ask. */
export function openTokenFront({ port, admits }: TokenFrontOptions): Promise<HttpFront> {
  return openHttpFront((asked, answer) => {
    if (!admits(asked.headers)) {
      asked.resume();
      answer.writeHead(401, { "content-type": "text/plain" }).end("who are you?\n");
      return;
    }
    passOn(asked, answer, port);
  });
}
