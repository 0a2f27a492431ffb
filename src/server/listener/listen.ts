import { lstat, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";

/** Where to listen. An empty `host` is every interface, port 0 any free one; `path` is a Unix socket's. */
export type ListenAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** The address cannot be had. The message is one line for the operator. */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

/**
 * Connections that may wait to be accepted; the system may cap it lower. With Node's 511, Linux takes a few thousand
 * clients that come at once for a flood, and resets some of them.
 */
const BACKLOG = 4_096;

/**
 * Binds the server and returns the address it has now, with the real port. The file of a Unix socket on which
 * nobody listens any more is replaced. Throws `ListenError`.
 */
export async function listen(server: Server, address: ListenAddress): Promise<ListenAddress> {
  try {
    await bind(server, address);
  } catch (error) {
    const inTheWay = address.kind === "unix" && codeOf(error) === "EADDRINUSE";
    if (!inTheWay || !(await removeStaleSocket(address.path))) throw listenError(address, error);
    await bind(server, address).catch((again: unknown) => {
      throw listenError(address, again);
    });
  }
  const bound = server.address();
  return address.kind === "tcp" && bound !== null && typeof bound === "object"
    ? { ...address, port: bound.port }
    : address;
}

function bind(server: Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      server.off("error", settle);
      server.off("listening", settle);
      if (error === undefined) resolve();
      else reject(error);
    };
    server.once("error", settle);
    server.once("listening", settle);
    if (address.kind === "unix") server.listen({ path: address.path, backlog: BACKLOG });
    else if (address.host === "") server.listen({ port: address.port, backlog: BACKLOG });
    else server.listen({ host: address.host, port: address.port, backlog: BACKLOG });
  });
}

/** Whether a file was in the way that a dead process left, and is gone now. */
export async function removeStaleSocket(path: string): Promise<boolean> {
  const file = await lstat(path).catch(() => undefined);
  if (file === undefined || !file.isSocket() || (await answers(path))) return false;
  return unlink(path).then(
    () => true,
    () => false,
  );
}

/** Only a refused connection proves that nobody listens. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error) => resolve(codeOf(error) !== "ECONNREFUSED"));
  });
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: "the address is in use",
  EACCES: "no permission",
  EPERM: "no permission",
  EADDRNOTAVAIL: "this machine does not have the address",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "the host's address cannot be looked up",
  ENOENT: "its folder does not exist",
};

function listenError(address: ListenAddress, cause: unknown): ListenError {
  const code = codeOf(cause);
  const reason = REASONS[code] ?? (cause instanceof Error ? cause.message : String(cause));
  return new ListenError(`Cannot listen on ${nameOf(address)}: ${reason}${code === "" ? "" : ` (${code})`}`, {
    cause,
  });
}

function nameOf(address: ListenAddress): string {
  if (address.kind === "unix") return `unix://${address.path}`;
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}
