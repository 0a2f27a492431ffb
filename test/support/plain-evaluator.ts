import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session } from "node:http2";
import type { Server } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  EvaluateResponseSchema,
  EvaluationSource,
  EvaluatorStatus,
  FlagEvaluatorService,
} from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { type FlagValueSchema, State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { listen } from "./listen.ts";

/** What a plain evaluator holds for one flag, or for one flag and one entity. */
export interface PlainRow {
  readonly state: State;
  readonly value?: MessageInitShape<typeof FlagValueSchema>;
  readonly archived?: boolean;
}

export type PlainMethod = keyof typeof FlagEvaluatorService.method;

/** An evaluator of pbflags, which knows its six RPCs and nothing of pbflagd, as far as a proxy can tell. */
export class PlainEvaluator implements AsyncDisposable {
  readonly url: string;
  status = EvaluatorStatus.SERVING;
  readonly rows = new Map<string, PlainRow>();
  /** By entity, then by flag. */
  readonly overrides = new Map<string, ReadonlyMap<string, PlainRow>>();
  /** Flags of which its own upstream told nothing: whatever that said, it says INTERNAL. */
  readonly untold = new Set<string>();
  /** How often each RPC was called. */
  readonly calls: Record<PlainMethod, number> = {
    evaluate: 0,
    bulkEvaluate: 0,
    health: 0,
    getFlagState: 0,
    getKilledFlags: 0,
    getOverrides: 0,
  };
  readonly #server: Server;
  readonly #sessions = new Set<ServerHttp2Session>();

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  /** `http`: over HTTP/1.1. `grpc`: over HTTP/2 in cleartext. */
  static async open(protocol: "http" | "grpc"): Promise<PlainEvaluator> {
    const routes: { evaluator?: PlainEvaluator } = {};
    const handler = connectNodeAdapter({
      routes: (router) =>
        router.service(
          FlagEvaluatorService,
          serviceOf(() => routes.evaluator),
        ),
    });
    const server = protocol === "http" ? createHttpServer(handler) : createHttp2Server(handler);
    const evaluator = new PlainEvaluator(server, `${protocol}://127.0.0.1:${await listen(server)}`);
    routes.evaluator = evaluator;
    server.on("session", (session: ServerHttp2Session) => {
      evaluator.#sessions.add(session);
      session.once("close", () => evaluator.#sessions.delete(session));
    });
    return evaluator;
  }

  get port(): number {
    return Number(new URL(this.url.replace("grpc:", "http:")).port);
  }

  override(entityId: string, flagId: string, row: PlainRow): void {
    this.overrides.set(entityId, new Map(this.overrides.get(entityId)).set(flagId, row));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const session of this.#sessions) session.destroy();
    if ("closeAllConnections" in this.#server)
      (this.#server as ReturnType<typeof createHttpServer>).closeAllConnections();
    await closed;
  }
}

function serviceOf(find: () => PlainEvaluator | undefined): ServiceImpl<typeof FlagEvaluatorService> {
  function count(method: PlainMethod): PlainEvaluator {
    const evaluator = find();
    if (evaluator === undefined) throw new ConnectError("not open yet", Code.Unavailable);
    evaluator.calls[method] += 1;
    return evaluator;
  }

  /** No proxy asks for this: the chain is its own. */
  function evaluate(flagId: string) {
    return create(EvaluateResponseSchema, { flagId, source: EvaluationSource.DEFAULT });
  }

  return {
    evaluate({ flagId }) {
      count("evaluate");
      return evaluate(flagId);
    },
    bulkEvaluate({ flagIds }) {
      count("bulkEvaluate");
      return { evaluations: flagIds.map(evaluate) };
    },
    health() {
      return { status: count("health").status };
    },
    getFlagState({ flagId }) {
      const { rows, untold } = count("getFlagState");
      if (untold.has(flagId)) throw new ConnectError("fetch flag state: connection refused", Code.Internal);
      const row = rows.get(flagId);
      if (row === undefined) throw new ConnectError(`flag ${flagId} not found`, Code.NotFound);
      const { archived = false, ...flag } = row;
      return { flag: { flagId, ...flag }, archived };
    },
    getKilledFlags() {
      const { rows, overrides } = count("getKilledFlags");
      const killedOverrides = [...overrides].flatMap(([entityId, byFlag]) =>
        [...byFlag].flatMap(([flagId, { state }]) => (state === State.KILLED ? [{ flagId, entityId }] : [])),
      );
      const flagIds = [...rows].flatMap(([flagId, { state }]) => (state === State.KILLED ? [flagId] : []));
      return { flagIds, killedOverrides };
    },
    getOverrides({ entityId, flagIds }) {
      const byFlag = count("getOverrides").overrides.get(entityId) ?? new Map<string, PlainRow>();
      const wanted = [...byFlag].filter(([flagId]) => flagIds.length === 0 || flagIds.includes(flagId));
      return {
        overrides: wanted.map(([flagId, { state, value }]) => ({
          flagId,
          entityId,
          state,
          ...(value === undefined ? {} : { value }),
        })),
      };
    },
  };
}
