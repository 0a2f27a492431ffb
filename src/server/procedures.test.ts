import { expect, test } from "vitest";
import { PROCEDURES } from "./procedures.ts";
import { procedureOf } from "./rpc/codes.ts";
import { listServices } from "./rpc-routes.ts";

test("every method of every service that is served is known by its name, and no other", () => {
  expect(PROCEDURES).toEqual(listServices().flatMap(({ methods }) => methods.map(procedureOf)));
});
