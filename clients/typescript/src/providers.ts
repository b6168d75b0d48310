/** The APIs of providers: what a request asks for, and what a refusal looks like. */

import { FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded } from "./errors.js";
import { AlreadyExists, TopeError, Unauthenticated } from "./errors.js";
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

/** Makes the response of a call that was not allowed, in the form of the provider. */
export function refusal(api: Api, error: unknown): Response {
  const status = statusOf(error);
  const message = `Tope: ${error instanceof Error ? error.message : String(error)}`;
  const headers = new Headers({ "content-type": "application/json", "x-should-retry": "false" });
  const delayMs = error instanceof TopeError ? error.retryAfterMs : undefined;
  if (delayMs !== undefined) {
    headers.set("retry-after", String(Math.ceil(delayMs / 1_000)));
    headers.set("retry-after-ms", String(Math.ceil(delayMs)));
  }
  return new Response(JSON.stringify(shape(api, status, message, error)), { status, headers });
}

function statusOf(error: unknown): number {
  if (error instanceof QuotaExceeded) {
    return 429;
  }
  if ([PermissionDenied, Unauthenticated, NotFound, FailedPrecondition].some((kind) => error instanceof kind)) {
    return 403;
  }
  const wrong = error instanceof InvalidArgument || error instanceof AlreadyExists || !(error instanceof TopeError);
  return wrong ? 400 : 503;
}

const KINDS: Readonly<Record<number, readonly [openai: string, anthropic: string, gemini: string]>> = {
  429: ["insufficient_quota", "rate_limit_error", "RESOURCE_EXHAUSTED"],
  403: ["permission_error", "permission_error", "PERMISSION_DENIED"],
  400: ["invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"],
  503: ["server_error", "overloaded_error", "UNAVAILABLE"],
};

function shape(api: Api, status: number, message: string, error: unknown): object {
  const [openai, anthropic, gemini] = KINDS[status] as readonly [string, string, string];
  const tope = detailsOf(error);
  if (api.name === "anthropic") {
    return { type: "error", error: { type: anthropic, message, tope } };
  }
  if (api.name === "gemini") {
    return { error: { code: status, message, status: gemini, tope } };
  }
  return { error: { message, type: openai, param: null, code: tope.reason, tope } };
}

function detailsOf(error: unknown): { reason: string; [name: string]: unknown } {
  const reason = error instanceof TopeError ? error.reason || error.code : "INVALID_ARGUMENT";
  if (!(error instanceof QuotaExceeded)) {
    return { reason };
  }
  const { limit, resource, allowance, remaining, requested, windowEnd, retryAfterMs } = error;
  return {
    reason,
    limit,
    resource,
    allowance,
    remaining,
    requested,
    window_end: windowEnd?.toISOString(),
    retry_after_ms: retryAfterMs,
  };
}
