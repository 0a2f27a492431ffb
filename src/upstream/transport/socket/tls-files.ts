import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { createSecureContext, type SecureContext } from "node:tls";
import { UpstreamError } from "../../upstream-error.ts";
import type { UpstreamSettings } from "../../upstream-settings.ts";

/** More than all the authorities of a machine. */
const FILE_BYTES_MAX = 4 * 1024 * 1024;

interface Files {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

/**
 * What TLS needs of an upstream's PEM files, read anew whenever it is asked for. Files that cannot be used by then,
 * perhaps because they are just being written, change nothing: what was last read stays in force. Throws an
 * UpstreamError that names the setting if they cannot be used now.
 */
export function loadTlsFiles(settings: Pick<UpstreamSettings, "name" | "auth" | "tls">): () => SecureContext {
  let files = readFiles(settings);
  let context = toContext(files);
  return () => {
    try {
      const now = readFiles(settings);
      // Parsing them takes far longer than reading them.
      if (now.ca !== files.ca || now.cert !== files.cert || now.key !== files.key) {
        context = toContext(now);
        files = now;
      }
    } catch {
      // What was last read stays in force.
    }
    return context;
  };
}

function toContext({ ca, cert, key }: Files): SecureContext {
  return createSecureContext({
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  });
}

function readFiles({ name, auth, tls }: Pick<UpstreamSettings, "name" | "auth" | "tls">): Files {
  const read = (setting: string, path: string, expected: string, check: (pem: string) => void) => {
    const refuse = (got: string, cause: unknown) =>
      new UpstreamError(
        "settings",
        `Cannot use upstream ${name}: ${setting} must be ${expected}, got ${got} at ${path}`,
        { cause },
      );
    let pem: string;
    try {
      pem = readPem(path);
    } catch (cause) {
      throw refuse(whyNotRead(cause), cause);
    }
    try {
      check(pem);
    } catch (cause) {
      throw refuse("something else", cause);
    }
    return pem;
  };

  const ca =
    tls.caFile === undefined
      ? undefined
      : read("tls.ca_file", tls.caFile, "a PEM file of certificates", (pem) => new X509Certificate(pem));
  if (auth.method !== "mtls") return { ca, cert: undefined, key: undefined };
  let certificate: X509Certificate | undefined;
  const cert = read("auth.cert_file", auth.certFile, "a PEM file of a certificate", (pem) => {
    certificate = new X509Certificate(pem);
  });
  const expected = "a PEM file of the certificate's private key, without a passphrase";
  const key = read("auth.key_file", auth.keyFile, expected, (pem) => {
    if (certificate?.checkPrivateKey(createPrivateKey(pem)) !== true) throw new Error("the key is another's");
  });
  return { ca, cert, key };
}

/** Synchronous, because sockets are opened so; connections are few and the files are small. */
function readPem(path: string): string {
  const stats = statSync(path);
  // A pipe would hold up the whole process.
  if (!stats.isFile() || stats.size > FILE_BYTES_MAX) throw new Error("not a file of a sensible size");
  return readFileSync(path, "utf8");
}

function whyNotRead(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT" || code === "ENOTDIR") return "no such file";
  if (code === "EACCES" || code === "EPERM") return "one that may not be read";
  return "no such thing";
}
