import { createContextKey } from "@connectrpc/connect";

/** Whether a call got as far as the interceptors. */
export const reached = createContextKey(false, {
  description: "whether the call got as far as the interceptors",
});
