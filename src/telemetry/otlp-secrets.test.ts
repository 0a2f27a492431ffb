import { expect, test } from "vitest";
import { hideSecrets } from "../system/hide-secrets.ts";
import { otlpSecrets } from "./otlp-secrets.ts";

test.each([
  [{ OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20hunter2" }, "<Bearer hunter2> hunter2", "<***> ***"],
  [{ OTEL_EXPORTER_OTLP_TRACES_HEADERS: "a=hunter2,x-tenant=hunter3" }, "hunter2 hunter3", "*** ***"],
  [{ OTEL_EXPORTER_OTLP_HEADERS: "a = hunter%zz2" }, "hunter%zz2", "***"],
  [{ OTEL_EXPORTER_OTLP_HEADERS: "x-tenant=1" }, "127.0.0.1", "127.0.0.1"],
  [
    { OTEL_EXPORTER_OTLP_ENDPOINT: "http://me:hunt%40er2@otlp" },
    `hunt@er2 ${btoa("me:hunt@er2")}`,
    "*** ***",
  ],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://hunter2@otlp" }, "hunter2", "***"],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://otlp:4317" }, "http://otlp:4317", "http://otlp:4317"],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "otlp" }, "otlp", "otlp"],
])("of %j nothing is repeated that a collector was shown", (env, said, shown) => {
  expect(hideSecrets(otlpSecrets(env), 1_000)(said)).toBe(shown);
});
