/**
 * A `fetch` that holds quota for each call of a model. It is given to the libraries of providers:
 *
 * ```ts
 * const openai = new OpenAI({ fetch: quotaFetch(client) });
 * ```
 */

import type { Client, HoldOptions } from "./client.js";
import { coreOf } from "./hold.js";
import type { Hold } from "./hold.js";
import { grown, leave, pass } from "./pass.js";
import { apiOf, refusal, withMaximum } from "./providers.js";
import type { Api, ApiName } from "./providers.js";
import { Splitter, concat, parse } from "./sse.js";
import { get } from "./usage.js";

export type { ApiName } from "./providers.js";

// A larger reply is passed on, and its usage is not read.
const REPLY_MAX_BYTES = 64 << 20;

/** A call of a model, as options can depend on it. */
export interface ModelCall {
  readonly api: ApiName;
  readonly model: string;
  readonly url: URL;
  /** The body of the request. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** What the hold of each call asks for. Prompt, model and the longest answer are those of the request. */
export type CallOptions = Omit<HoldOptions, "prompt" | "tools" | "maxTokens" | "n" | "inside" | "signal">;

export interface QuotaFetchOptions extends CallOptions {
  /** Options that depend on the call. They replace the others. */
  byCall?: (call: ModelCall) => CallOptions;
  /** Makes the calls. `globalThis.fetch` by default. */
  fetch?: typeof globalThis.fetch;
}

/** Makes a `fetch` that holds quota for each call of a model. Other calls pass unchanged. */
export function quotaFetch(client: Client, options: QuotaFetchOptions = {}): typeof globalThis.fetch {
  const { byCall, fetch: inner, ...fixed } = options;
  return async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const send = inner ?? globalThis.fetch;
    const url = new URL(input instanceof Request ? input.url : input);
    const method = init?.method ?? (input instanceof Request ? input.method : "GET");
    if (method.toUpperCase() !== "POST" || apiOf(url.pathname, {}) === undefined) {
      return await send(input, init);
    }
    const text = await textOf(input, init);
    const parsed = parse(text);
    const body = typeof parsed === "object" && parsed !== null ? (parsed as Record<string, unknown>) : {};
    const api = apiOf(url.pathname, body) as Api;
    const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
    let hold: Hold;
    try {
      const more = byCall?.({ api: api.name, model: api.model, url, body });
      const { model, maxTokens, n } = api;
      const prompt = parsed === undefined ? text : body;
      hold = await client.hold({ model, ...fixed, ...more, prompt, maxTokens, n, ...(signal && { signal }) });
    } catch (error) {
      signal?.throwIfAborted();
      return refusal(api, error);
    }
    const call = new GuardedCall(hold, api, signal ?? undefined);
    return await call.run(send, input, init, text, body);
  };
}

async function textOf(input: string | URL | Request, init: RequestInit | undefined): Promise<string> {
  const body = init?.body;
  if (typeof body === "string") {
    return body;
  }
  if (body !== undefined && body !== null) {
    return await new Response(body).text();
  }
  return input instanceof Request ? await input.clone().text() : "";
}

class GuardedCall {
  /** Whether the usage of a stream was asked for here, and not by the caller. */
  private injected = false;

  constructor(
    private readonly hold: Hold,
    private readonly api: Api,
    private readonly signal: AbortSignal | undefined,
  ) {}

  async run(
    send: typeof globalThis.fetch,
    input: string | URL | Request,
    init: RequestInit | undefined,
    text: string,
    body: Record<string, unknown>,
  ): Promise<Response> {
    const changed = this.change(body);
    // A stream as the body was read above.
    const content = changed === body ? text : JSON.stringify(changed);
    const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
    headers.delete("content-length");
    let response: Response;
    try {
      this.hold.sent();
      response = await this.hold.run(() => send(input, { ...init, headers, body: content }));
    } catch (error) {
      await leave(this.hold, error);
      throw error;
    }
    if (!response.ok) {
      this.hold.unsent();
      await this.hold[Symbol.asyncDispose]();
      return response;
    }
    if (response.body === null) {
      await this.hold[Symbol.asyncDispose]();
      return response;
    }
    const streams = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
    return withBody(response, streams ? this.events(response.body) : this.plain(response.body));
  }

  /** Changes what the request asks for. */
  private change(body: Record<string, unknown>): Record<string, unknown> {
    let changed = body;
    const core = coreOf(this.hold);
    const { tokens } = core.ask.amounts;
    if (core.ask.allowPartial && tokens !== undefined && (core.granted["tokens"] ?? 0) < tokens) {
      const each = Math.max(1, Math.floor(this.hold.maxTokens / this.api.n));
      changed = withMaximum(this.api, changed, each);
    }
    const asks = this.api.name === "openai-chat" || this.api.name === "openai-completions";
    const streamOptions = get(body, "stream_options");
    if (asks && body["stream"] === true && get(streamOptions, "include_usage") !== true) {
      this.injected = true;
      changed = { ...changed, stream_options: { ...(streamOptions as object | undefined), include_usage: true } };
    }
    return changed;
  }

  /** Passes a stream of events on, and settles the hold at its end, its break or when the caller leaves. */
  private events(source: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
    const splitter = new Splitter();
    const usage = coreOf(this.hold).addStream();
    usage.finished = false;
    return pass(this.hold, source, this.signal, {
      take: async (bytes) => {
        const passed: Uint8Array[] = [];
        for (const event of splitter.push(bytes)) {
          usage.observe(event.data);
          if (!this.isExtra(event.data)) {
            passed.push(event.bytes);
          }
        }
        return { chunk: nonEmpty(concat(passed)), failure: await grown(this.hold) };
      },
      end: () => {
        usage.finished = true;
        return nonEmpty(splitter.takeRest());
      },
    });
  }

  /** Whether the caller has not asked for an event: the usage that OpenAI sends in a chunk of its own. */
  private isExtra(data: unknown): boolean {
    const choices = get(data, "choices");
    const empty = Array.isArray(choices) && choices.length === 0;
    return this.injected && empty && get(data, "usage") !== undefined;
  }

  /** Passes a whole reply on, and settles the hold at its end. */
  private plain(source: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let size = 0;
    return pass(this.hold, source, this.signal, {
      take: async (bytes) => {
        size += bytes.length;
        if (size <= REPLY_MAX_BYTES) {
          pieces.push(bytes);
        }
        return { chunk: bytes };
      },
      end: () => {
        const reply = size <= REPLY_MAX_BYTES ? parse(new TextDecoder().decode(concat(pieces))) : undefined;
        // A stream of Gemini without `alt=sse` is a list of chunks.
        this.hold.use(Array.isArray(reply) ? reply.at(-1) : reply);
        return undefined;
      },
    });
  }
}

function nonEmpty(bytes: Uint8Array): Uint8Array | undefined {
  return bytes.length > 0 ? bytes : undefined;
}

function withBody(response: Response, body: ReadableStream<Uint8Array>): Response {
  const { status, statusText, headers, url } = response;
  const made = new Response(body, { status, statusText, headers });
  Object.defineProperty(made, "url", { value: url });
  return made;
}
