import type { Socket } from "node:net";

/** Somebody who serves connections. */
export interface Taker {
  /** Says with the same `id` when it has the connection. */
  take(id: number, socket: Socket): void;
}

export interface DistributionOptions {
  /** Open connections, those included that nobody has taken yet. */
  readonly connectionsMax: number;
  readonly onDrop: (reason: "too_many_connections") => void;
}

interface Turn {
  /** Accepted, and not closed yet. */
  open: number;
  /** Given, and not accepted yet. */
  given: { readonly id: number; readonly socket: Socket } | undefined;
}

/**
 * Hands connections to whoever has the fewest, one at a time: a taker that hangs holds up no more than one. What was
 * given to one that is lost before it had it goes to another.
 */
export class Distribution {
  readonly #options: DistributionOptions;
  /** Those that were given something longest ago first. */
  readonly #turns = new Map<Taker, Turn>();
  readonly #waiting: Socket[] = [];
  #lastId = 0;
  #onSettled: (() => void) | undefined;

  constructor(options: DistributionOptions) {
    this.#options = options;
  }

  /** Nothing of the connection may have been read. */
  accept(socket: Socket): void {
    // Who has left meanwhile is noticed by whoever serves it.
    socket.on("error", () => {});
    if (this.#openCount >= this.#options.connectionsMax) {
      socket.destroy();
      this.#options.onDrop("too_many_connections");
      return;
    }
    this.#waiting.push(socket);
    this.#handOut();
  }

  join(taker: Taker): void {
    this.#turns.set(taker, { open: 0, given: undefined });
    this.#handOut();
  }

  /** It is lost, with all that it had. */
  leave(taker: Taker): void {
    const given = this.#turns.get(taker)?.given;
    this.#turns.delete(taker);
    if (given !== undefined) this.#waiting.unshift(given.socket);
    this.#handOut();
  }

  accepted(taker: Taker, id: number): void {
    const turn = this.#turns.get(taker);
    if (turn?.given?.id !== id) return;
    // The other process has its own hold on it.
    turn.given.socket.destroy();
    turn.given = undefined;
    turn.open += 1;
    this.#handOut();
  }

  closed(taker: Taker): void {
    const turn = this.#turns.get(taker);
    if (turn !== undefined) turn.open -= 1;
  }

  /** Resolves once somebody has accepted whatever came. Once at a time. */
  settled(): Promise<void> {
    return new Promise((resolve) => {
      this.#onSettled = resolve;
      this.#handOut();
    });
  }

  /** Closes what nobody has taken. */
  close(): void {
    for (const socket of this.#waiting.splice(0)) socket.destroy();
  }

  get #openCount(): number {
    let count = this.#waiting.length;
    for (const { open, given } of this.#turns.values()) count += open + (given === undefined ? 0 : 1);
    return count;
  }

  #handOut(): void {
    for (let socket = this.#waiting[0]; socket !== undefined; socket = this.#waiting[0]) {
      const chosen = this.#choose();
      if (chosen === undefined) return;
      const [taker, turn] = chosen;
      this.#waiting.shift();
      this.#lastId += 1;
      turn.given = { id: this.#lastId, socket };
      // To the end of the line.
      this.#turns.delete(taker);
      this.#turns.set(taker, turn);
      taker.take(this.#lastId, socket);
    }
    if ([...this.#turns.values()].every(({ given }) => given === undefined)) this.#onSettled?.();
  }

  #choose(): readonly [Taker, Turn] | undefined {
    let best: readonly [Taker, Turn] | undefined;
    for (const entry of this.#turns) {
      const [, { open, given }] = entry;
      if (given === undefined && (best === undefined || open < best[1].open)) best = entry;
    }
    return best;
  }
}
