/** The middleware of the AI SDK, and `quotaFetch` inside its providers, against the stub. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import type { LanguageModelV4Middleware } from "@ai-sdk/provider";
import { QuotaExceeded } from "tope";
import type { Client } from "tope";
import { quotaMiddleware } from "tope/ai";
import type { AiOptions } from "tope/ai";
import { quotaFetch } from "tope/fetch";
import { Server } from "tope/testing";

import { Provider } from "./provider.js";
import { World } from "./world.js";

// The AI SDK needs Node 22.
const skip = Number(process.versions.node.split(".")[0]) < 22 && "this Node is too old for the AI SDK";

describe("the AI SDK", { skip }, async () => {
  if (skip) {
    return;
  }
  const { APICallError, generateText, streamText, wrapLanguageModel } = await import("ai");
  const { createOpenAI } = await import("@ai-sdk/openai");
  let provider: Provider;
  let server: Server;
  let world: World;
  let client: Client;

  before(async () => {
    [provider, server] = await Promise.all([Provider.start(), Server.start()]);
  });
  after(async () => {
    provider.close();
    await server.close();
  });
  beforeEach(async () => {
    world = new World(server);
    await world.add({ tokens: 10_000 });
    client = world.client();
  });
  afterEach(() => world.close());

  function openai(fetch?: typeof globalThis.fetch) {
    const headers = { "x-stub-label": world.tenant };
    return createOpenAI({ apiKey: "none", baseURL: `${provider.url}/v1`, headers, ...(fetch && { fetch }) });
  }
  function guarded(name: string, options: AiOptions = {}) {
    const middleware: LanguageModelV4Middleware = quotaMiddleware(client, options);
    return wrapLanguageModel({ model: openai().chat(name), middleware });
  }
  async function equal(...bases: string[]): Promise<number> {
    assert.ok(await client.flush(10_000));
    const [committed, totals] = await Promise.all([world.committed(), provider.totals(world.tenant)]);
    assert.equal(committed, totals.tokens);
    assert.deepEqual(world.settlements.map((one) => one.basis), bases);
    return committed;
  }
  const once = { prompt: "a b c", maxRetries: 0 };

  it("charges a text", async () => {
    const { usage } = await generateText({ model: guarded("tokens-7+cached-2"), ...once, maxOutputTokens: 50 });
    assert.equal(usage.totalTokens, 10);
    assert.equal(await equal("exact"), 10);
    const [one] = await world.reservations();
    assert.deepEqual([one?.model, Number(one?.amounts[0]?.reserved)], ["tokens-7+cached-2", 53]);
  });

  it("charges a stream", async () => {
    let text = "";
    for await (const part of streamText({ model: guarded("tokens-7"), ...once }).textStream) {
      text += part;
    }
    assert.equal(text.trim().split(" ").length, 7);
    assert.equal(await equal("exact"), 10);
  });

  it("charges what came of a stream that is cut", async () => {
    const stream = streamText({ model: guarded("tokens-7+cut-after-4"), ...once, onError: () => undefined });
    await stream.consumeStream();
    assert.equal(await equal("partial"), 7);
  });

  it("charges what came of a stream that is aborted", async () => {
    const abort = new AbortController();
    let parts = 0;
    const model = guarded("tokens-7+hang-after-3");
    const stream = streamText({ model, ...once, abortSignal: abort.signal, onError: () => undefined });
    for await (const part of stream.fullStream) {
      parts += Number(part.type === "text-delta");
      if (parts === 3) {
        abort.abort();
      }
    }
    assert.equal(await equal("partial"), 6);
  });

  it("releases what the provider refused, and holds once per attempt", async () => {
    await assert.rejects(generateText({ model: guarded("500"), prompt: "a b c", maxRetries: 1 }));
    assert.equal(await equal("unused", "unused"), 0);
  });

  it("refuses after one call, and without the provider", async () => {
    const before = world.faulty.calls["Reserve"] ?? 0;
    const long = { prompt: "a b c", maxOutputTokens: 20_000 };
    await assert.rejects(generateText({ model: guarded("tokens-7"), ...long }), (error: Error) => {
      assert.ok(APICallError.isInstance(error));
      assert.deepEqual([error.statusCode, error.isRetryable], [429, false]);
      assert.ok(error.cause instanceof QuotaExceeded && error.cause.remaining === 10_000);
      return true;
    });
    assert.equal((world.faulty.calls["Reserve"] ?? 0) - before, 1);
    assert.equal((await provider.totals(world.tenant)).calls, 0);
  });

  it("lowers the longest answer to what was granted", async () => {
    await client.hold(9_900, (hold) => hold.add({ tokens: 9_900 }));
    const model = guarded("tokens-200", { allowPartial: true });
    const { usage } = await generateText({ model, ...once, maxOutputTokens: 300 });
    assert.equal(usage.outputTokens, 97);
    assert.equal(await world.committed(), 10_000);
  });

  it("works with a guarded fetch inside the provider", async () => {
    const model = openai(quotaFetch(client)).chat("tokens-7");
    await generateText({ model, ...once });
    await streamText({ model, ...once }).consumeStream();
    assert.equal(await equal("exact", "exact"), 20);
    const long = { prompt: "a b c", maxRetries: 0, maxOutputTokens: 20_000 };
    await assert.rejects(generateText({ model, ...long }), /tope: quota exceeded/);
  });
});
