import { isIP, connect as netConnect, Socket } from "node:net";
import { checkServerIdentity, type SecureContext, TLSSocket, connect as tlsConnect } from "node:tls";
import type { Clock } from "../../../system/clock.ts";
import { lookUpOnce } from "../../../system/look-up-once.ts";
import { UpstreamError } from "../../upstream-error.ts";
import type { UpstreamSettings } from "../../upstream-settings.ts";
import type { Target } from "../parse-target.ts";
import type { UpstreamWords } from "../upstream-words.ts";
import { loadTlsFiles } from "./tls-files.ts";
import { whyNotReached } from "./why-not-reached.ts";

export interface DialerOptions {
  readonly target: Target;
  readonly settings: Pick<UpstreamSettings, "name" | "auth" | "tls" | "connection">;
  readonly words: UpstreamWords;
  readonly clock: Pick<Clock, "sleep">;
}

/** Opens connections to one upstream. Disposing of it closes all of them. */
export interface Dialer extends AsyncDisposable {
  /**
   * A socket that is about to connect, for TLS with the handshake. It fails if that takes longer than it may. Its errors
   * are always heard, whether or not somebody else listens.
   */
  dial(): Socket;
  /** An error that says why a call got no answer. `socket`: the new one it was made on, if any. */
  notReached(cause: unknown, socket?: Socket | null): UpstreamError;
}

/** Throws an UpstreamError if a PEM file that the settings name cannot be used. */
export function openDialer({ target, settings, words, clock }: DialerOptions): Dialer {
  const { connectTimeoutMs, keepAliveMs } = settings.connection;
  const hasCertificate = settings.auth.method === "mtls";
  if (hasCertificate && !target.secure) {
    const message = `Cannot use upstream ${settings.name}: auth.method must fit the url: mtls needs https:// or grpcs://, got ${target.name}`;
    throw new UpstreamError("settings", message);
  }
  const secureContext = target.secure ? loadTlsFiles(settings) : undefined;
  const open = new Set<Socket>();
  let isClosed = false;

  return {
    dial() {
      const socket = isClosed ? new Socket() : connect(target, settings, secureContext?.());
      open.add(socket);
      socket.on("error", () => {});
      socket.once("close", () => open.delete(socket));
      if (isClosed) {
        // Not before whoever asked for it listens.
        setImmediate(() => socket.destroy(closedError()));
        return socket;
      }
      socket.once("connect", () => {
        socket.setNoDelay(true);
        if (keepAliveMs > 0) socket.setKeepAlive(true, keepAliveMs);
      });
      giveUpAfter(connectTimeoutMs, socket, clock);
      return socket;
    },

    notReached(cause, socket) {
      const isSilentAfterHandshake = socket instanceof TLSSocket && socket.authorized;
      const why = whyNotReached(cause, { isSilentAfterHandshake, hasCertificate, words });
      return new UpstreamError("connection", `Cannot reach ${target.name}: ${why}`, { cause });
    },

    async [Symbol.asyncDispose]() {
      isClosed = true;
      await Promise.all(
        [...open].map(
          (socket) =>
            new Promise<void>((resolve) => {
              socket.once("close", () => resolve());
              socket.destroy();
            }),
        ),
      );
    },
  };
}

/** Why a call fails that is made, or was under way, when its transport is closed. */
export function closedError(): Error {
  return new Error("the connection to it is closed for good");
}

/** What a connection's end comes to where nothing else is known of it. */
export function endedError(): Error {
  return Object.assign(new Error("it closed the connection"), { code: "ECONNRESET" });
}

function connect(
  { at, protocol }: Target,
  { tls, connection }: DialerOptions["settings"],
  secureContext: SecureContext | undefined,
): Socket {
  if ("path" in at) return netConnect({ path: at.path });
  const options = {
    host: at.host,
    port: at.port,
    lookup: lookUpOnce,
    // Of a host's addresses the first may not answer: there must be time left for the next.
    autoSelectFamilyAttemptTimeout: Math.max(10, Math.floor(connection.connectTimeoutMs / 2)),
  };
  if (secureContext === undefined) return netConnect(options);
  const name = tls.serverName ?? at.host;
  return tlsConnect({
    ...options,
    secureContext,
    // It may not name an address.
    servername: isIP(name) === 0 ? name : "",
    checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate),
    ALPNProtocols: [protocol === "grpc" ? "h2" : "http/1.1"],
  });
}

function giveUpAfter(timeoutMs: number, socket: Socket, clock: Pick<Clock, "sleep">): void {
  const settled = new AbortController();
  const settle = () => settled.abort();
  const isSecure = socket instanceof TLSSocket;
  socket.once(isSecure ? "secureConnect" : "connect", settle).once("close", settle);
  const message = `no connection${isSecure ? " over TLS" : ""} within ${timeoutMs} ms`;
  clock.sleep(timeoutMs, settled.signal).then(
    () => socket.destroy(new Error(message)),
    () => {},
  );
}
