/** What an error says about the provider: whether a call reached it. */

import { TopeError } from "./errors.js";
import { get } from "./usage.js";

// Codes of errors of Node and undici that come before anything was sent.
const NOT_SENT = new Set([
  "ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL", "EPROTO",
  "UND_ERR_CONNECT_TIMEOUT", "ERR_INVALID_URL", "CERT_HAS_EXPIRED", "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "SELF_SIGNED_CERT_IN_CHAIN", "ERR_TLS_CERT_ALTNAME_INVALID",
]);
const DEPTH_MAX = 8;

/** Returns false if the provider certainly did no work, and undefined if that is not known. */
export function wasCalled(error: unknown): false | undefined {
  let one = error;
  for (let depth = 0; depth < DEPTH_MAX && typeof one === "object" && one !== null; depth += 1) {
    if (saysNo(one)) {
      return false;
    }
    one = get(one, "cause");
  }
  return undefined;
}

function saysNo(error: object): boolean {
  if (error instanceof TopeError) {
    return true;
  }
  const code = get(error, "code");
  if (typeof code === "string" && NOT_SENT.has(code)) {
    return true;
  }
  // The HTTP status that an error of a provider's library has.
  const status = get(error, "status", "statusCode") ?? get(get(error, "response"), "status");
  return typeof status === "number" && status >= 400 && status <= 599;
}

/** Whether an error says that the caller has left: then the caller must not wait. */
export function isAbort(error: unknown): boolean {
  const name = get(error, "name");
  return name === "AbortError" || name === "APIUserAbortError";
}
