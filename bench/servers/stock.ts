import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { Server } from "node:net";
import { fromBinary } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  BulkEvaluateResponseSchema,
  EvaluateResponseSchema,
  FlagEvaluatorService,
} from "../../src/gen/pbflags/v1/evaluator_pb.ts";

/** What a stock server answers to every call, in protobuf, as base64. */
export interface StockAnswers {
  readonly evaluate: string;
  readonly bulkEvaluate: string;
}

/** The floor: connect-node as it comes, with nothing behind it but one message. */
export function serveStockHttp1(answersPath: string): Server {
  return createServer(connectNodeAdapter({ routes: routes(answersPath) }));
}

/** The same over HTTP/2. */
export function serveStockHttp2(answersPath: string): Server {
  return createHttp2Server(connectNodeAdapter({ routes: routes(answersPath) }));
}

function routes(answersPath: string): (router: ConnectRouter) => void {
  const answers: StockAnswers = JSON.parse(readFileSync(answersPath, "utf8"));
  const one = fromBinary(EvaluateResponseSchema, Buffer.from(answers.evaluate, "base64"));
  const many = fromBinary(BulkEvaluateResponseSchema, Buffer.from(answers.bulkEvaluate, "base64"));
  return (router) => {
    router.service(FlagEvaluatorService, { evaluate: () => one, bulkEvaluate: () => many });
  };
}
