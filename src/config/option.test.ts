import { expect, test } from "vitest";
import * as option from "./option.ts";

test.each<[string, option.Kind<unknown, string>, string, unknown]>([
  ["duration", option.duration({ min: "0", max: "1h" }), "1m", 60_000],
  ["count", option.count({ min: "1", max: "9" }), "9", 9],
  ["bytes", option.bytes({ min: "0", max: "1MiB" }), "1KiB", 1_024],
  ["percent", option.percent, "100", 100],
  ["boolean", option.boolean, "true", true],
  ["boolean", option.boolean, "false", false],
  ["path", option.path, "/a b/c", "/a b/c"],
  ["text", option.text, "Prod ☂", "Prod ☂"],
  ["color", option.color, "#c0392b", "#c0392b"],
  ["color", option.color, "orange", "orange"],
  ["address", option.address, ":1", { kind: "tcp", host: "", port: 1 }],
  ["postgresUrl", option.postgresUrl, "postgres:///db?host=/run", "postgres:///db?host=/run"],
  ["postgresUrl", option.postgresUrl, "postgresql://u:p@h:5432/d", "postgresql://u:p@h:5432/d"],
  ["evaluatorUrl", option.evaluatorUrl, "http://root:9201", "http://root:9201"],
  ["evaluatorUrl", option.evaluatorUrl, "exec:/usr/bin/flags", "exec:/usr/bin/flags"],
  ["integer", option.integer({ min: "-3", max: "3" }), "-3", -3],
  ["decimal", option.decimal({ min: "0.5", max: "3" }), "0.5", 0.5],
  ["orZero", option.orZero(option.duration({ min: "1s", max: "1h" })), "0s", 0],
  ["orZero", option.orZero(option.duration({ min: "1s", max: "1h" })), "1s", 1_000],
  ["matching", option.matching(/^[a-z]$/, "a letter"), "a", "a"],
  ["choice", option.choice(["json", "pretty"]), "pretty", "pretty"],
  ["or", option.or("auto", option.count({ min: "1", max: "9" })), "auto", "auto"],
  ["or", option.or("auto", option.count({ min: "1", max: "9" })), "3", 3],
  ["orOff", option.orOff(option.path), "off", undefined],
  ["orOff", option.orOff(option.path), "on", "on"],
])("%s: a good value is read", (_, kind, text, value) => {
  expect(kind.parse(text)).toEqual({ value });
});

test.each<[string, option.Kind<unknown, string>, string]>([
  ["duration", option.duration({ min: "1s", max: "1h" }), "999ms"],
  ["duration", option.duration({ min: "1s", max: "1h" }), "61m"],
  ["duration", option.duration({ min: "1s", max: "1h" }), "soon"],
  ["count", option.count({ min: "1", max: "9" }), "0"],
  ["bytes", option.bytes({ min: "1KiB", max: "1MiB" }), "1B"],
  ["percent", option.percent, "101"],
  ["boolean", option.boolean, "yes"],
  ["path", option.path, ""],
  ["path", option.path, "a\0b"],
  ["text", option.text, "a\nb"],
  ["color", option.color, "red;}"],
  ["color", option.color, "#12"],
  ["address", option.address, "9201"],
  ["postgresUrl", option.postgresUrl, "mysql://h/d"],
  ["postgresUrl", option.postgresUrl, "host=h password=p"],
  ["evaluatorUrl", option.evaluatorUrl, "root:9201"],
  ["integer", option.integer({ min: "-3", max: "3" }), "-4"],
  ["decimal", option.decimal({ min: "0.5", max: "3" }), "0.4"],
  ["orZero", option.orZero(option.duration({ min: "1s", max: "1h" })), "1ms"],
  ["matching", option.matching(/^[a-z]$/, "a letter"), "ab"],
  ["choice", option.choice(["json", "pretty"]), "JSON"],
  ["or", option.or("auto", option.count({ min: "1", max: "9" })), "automatic"],
])("%s: a bad value is refused", (_, kind, text) => {
  expect(kind.parse(text)).toBeUndefined();
});

test.each([
  ["postgres://me:hunter2@db:5432/flags", "postgres://me:***@db:5432/flags"],
  ["postgres://me:hun@ter:2@db/flags", "postgres://me:***@db/flags"],
  ["me:hunter2@db", "me:***@db"],
  [
    "postgres://db/flags?user=me&password=hunter2&ssl=true",
    "postgres://db/flags?user=me&password=***&ssl=true",
  ],
  ["host=db password=hunter2 user=me", "host=db password=*** user=me"],
  ["http://root:9201", "http://root:9201"],
  ["https://hunter2@root:1", "https:***@root:1"],
  ["token:hunter2", "token:***"],
  ["postgres://me:hunter2", "postgres://me:***"],
  ["postgres://me:hunter2/flags", "postgres://me:***"],
  ["postgres://db:5432/flags", "postgres://db:5432/flags"],
  ["http://root:92O1", "http://root:92O1"],
  ["http://root:9201/#hunter2", "http://root:9201/#***"],
  ["Bearer hunter2", "Bearer ***"],
])("mask() hides the password of %s", (text, masked) => {
  expect(option.mask(text)).toBe(masked);
});
