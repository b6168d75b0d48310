/** `quotaFetch` with the libraries of OpenAI and Anthropic, against the stub. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI7 from "openai";
import OpenAI6 from "openai-6";
import { QuotaExceeded, TopeError } from "tope";
import type { Client } from "tope";
import { quotaFetch } from "tope/fetch";
import type { QuotaFetchOptions } from "tope/fetch";
import { Server } from "tope/testing";

import { APIS, Provider } from "./provider.js";
import type { Api } from "./provider.js";
import { World } from "./world.js";

// The newest library of OpenAI needs Node 22.
const OpenAI = Number(process.versions.node.split(".")[0]) >= 22 ? OpenAI7 : (OpenAI6 as unknown as typeof OpenAI7);
const messages = [{ role: "user" as const, content: "a b c" }];

describe("quotaFetch", () => {
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

  function openai(options: QuotaFetchOptions = {}): OpenAI7 {
    return new OpenAI({
      apiKey: "none",
      baseURL: `${provider.url}/v1`,
      defaultHeaders: { "x-stub-label": world.tenant },
      fetch: quotaFetch(client, options),
    });
  }
  function anthropic(options: QuotaFetchOptions = {}): Anthropic {
    return new Anthropic({
      apiKey: "none",
      baseURL: provider.url,
      defaultHeaders: { "x-stub-label": world.tenant },
      fetch: quotaFetch(client, options),
    });
  }
  /** Compares the books with the ledger. Returns what was charged. */
  async function equal(basis?: string): Promise<number> {
    assert.ok(await client.flush(10_000));
    const [committed, totals] = await Promise.all([world.committed(), provider.totals(world.tenant)]);
    assert.equal(committed, totals.tokens);
    if (basis !== undefined) {
      assert.deepEqual(world.settlements.map((one) => one.basis), [basis]);
    }
    return committed;
  }

  it("charges a plain reply of OpenAI", async () => {
    const reply = await openai().chat.completions.create({ model: "tokens-7", messages, max_tokens: 50 });
    assert.equal(reply.usage?.completion_tokens, 7);
    assert.equal(await equal("exact"), 10);
    const [one] = await world.reservations();
    assert.equal(one?.model, "tokens-7");
    assert.equal(Number(one?.amounts[0]?.reserved), 53, "the prompt, and the longest answer");
  });

  it("charges plain replies of Responses and Anthropic", async () => {
    await openai().responses.create({ model: "tokens-7+reasoning-5", input: "a b c" });
    await anthropic().messages.create({ model: "tokens-4+cached-2", messages, max_tokens: 50 });
    assert.equal(await equal(), 15 + 7);
  });

  it("charges a stream, and keeps the chunk of the usage to itself", async () => {
    const stream = await openai().chat.completions.create({ model: "tokens-7", messages, stream: true });
    let text = "";
    for await (const chunk of stream) {
      assert.equal(chunk.choices.length, 1);
      text += chunk.choices[0]?.delta.content ?? "";
    }
    assert.equal(text.trim().split(" ").length, 7);
    assert.equal(await equal("exact"), 10);
  });

  it("passes the chunk of the usage on if the caller asked for it", async () => {
    const stream = await openai().chat.completions.create({
      model: "tokens-7", messages, stream: true, stream_options: { include_usage: true },
    });
    let tokens = 0;
    for await (const chunk of stream) {
      tokens = chunk.usage?.total_tokens ?? tokens;
    }
    assert.equal(tokens, 10);
    assert.equal(await equal("exact"), 10);
  });

  it("charges streams of Responses and Anthropic", async () => {
    for await (const _ of await openai().responses.create({ model: "tokens-7", input: "a b c", stream: true }));
    const final = await anthropic().messages.stream({ model: "tokens-4", messages, max_tokens: 50 }).finalMessage();
    assert.equal(final.usage.output_tokens, 4);
    assert.equal(await equal(), 17);
    assert.deepEqual(world.settlements.map((one) => one.basis), ["exact", "exact"]);
  });

  it("charges what came of a stream that is cut", async () => {
    await assert.rejects(async () => {
      const request = { model: "tokens-7+cut-after-4", messages, stream: true } as const;
      for await (const _ of await openai().chat.completions.create(request));
    });
    assert.equal(await equal("partial"), 7);
  });

  it("charges what came of a stream whose reader leaves", async () => {
    let tokens = 0;
    const model = "tokens-7+hang-after-3";
    for await (const chunk of await openai().chat.completions.create({ model, messages, stream: true })) {
      tokens += Number(Boolean(chunk.choices[0]?.delta.content));
      if (tokens === 3) {
        break;
      }
    }
    assert.equal(await equal("partial"), 6);
  });

  it("charges what came of a stream whose signal ends it", async () => {
    const leave = new AbortController();
    let tokens = 0;
    const request = { model: "tokens-7+hang-after-3", messages, max_tokens: 50, stream: true } as const;
    for await (const event of await anthropic().messages.create(request, { signal: leave.signal })) {
      tokens += Number(event.type === "content_block_delta");
      if (tokens === 3) {
        leave.abort();
      }
    }
    assert.equal(await equal("partial"), 6);
  });

  it("charges nothing if the provider refuses, and holds once per attempt", async () => {
    const once = { maxRetries: 1 };
    const request = { model: "429", messages, max_tokens: 50 };
    await assert.rejects(openai().chat.completions.create(request, once), { status: 429 });
    await assert.rejects(anthropic().messages.create({ ...request, model: "500" }, once), { status: 500 });
    assert.equal(await equal(), 0);
    assert.deepEqual(world.settlements.map((one) => one.basis), ["unused", "unused", "unused", "unused"]);
  });

  it("charges nothing if the provider cannot be reached", async () => {
    const away = openai().withOptions({ baseURL: "http://127.0.0.1:59999/v1", maxRetries: 0 });
    await assert.rejects(away.chat.completions.create({ model: "m", messages }));
    assert.equal(await equal("unused"), 0);
  });

  it("refuses in the form of the provider, after one call and without the provider", async () => {
    const request = { model: "tokens-5", messages, max_tokens: 20_000 };
    const before = world.faulty.calls["Reserve"] ?? 0;
    await assert.rejects(openai().chat.completions.create(request), (error: InstanceType<typeof OpenAI.APIError>) => {
      assert.ok(error instanceof OpenAI.RateLimitError);
      assert.equal(error.code, "quota_exceeded");
      const { tope } = error.error as { tope: Record<string, unknown> };
      assert.deepEqual([tope["limit"], tope["remaining"], tope["requested"]], ["tokens-per-day", 10_000, 20_003]);
      return true;
    });
    await assert.rejects(anthropic().messages.create({ ...request, stream: true }), (error: Error) => {
      assert.ok(error instanceof Anthropic.RateLimitError);
      return true;
    });
    assert.equal((world.faulty.calls["Reserve"] ?? 0) - before, 2);
    assert.equal((await provider.totals(world.tenant)).calls, 0);
  });

  it("answers 403 for a suspended tenant, and 503 if no server answers", async () => {
    await server.suspend(world.tenant);
    await assert.rejects(openai().chat.completions.create({ model: "m", messages }), { status: 403 });
    world.faulty.fail("Reserve", "lose-request", { times: 100 });
    client = world.client({ timeoutMs: 200 });
    await assert.rejects(openai().chat.completions.create({ model: "m", messages }), { status: 503 });
    await assert.rejects(
      openai({ tenant: "" }).chat.completions.create({ model: "m", messages }),
      { status: 400, message: /hold needs a tenant/ },
    );
    assert.equal((await provider.totals(world.tenant)).calls, 0);
  });

  it("lowers the longest answer to what was granted", async () => {
    const grant = { allowPartial: true };
    await client.hold(9_900, (hold) => hold.add({ tokens: 9_900 }));
    const request = { model: "tokens-200", messages, max_completion_tokens: 300 };
    const reply = await openai(grant).chat.completions.create(request);
    assert.equal(reply.usage?.completion_tokens, 97);
    assert.equal(await world.committed(), 10_000);
  });

  it("stops a stream that outgrows its hold and the limit", async () => {
    await client.hold(9_950, (hold) => hold.add({ tokens: 9_950 }));
    const request = { model: "tokens-5000+slow-2", messages, stream: true } as const;
    let tokens = 0;
    await assert.rejects(async () => {
      for await (const chunk of await openai({ amounts: 20 }).chat.completions.create(request)) {
        tokens += chunk.choices.length;
      }
    }, QuotaExceeded);
    assert.ok(tokens >= 17 && tokens < 200, `${tokens} tokens`);
    assert.ok(await client.flush(10_000));
    assert.equal(world.settlements.at(-1)?.basis, "partial");
  });

  it("joins a hold around it", async () => {
    const hold = await client.hold(500, async (outer) => {
      await openai().chat.completions.create({ model: "tokens-7", messages, max_tokens: 50 });
      const request = { model: "tokens-7", messages, max_tokens: 50, stream: true } as const;
      for await (const _ of await openai().chat.completions.create(request));
      return outer;
    });
    assert.equal(hold.settlement?.basis, "exact");
    assert.equal(await equal(), 20);
    assert.equal((await world.reservations()).length, 1);
  });

  it("reads subject and labels of the call", async () => {
    const byCall: QuotaFetchOptions["byCall"] = ({ api, body }) => ({ agent: api, labels: { m: String(body["model"]) } });
    await openai({ byCall }).chat.completions.create({ model: "tokens-1", messages });
    const [one] = await world.reservations();
    assert.deepEqual([one?.agent, one?.labels], ["openai-chat", { m: "tokens-1" }]);
  });

  it("passes other calls unchanged", async () => {
    const guarded = quotaFetch(client);
    assert.equal((await guarded(`${provider.url}/ledger/totals?label=none`)).status, 200);
    assert.equal((await guarded(`${provider.url}/v1/files`, { method: "POST", body: "{}" })).status, 404);
    assert.equal((await world.reservations()).length, 0);
  });

  it("takes requests as objects, and bodies that are no JSON", async () => {
    const guarded = quotaFetch(client);
    const url = `${provider.url}/v1/chat/completions`;
    const headers = { "x-stub-label": world.tenant };
    const body = JSON.stringify({ model: "tokens-3", messages });
    const reply = await guarded(new Request(url, { method: "POST", headers, body }));
    assert.equal(((await reply.json()) as { usage: { total_tokens: number } }).usage.total_tokens, 6);
    const bytes = await guarded(url, { method: "POST", headers, body: new TextEncoder().encode(body) });
    await bytes.text();
    const wrong = await guarded(url, { method: "POST", headers, body: "{" });
    assert.equal(wrong.status, 400);
    assert.equal(await equal(), 12);
  });

  it("keeps a plain reply that is cut as reserved", async () => {
    const request = { model: "tokens-7+cut-after-1", messages, max_tokens: 50 };
    await assert.rejects(openai({ onUnknown: "charge" }).chat.completions.create(request, { maxRetries: 0 }));
    assert.ok(await client.flush(10_000));
    assert.equal(world.settlements[0]?.basis, "unknown");
    assert.equal(await world.committed(), 53);
  });

  // What providers send that is odd.

  /** Makes a call without a library, and reads all that comes. */
  async function raw(api: Api, model: string): Promise<void> {
    const guarded = provider.with(() => quotaFetch(client, { amounts: 100 }));
    try {
      for await (const _ of guarded.stream(api, model, world.tenant));
    } catch (error) {
      assert.ok(!(error instanceof TopeError));
    }
  }

  for (const api of APIS) {
    it(`charges what came of a stream of ${api} that is cut anywhere`, async () => {
      for (let at = 0; at <= 6; at += 1) {
        await raw(api, `tokens-6+cut-after-${at}`);
      }
      assert.ok(await client.flush(10_000));
      const bases = world.settlements.map((one) => one.basis);
      assert.equal(bases.length, 7);
      // Of a stream that is cut before its first token, some providers have said what the prompt costs.
      const [first, ...rest] = await world.reservations();
      const sent = (await provider.entries()).filter((one) => one.label === world.tenant).slice(1);
      assert.deepEqual(
        rest.map((one) => Number(one.amounts[0]?.committed)),
        sent.map((one) => one.input + one.output),
      );
      assert.ok([3, 100].includes(Number(first?.amounts[0]?.committed)));
    });

    it(`charges streams of ${api} whose usage is odd`, async () => {
      for (const word of ["usage-floats", "usage-twice", "garbage", "usage-null", "no-usage", "usage-zeros"]) {
        await raw(api, `tokens-6+${word}`);
      }
      assert.ok(await client.flush(10_000));
      const charged = (await world.reservations()).map((one) => Number(one.amounts[0]?.committed));
      assert.deepEqual(charged.slice(0, 3), [9, 9, 9]);
      assert.deepEqual(charged.slice(3), [100, 100, 100], "unknown usage is charged as reserved");
    });
  }
});
