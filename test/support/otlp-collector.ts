import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { listen } from "./listen.ts";

export interface ReceivedSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  readonly status: { readonly code: number };
  readonly attributes: Readonly<Record<string, unknown>>;
}

export interface OtlpRequest {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Readonly<Record<string, unknown>>;
}

/** What a collector of traces has received so far. */
export interface OtlpCollector extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly OtlpRequest[];
  /** Attributes of the first request's resource. */
  resource(): Readonly<Record<string, unknown>>;
  spans(): readonly ReceivedSpan[];
}

/** Receives OTLP as JSON over HTTP. `silent`: it takes everything, and says nothing. */
export async function openOtlpCollector({ silent = false } = {}): Promise<OtlpCollector> {
  const requests: OtlpRequest[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { url: path = "", headers } = request;
      requests.push({ path, headers, body: asRecord(JSON.parse(Buffer.concat(chunks).toString())) });
      if (!silent) response.setHeader("content-type", "application/json").end("{}");
    });
  });
  const port = await listen(server);
  const resourceSpans = () => requests.flatMap(({ body }) => listOf(body["resourceSpans"]));
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    resource: () => attributesOf(asRecord(resourceSpans()[0]?.["resource"])["attributes"]),
    spans: () =>
      resourceSpans()
        .flatMap((resource) => listOf(resource["scopeSpans"]))
        .flatMap((scope) => listOf(scope["spans"]))
        .map(toSpan),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function toSpan(span: Readonly<Record<string, unknown>>): ReceivedSpan {
  const parent = span["parentSpanId"];
  return {
    name: String(span["name"]),
    kind: Number(span["kind"]),
    traceId: String(span["traceId"]),
    spanId: String(span["spanId"]),
    parentSpanId: typeof parent === "string" && parent !== "" ? parent : undefined,
    status: { code: Number(asRecord(span["status"])["code"]) },
    attributes: attributesOf(span["attributes"]),
  };
}

function attributesOf(attributes: unknown): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    listOf(attributes).map(({ key, value }) => [String(key), Object.values(asRecord(value))[0]]),
  );
}

function listOf(value: unknown): Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.map(asRecord) : [];
}

/** Empty for what is none. */
export function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value)) : {};
}
