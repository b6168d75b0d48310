/** The APIs of providers: what a request asks for, and what a refusal looks like. */

import { QuotaExceeded, TopeError } from "./errors.js";
import { get } from "./usage.js";

/** The name of an API of a provider. */
export type ApiName =
  | "openai-chat"
  | "openai-completions"
  | "openai-embeddings"
  | "openai-responses"
  | "anthropic"
  | "gemini";

type Body = Record<string, unknown>;

/** What a request asks for. */
export interface Api {
  readonly name: ApiName;
  readonly model: string;
  /** The longest answer. Undefined if the request does not say. */
  readonly maxTokens: number | undefined;
  /** The number of answers. */
  readonly n: number;
}

const PATHS: readonly (readonly [RegExp, ApiName])[] = [
  [/\/chat\/completions$/, "openai-chat"],
  [/\/completions$/, "openai-completions"],
  [/\/embeddings$/, "openai-embeddings"],
  [/\/responses$/, "openai-responses"],
  [/(\/messages|:rawPredict|:streamRawPredict)$/, "anthropic"],
  [/:(generateContent|streamGenerateContent)$/, "gemini"],
];

/** Returns the API of a path. Undefined if the path is no call of a model. */
export function apiOf(path: string, body: Body): Api | undefined {
  const decoded = decode(path);
  const name = PATHS.find(([pattern]) => pattern.test(decoded))?.[1];
  if (name === undefined) {
    return undefined;
  }
  const inPath = /\/([^/:]+):[A-Za-z]+$/.exec(decoded)?.[1];
  const config = name === "gemini" ? get(body, "generationConfig", "generation_config") : body;
  const wanted = name === "gemini" ? get(config, "candidateCount") : get(body, "n");
  return {
    name,
    model: typeof body["model"] === "string" ? body["model"] : (inPath ?? ""),
    maxTokens: name === "openai-embeddings" ? 0 : maximum(config),
    n: typeof wanted === "number" && Number.isSafeInteger(wanted) && wanted > 0 ? wanted : 1,
  };
}

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

const MAXIMA = ["max_completion_tokens", "max_output_tokens", "maxOutputTokens", "max_tokens"];

function maximum(config: unknown): number | undefined {
  const found = get(config, ...MAXIMA);
  return typeof found === "number" && found >= 0 && Number.isFinite(found) ? Math.ceil(found) : undefined;
}

/** Sets the longest answer of a request. */
export function withMaximum(api: Api, body: Body, maxTokens: number): Body {
  if (api.name === "gemini") {
    const config = get(body, "generationConfig") as Body | undefined;
    return { ...body, generationConfig: { ...config, maxOutputTokens: maxTokens } };
  }
  const defaults: Partial<Record<ApiName, string>> = {
    "openai-chat": "max_completion_tokens",
    "openai-responses": "max_output_tokens",
  };
  const name = MAXIMA.find((one) => get(body, one) !== undefined) ?? defaults[api.name] ?? "max_tokens";
  return { ...body, [name]: maxTokens };
}

/** Makes the response that stands for an error of Tope, in the form of the provider. */
export function refusal(api: Api, error: unknown): Response {
  const status = statusOf(error);
  const message = `tope: ${error instanceof Error ? error.message : String(error)}`;
  const details = detailsOf(error);
  const headers = new Headers({
    "content-type": "application/json",
    "x-should-retry": "false",
    "x-tope-reason": details.reason,
  });
  const delayMs = error instanceof TopeError ? error.retryAfterMs : undefined;
  if (delayMs !== undefined) {
    headers.set("retry-after", String(Math.max(1, Math.round(delayMs / 1_000))));
  }
  return new Response(JSON.stringify(shape(api, status, message, details)), { status, headers });
}

function statusOf(error: unknown): number {
  if (error instanceof QuotaExceeded) {
    return 429;
  }
  if (error instanceof TopeError) {
    return { PERMISSION_DENIED: 403, UNAUTHENTICATED: 401 }[error.code] ?? 503;
  }
  // The options are wrong.
  return 400;
}

/** What is known of an error. It is the field `tope` of the body. */
interface Details {
  readonly reason: string;
  readonly code: string;
  readonly [name: string]: unknown;
}

function shape(api: Api, status: number, message: string, tope: Details): object {
  if (api.name === "anthropic") {
    const type = status === 429 ? "rate_limit_error" : "api_error";
    return { type: "error", error: { type, message, tope } };
  }
  if (api.name === "gemini") {
    return { error: { code: status, message, status: tope.code, tope } };
  }
  const type = status === 429 ? "insufficient_quota" : "tope_error";
  return { error: { message, type, param: null, code: tope.reason.toLowerCase(), tope } };
}

function detailsOf(error: unknown): Details {
  if (!(error instanceof TopeError)) {
    return { reason: "INVALID_ARGUMENT", code: "INVALID_ARGUMENT" };
  }
  const { code } = error;
  const reason = error.reason || code;
  if (!(error instanceof QuotaExceeded)) {
    return { reason, code };
  }
  const { limit, resource, allowance, remaining, requested, windowEnd, retryAfterMs } = error;
  const times = { window_end: windowEnd?.toISOString(), retry_after_ms: retryAfterMs };
  return { reason, code, limit, resource, allowance, remaining, requested, ...times };
}
