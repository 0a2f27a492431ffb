import { expect, onTestFinished, test, vi } from "vitest";
import { settle } from "../../test/support/fake-clock.ts";
import { formatVersion } from "../evaluation/version.ts";
import { KILL_CHANNEL, NOTICE_CHANNEL } from "../store/postgres-statements.ts";
import { NoticeInbox } from "./notice-inbox.ts";

test("each piece that was sent is told of once, with the newest version that it names", async () => {
  const { hear, told } = openInbox();
  await hear(of(4));
  await hear("look");
  await hear(of(5), of(6), of(7));
  await hear(of(8), "", "{}", '{"epoch":"e","revi}', ...Array.from({ length: 100 }, () => "look"));
  expect(told).toEqual(["e:4", "none", "e:7", "e:8"]);
});

test("a kill among what was sent makes it urgent, and one that was announced last what comes next", async () => {
  const { hear, told } = openInbox();
  await hear(of(1), "kill", of(2), of(3));
  await hear(of(4));
  await hear(of(5), "kill");
  await hear(of(6));
  await hear("kill", "kill");
  await hear(of(7));
  await hear(of(8));
  expect(told).toEqual(["e:3 urgent", "e:4", "e:5", "e:6 urgent", "e:7 urgent", "e:8"]);
});

test("of a flood that is none of ours nothing is read, and of one that looks like ours hardly anything", async () => {
  const parse = vi.spyOn(JSON, "parse");
  onTestFinished(() => parse.mockRestore());
  const { hear, told } = openInbox();
  const long = `{"epoch":"e","revision":9,"flags":["${"x".repeat(8_000)}"]}`;
  for (const payload of ["look", "{", "[]", long]) {
    await hear(...Array.from({ length: 10_000 }, () => payload));
    expect(parse).not.toHaveBeenCalled();
  }
  await hear(...Array.from({ length: 10_000 }, () => "{[[[}"));
  expect(parse.mock.calls.length).toBeLessThanOrEqual(4);
  parse.mockClear();
  await hear(...Array.from({ length: 10_000 }, (_, i) => of(i)));
  expect(parse).toHaveBeenCalledOnce();
  expect(told).toEqual(["none", "none", "none", "none", "none", "e:9999"]);
});

function of(revision: number): string {
  return JSON.stringify({ epoch: "e", revision });
}

function openInbox() {
  const told: string[] = [];
  const inbox = new NoticeInbox(({ version, isUrgent }) =>
    told.push(
      `${version === undefined ? "none" : formatVersion(version)}${isUrgent === true ? " urgent" : ""}`,
    ),
  );
  return {
    told,
    /** A piece of what was sent. */
    hear: async (...sent: readonly string[]) => {
      for (const each of sent)
        inbox.hear(
          each === "kill"
            ? { channel: KILL_CHANNEL, payload: "" }
            : { channel: NOTICE_CHANNEL, payload: each },
        );
      await settle();
    },
  };
}
