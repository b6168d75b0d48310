/** Calls of the stub, as a program makes them, without the library of a provider. */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { ROOT } from "./root.js";

export const APIS = ["openai-chat", "openai-responses", "anthropic", "gemini"] as const;
export type Api = (typeof APIS)[number];

/** A status of the provider that is an error. */
export class ProviderError extends Error {
  constructor(readonly status: number) {
    super(`the provider answered ${status}`);
  }
}

export interface Entry {
  label: string;
  input: number;
  output: number;
  outcome: string;
}

interface Totals {
  calls: number;
  tokens: number;
}

/** Returns the path and the body of a call. */
function requestOf(api: Api, model: string, stream: boolean, prompt: string, asks: boolean): [string, object] {
  if (api === "gemini") {
    const verb = stream ? "streamGenerateContent?alt=sse" : "generateContent";
    return [`/v1beta/models/${model}:${verb}`, { contents: [{ role: "user", parts: [{ text: prompt }] }] }];
  }
  if (api === "openai-responses") {
    return ["/v1/responses", { model, stream, input: prompt }];
  }
  const body = { model, stream, messages: [{ role: "user", content: prompt }] };
  if (api === "anthropic") {
    return ["/v1/messages", { ...body, max_tokens: 200_000 }];
  }
  // Anyone who does not ask gets no usage.
  return ["/v1/chat/completions", stream && asks ? { ...body, stream_options: { include_usage: true } } : body];
}

/** Reads an event. One that is no JSON says nothing to this program. */
function eventOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** The stub. */
export class Provider {
  private constructor(
    readonly url: string,
    private readonly end: () => void,
    private readonly fetchOf?: (label: string) => typeof globalThis.fetch,
  ) {}

  /** Returns the same stub, called by another `fetch`. */
  with(fetchOf: (label: string) => typeof globalThis.fetch): Provider {
    return new Provider(this.url, this.end, fetchOf);
  }

  static async start(): Promise<Provider> {
    const child = spawn("python3", [`${ROOT}/clients/stub/stub.py`], { stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface(child.stdout)) {
      return new Provider(line.trim(), () => child.kill("SIGKILL"));
    }
    throw new Error("the stub did not start");
  }

  close(): void {
    this.end();
  }

  async totals(label: string): Promise<Totals> {
    return (await (await fetch(`${this.url}/ledger/totals?label=${label}`)).json()) as Totals;
  }

  async entries(): Promise<Entry[]> {
    return ((await (await fetch(`${this.url}/ledger`)).json()) as { entries: Entry[] }).entries;
  }

  private async post(api: Api, model: string, label: string, stream: boolean, signal: AbortSignal): Promise<Response> {
    const [path, body] = requestOf(api, model, stream, "a b c", this.fetchOf === undefined);
    const headers = { "content-type": "application/json", "x-stub-label": label, connection: "close" };
    const request = { method: "POST", headers, body: JSON.stringify(body), signal };
    const response = await (this.fetchOf?.(label) ?? fetch)(this.url + path, request);
    if (!response.ok) {
      await response.arrayBuffer();
      throw new ProviderError(response.status);
    }
    return response;
  }

  async ask(api: Api, model: string, label: string, timeoutMs = 30_000): Promise<unknown> {
    return await (await this.post(api, model, label, false, AbortSignal.timeout(timeoutMs))).json();
  }

  /** Yields the events of a stream. */
  async *stream(api: Api, model: string, label: string): AsyncGenerator<unknown> {
    const leave = new AbortController();
    try {
      const response = await this.post(api, model, label, true, leave.signal);
      let rest = "";
      const decoder = new TextDecoder();
      for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
        const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
        rest = lines.pop() as string;
        for (const line of lines) {
          if (line.startsWith("data: ") && line !== "data: [DONE]") {
            yield eventOf(line.slice("data: ".length));
          }
        }
      }
    } finally {
      leave.abort();
    }
  }
}
