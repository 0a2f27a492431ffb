import type { UpstreamWords } from "../upstream-words.ts";

const UNKNOWN_AUTHORITY =
  "its certificate is not from an authority that is trusted here (tls.ca_file says which are)";

const IN_WORDS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "its certificate has expired",
  CERT_NOT_YET_VALID: "its certificate is not valid yet",
  CERT_REVOKED: "its certificate has been revoked",
  CERT_UNTRUSTED: UNKNOWN_AUTHORITY,
  CERT_SIGNATURE_FAILURE: UNKNOWN_AUTHORITY,
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_AUTHORITY,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_AUTHORITY,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_AUTHORITY,
  ERR_SSL_WRONG_VERSION_NUMBER: "it does not speak TLS",
  ERR_SSL_PACKET_LENGTH_TOO_LONG: "it does not speak TLS",
  ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL: "it does not speak the protocol that the url asks for",
  ERR_HTTP2_ERROR: "it does not speak HTTP/2",
};

/** Alerts of TLS about what the client showed, or did not. The name of each stands in the error's code. */
const CLIENT_CERTIFICATE_ALERT =
  /ALERT_(ACCESS_DENIED|BAD_CERTIFICATE|CERTIFICATE_[A-Z]+|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE)/;
/** A connection's end, as it is seen depending on who is just doing what. */
const BROKEN_OFF: ReadonlySet<unknown> = new Set([
  "ECONNRESET",
  "EPIPE",
  "ECONNABORTED",
  "ERR_SOCKET_CLOSED",
]);

/** In a message of OpenSSL, after what else it says. */
const OPENSSL_REASON = /SSL routines:[^:]*:([^:]+)/;

export interface Circumstances {
  /** Over TLS, as far as it got: its certificate was accepted, and then nothing came. */
  readonly isSilentAfterHandshake: boolean;
  /** We have a certificate to show. */
  readonly hasCertificate: boolean;
  /** For what the other side has put into a message. */
  readonly words: UpstreamWords;
}

/** Why there is no answer, in words for operators. */
export function whyNotReached(cause: unknown, circumstances: Circumstances): string {
  if (!(cause instanceof Error)) return String(cause);
  const { isSilentAfterHandshake, hasCertificate, words: repeat } = circumstances;
  const code = codeOf(cause);
  if (code !== undefined) {
    const words = IN_WORDS[code];
    if (words !== undefined) return words;
    if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
      return `its certificate is for another name: ${repeat(reasonOf(cause))}`;
    const [, alert] = CLIENT_CERTIFICATE_ALERT.exec(code) ?? [];
    if (alert !== undefined)
      return `${refusal(hasCertificate)} (${alert.toLowerCase().replaceAll("_", " ")})`;
  }
  const [, reason] = OPENSSL_REASON.exec(cause.message) ?? [];
  if (reason !== undefined) return `TLS failed: ${repeat(reason)}`;
  if (isSilentAfterHandshake && BROKEN_OFF.has(code)) {
    return `it closed the connection right after the TLS handshake, as a server does that ${hasCertificate ? "refuses the client's certificate" : "wants a client certificate"}`;
  }
  // One for each address of a host: then it is the only text there is.
  if (cause instanceof AggregateError && cause.message === "") {
    return cause.errors.map((error) => whyNotReached(error, circumstances)).join(", ");
  }
  return repeat(cause.message);
}

/** An error met while writing has its cause in its message only. */
function codeOf(error: Error): string | undefined {
  const code = "code" in error ? String(error.code) : undefined;
  if (code !== "EPROTO") return code;
  const [, reason = ""] = OPENSSL_REASON.exec(error.message) ?? [];
  return `ERR_SSL_${reason.toUpperCase().replaceAll(" ", "_")}`;
}

function refusal(hasCertificate: boolean): string {
  return hasCertificate ? "it refused the client's certificate" : "it wants a client certificate";
}

function reasonOf(error: Error): string {
  const reason = "reason" in error ? String(error.reason) : error.message;
  // Node goes on with the names that there are, also where there is none.
  return reason.replace(/:\s*$/, "");
}
