import type { Notification } from "../store/postgres-connection.ts";
import { KILL_CHANNEL, NOTICE_CHANNEL } from "../store/postgres-statements.ts";
import type { ChangeNotice } from "./change-feed.ts";
import { mayBeNotice, parseNotice } from "./parse-notice.ts";

/** Payloads that are read of all that came at once: the last says what there is, unless it is none of ours. */
const READ_MAX = 4;

/**
 * Makes one notice of all that the database has sent at once. Anybody who may connect can send hundreds of thousands
 * a second: what does not look like one of ours is not read, and of the others only the last few.
 */
export class NoticeInbox {
  readonly #onNotice: (notice: ChangeNotice) => void;
  /** The last that came, oldest first. */
  #payloads: string[] = [];
  /** Kills are among what came. */
  #isUrgent = false;
  /** The one that comes next is of a kill. */
  #isNextUrgent = false;
  #isTelling = false;

  constructor(onNotice: (notice: ChangeNotice) => void) {
    this.#onNotice = onNotice;
  }

  /** To be called while a piece of what was sent is taken apart: when that is done, everything in it is told of. */
  hear({ channel, payload }: Notification): void {
    if (channel === KILL_CHANNEL) this.#isNextUrgent = true;
    if (channel !== NOTICE_CHANNEL) return;
    this.#isUrgent ||= this.#isNextUrgent;
    this.#isNextUrgent = false;
    if (mayBeNotice(payload)) {
      this.#payloads.push(payload);
      if (this.#payloads.length > READ_MAX) this.#payloads.shift();
    }
    if (this.#isTelling) return;
    this.#isTelling = true;
    void Promise.resolve().then(() => this.#tell());
  }

  #tell(): void {
    const payloads = this.#payloads;
    const isUrgent = this.#isUrgent;
    this.#payloads = [];
    this.#isUrgent = false;
    this.#isTelling = false;
    this.#onNotice({ version: newestOf(payloads), isUrgent });
  }
}

/** Revisions are announced in their order. */
function newestOf(payloads: readonly string[]): ChangeNotice["version"] {
  for (const payload of payloads.toReversed()) {
    const { version } = parseNotice(payload);
    if (version !== undefined) return version;
  }
  return undefined;
}
