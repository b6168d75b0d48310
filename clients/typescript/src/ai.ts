/**
 * A middleware of the AI SDK that holds quota for each call of a model:
 *
 * ```ts
 * const model = wrapLanguageModel({ model: openai("gpt-5"), middleware: quotaMiddleware(client) });
 * ```
 */

import type { Client } from "./client.js";
import { QuotaExceeded, TopeError } from "./errors.js";
import type { CallOptions } from "./fetch.js";
import { coreOf } from "./hold.js";
import type { Hold } from "./hold.js";
import { grown, leave, pass } from "./pass.js";
import { Usage, get, list } from "./usage.js";

// How the AI SDK recognizes its errors, also those of another copy of it.
const MARKS = [Symbol.for("vercel.ai.error"), Symbol.for("vercel.ai.error.AI_APICallError")];

/** What is known of a call of the AI SDK. */
export interface AiCall {
  readonly modelId: string;
  readonly params: AiParams;
}

/** The parameters of a call of the AI SDK, as far as they are read. */
export interface AiParams {
  prompt: unknown;
  tools?: unknown;
  maxOutputTokens?: number;
  abortSignal?: AbortSignal;
}

export interface AiOptions extends CallOptions {
  /** Options that depend on the call. They replace the others. */
  byCall?: (call: AiCall) => CallOptions;
}

/** The model that a middleware wraps, as far as it is used. */
export interface AiModel<P, G, S> {
  readonly modelId: string;
  doGenerate(params: P): PromiseLike<G>;
  doStream(params: P): PromiseLike<S>;
}

interface Call<P, G, S> {
  doGenerate: () => PromiseLike<G>;
  doStream: () => PromiseLike<S>;
  params: P;
  model: AiModel<P, G, S>;
}

/** A middleware for language models of AI SDK 7. */
export interface AiMiddleware {
  readonly specificationVersion: "v4";
  wrapGenerate<P extends AiParams, G extends { usage: unknown }, S>(call: Call<P, G, S>): Promise<G>;
  wrapStream<P extends AiParams, G, T extends { type: string }, S extends { stream: ReadableStream<T> }>(
    call: Call<P, G, S>,
  ): Promise<S>;
}

/** The error of a call that was not allowed. The AI SDK takes it for its own `APICallError`, and repeats nothing. */
export class QuotaCallError extends Error {
  readonly url = "";
  readonly requestBodyValues = {};
  readonly isRetryable = false;
  readonly statusCode: number;

  constructor(override readonly cause: TopeError) {
    super(`tope: ${cause.message}`);
    this.name = "AI_APICallError";
    this.statusCode = cause instanceof QuotaExceeded ? 429 : 503;
    for (const mark of MARKS) {
      Object.defineProperty(this, mark, { value: true });
    }
  }
}

/** Makes a middleware that holds quota for each call of a model. */
export function quotaMiddleware(client: Client, options: AiOptions = {}): AiMiddleware {
  const { byCall, ...fixed } = options;

  async function begin(params: AiParams, modelId: string): Promise<Hold> {
    const { tools, maxOutputTokens: maxTokens, abortSignal: signal } = params;
    const prompt = withImages(params.prompt);
    const more = byCall?.({ modelId, params });
    try {
      return await client.hold({ model: modelId, ...fixed, ...more, prompt, tools, maxTokens, signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof TopeError ? new QuotaCallError(error) : error;
    }
  }

  return {
    specificationVersion: "v4",

    async wrapGenerate({ doGenerate, params, model }) {
      const hold = await begin(params, model.modelId);
      try {
        const result = await hold.run(() => {
          hold.sent();
          return isLowered(hold) ? model.doGenerate(lowered(hold, params)) : doGenerate();
        });
        hold.use(usageOf(result.usage));
        await hold[Symbol.asyncDispose]();
        return result;
      } catch (error) {
        await leave(hold, error);
        throw error;
      }
    },

    async wrapStream({ doStream, params, model }) {
      const hold = await begin(params, model.modelId);
      try {
        const result = await hold.run(() => {
          hold.sent();
          return isLowered(hold) ? model.doStream(lowered(hold, params)) : doStream();
        });
        return { ...result, stream: counted(hold, result.stream, params.abortSignal) };
      } catch (error) {
        await leave(hold, error);
        throw error;
      }
    },
  };
}

function counted<T extends { type: string }>(
  hold: Hold,
  source: ReadableStream<T>,
  signal: AbortSignal | undefined,
): ReadableStream<T> {
  const usage = coreOf(hold).addStream();
  usage.finished = false;
  return pass(hold, source, signal, {
    take: async (part) => {
      if (part.type.endsWith("-delta")) {
        usage.observe(get(part, "delta"));
      } else if (part.type === "finish") {
        const found = usageOf(get(part, "usage"));
        if (found !== undefined) {
          usage.report(found, true);
        }
      } else if (part.type === "error") {
        hold.failed(get(part, "error"));
      }
      return { chunk: part, failure: await grown(hold) };
    },
    end: () => {
      usage.finished = true;
      return undefined;
    },
  });
}

/** Reads the usage of the AI SDK. Its totals include cache and reasoning. */
function usageOf(usage: unknown): Usage | undefined {
  const input = get(usage, "inputTokens");
  const output = get(usage, "outputTokens");
  const number = (value: unknown, name: string): number => Number(get(value, name) ?? 0) || 0;
  const found = new Usage({
    input: number(input, "total"),
    output: number(output, "total"),
    cacheRead: number(input, "cacheRead"),
    cacheWrite: number(input, "cacheWrite"),
    reasoning: number(output, "reasoning"),
  });
  return found.total > 0 ? found : undefined;
}

/** Whether the hold got less than it asked for. */
function isLowered(hold: Hold): boolean {
  const { allowPartial, amounts } = coreOf(hold).ask;
  return allowPartial && (hold.granted["tokens"] ?? 0) < (amounts["tokens"] ?? 0);
}

function lowered<P extends AiParams>(hold: Hold, params: P): P {
  return { ...params, maxOutputTokens: hold.maxTokens };
}

/** Shows images as such: to the AI SDK they are files with a media type. */
function withImages(prompt: unknown): unknown {
  if (!Array.isArray(prompt)) {
    return prompt;
  }
  return prompt.map((message: unknown) => {
    const parts = list(message, "content");
    const content = parts.map((part) => {
      const image = get(part, "type") === "file" && String(get(part, "mediaType")).startsWith("image");
      return image ? { type: "image" } : part;
    });
    return parts.length > 0 ? { ...(message as object), content } : message;
  });
}
