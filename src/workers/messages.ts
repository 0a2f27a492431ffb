import type { Socket } from "node:net";
import type { Config } from "../config/settings.ts";
import type { DependencyCheck } from "../health/dependency-health.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { ListenAddress } from "../server/listener/listen.ts";
import type { ProcessMetrics } from "../telemetry/add-up.ts";
import type { LogLevel } from "../telemetry/logger.ts";
import type { RenderedMetrics } from "../telemetry/metrics.ts";

/** What `pbflagd` is called with, before a number, to be a worker. Nothing for people: the primary does it. */
export const WORKER_COMMAND = "worker";

/** What the primary says to a worker. */
export type ToWorker =
  | StartMessage
  | { readonly kind: "told"; readonly told: Told }
  /** Every worker that takes connections knows all: from now on the daemon is ready. */
  | { readonly kind: "ready" }
  | { readonly kind: "log_level"; readonly level: LogLevel }
  /** With a socket, unless that was closed on the way. */
  | { readonly kind: "connection"; readonly id: number }
  | { readonly kind: "count"; readonly id: number }
  | { readonly kind: "scraped"; readonly id: number; readonly metrics: RenderedMetrics }
  /** Readiness ends, streams do, and what is under way is finished. */
  | { readonly kind: "stop" }
  /** After that: the last connection has been handed over. */
  | { readonly kind: "no_more_connections" };

/** The first that a worker hears. */
export interface StartMessage {
  readonly kind: "start";
  /** From 1. */
  readonly worker: number;
  /** The primary's. */
  readonly config: Config;
  readonly logLevel: LogLevel;
  /** Where connections come from that are handed over. */
  readonly address: ListenAddress;
  /** Where the primary can be asked: the path of a Unix socket. */
  readonly socket: string;
  readonly told: Told;
}

/** What a worker says to the primary. */
export type ToPrimary =
  /** From now on it can take connections. Said again once it knows all. */
  | { readonly kind: "open"; readonly knows: Knows }
  | { readonly kind: "accepted"; readonly id: number }
  /** One of those it has accepted. */
  | { readonly kind: "closed" }
  | { readonly kind: "counted"; readonly id: number; readonly metrics: ProcessMetrics }
  | { readonly kind: "scrape"; readonly id: number };

/** How the primary is doing. */
export interface Told {
  readonly health: Pick<Namespace["health"], "status" | "failuresInARow" | "msSinceSuccess">;
  readonly checks: readonly DependencyCheck[];
  readonly knows: Knows;
}

/** How much a process knows. */
export interface Knows {
  readonly descriptors: boolean;
  readonly kills: boolean;
  /** Of every defined flag as well. */
  readonly all: boolean;
}

/** One end of the way between two processes. What is sent when the other has ended is lost. */
export interface Channel<In, Out> {
  send(message: Out, socket?: Socket): void;
  receive(listener: (message: In, socket: Socket | undefined) => void): void;
}

/** What the primary has sent is what its types say. */
export function isToWorker(value: unknown): value is ToWorker {
  return typeof value === "object" && value !== null && "kind" in value;
}

/** The same for a worker. */
export function isToPrimary(value: unknown): value is ToPrimary {
  return typeof value === "object" && value !== null && "kind" in value;
}

export function knowsOf({ flags, killSet, ready }: Pick<Namespace, "flags" | "killSet" | "ready">): Knows {
  return {
    descriptors: flags.value.descriptorSet !== undefined,
    kills: killSet.value !== undefined,
    all: ready,
  };
}

/** Whether one knows whatever the other does. */
export function knowsAsMuch(one: Knows, other: Knows): boolean {
  return (one.descriptors || !other.descriptors) && (one.kills || !other.kills) && (one.all || !other.all);
}
