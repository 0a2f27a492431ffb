import type { Form } from "./fast-rpcs.ts";

/** What answers are called, as Connect's implementation has it. */
export const CONTENT_TYPES: Readonly<Record<Form, string>> = {
  proto: "application/proto",
  json: "application/json",
  grpc: "application/grpc+proto",
};
