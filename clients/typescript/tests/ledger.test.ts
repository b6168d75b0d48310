/** The books equal what the provider sent: mixed calls, of which a fifth breaks, while the server is killed twice. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { TopeError } from "tope";
import type { Client } from "tope";
import { quotaFetch } from "tope/fetch";
import { Server } from "tope/testing";

import { hasToken } from "./play.js";
import { APIS, Provider, ProviderError } from "./provider.js";
import type { Api } from "./provider.js";
import { random } from "./random.js";
import { World } from "./world.js";

const CALLS = Number(process.env["TOPE_TEST_CALLS"] ?? 1_000);
const AT_ONCE = 64;

class CallerLeft extends Error {}

/** One call: what the provider does, and how its caller behaves. */
interface Plan {
  id: string;
  api: Api;
  model: string;
  stream: boolean;
  way: "function" | "using" | "fetch";
  /** After how many tokens the caller leaves. */
  read: number | undefined;
  cancel: boolean;
}

function planOf(number: number, chance: () => number): Plan {
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(chance() * choices.length)] as T;
  const tokens = 1 + Math.floor(chance() * 30);
  const plan: Plan = {
    id: `call-${number}-${Math.floor(chance() * 2 ** 40).toString(16)}`,
    api: pick(APIS),
    model: `tokens-${tokens}`,
    stream: chance() < 0.7,
    way: pick(["function", "using", "fetch"] as const),
    read: undefined,
    cancel: false,
  };
  if (chance() < 0.2) {
    const how = pick(["cut", "left", "cancelled", "429", "500"]);
    const at = 1 + Math.floor(chance() * tokens);
    if (how === "429" || how === "500") {
      return { ...plan, model: how };
    }
    const model = `${plan.model}+${how === "cut" ? "cut" : "hang"}-after-${at}`;
    return { ...plan, model, stream: true, read: how === "cut" ? undefined : at, cancel: how === "cancelled" };
  }
  if (chance() < 0.2) {
    plan.model += plan.api === "gemini" ? "+cached-1" : `+cached-2+reasoning-${Math.floor(chance() * 6)}`;
  }
  return plan;
}

/** Reads the events of a call, and leaves where the plan says so. */
async function read(plan: Plan, events: AsyncIterable<unknown>): Promise<void> {
  let tokens = 0;
  for await (const event of events) {
    tokens += Number(hasToken(event));
    if (tokens === plan.read) {
      throw plan.cancel ? new DOMException("the caller left", "AbortError") : new CallerLeft();
    }
  }
}

async function run(client: Client, provider: Provider, guarded: Provider, plan: Plan): Promise<void> {
  const { api, model, id } = plan;
  if (plan.way === "fetch") {
    await (plan.stream ? read(plan, guarded.stream(api, model, id)) : guarded.ask(api, model, id));
    return;
  }
  const options = { amounts: 50, prompt: "a b c", requestId: id };
  if (plan.way === "function") {
    await client.hold(options, async (hold) => {
      await (plan.stream
        ? read(plan, hold.watch(provider.stream(api, model, id)))
        : hold.call(() => provider.ask(api, model, id)));
    });
    return;
  }
  await using hold = await client.hold(options);
  await (plan.stream
    ? read(plan, hold.watch(provider.stream(api, model, id)))
    : hold.call(() => provider.ask(api, model, id)));
}

/** Whether an error is one that the plan asked for. */
function expected(error: unknown): boolean {
  const cut = error instanceof TypeError && error.message === "terminated";
  const left = error instanceof DOMException && error.name === "AbortError";
  return error instanceof CallerLeft || error instanceof ProviderError || cut || left;
}

describe("the books", () => {
  let provider: Provider;
  let server: Server;

  before(async () => {
    [provider, server] = await Promise.all([Provider.start(), Server.start()]);
  });
  after(async () => {
    provider.close();
    await server.close();
  });

  it(`equal the ledger after ${CALLS} calls, with two kills of the server`, { timeout: 900_000 }, async () => {
    const chance = random(7);
    const plans = Array.from({ length: CALLS }, (_, number) => planOf(number, chance));
    const broken = plans.filter(({ model }) => /after|429|500/.test(model)).length;
    assert.ok(broken > 0.1 * CALLS && broken < 0.3 * CALLS, `${broken} calls break`);
    const world = new World(server);
    await world.add({ tokens: 1_000_000_000 });
    const client = world.client({ timeoutMs: 30_000 });
    const guarded = provider.with((label) => quotaFetch(client, { amounts: 50, requestId: label }));
    let done = 0;
    let next = 0;
    const one = async (): Promise<void> => {
      for (let plan = plans[next++]; plan !== undefined; plan = plans[next++]) {
        await run(client, provider, guarded, plan).catch((error: unknown) => {
          if (error instanceof TopeError || !expected(error)) {
            throw error;
          }
        });
        done += 1;
      }
    };
    const kill = async (): Promise<void> => {
      for (const share of [0.3, 0.7]) {
        while (done < share * CALLS) {
          await sleep(5);
        }
        await server.restart();
      }
    };
    const killing = kill();
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    await killing;
    assert.ok(await client.close(60_000));
    assert.equal(client.lost, 0);

    const sent = new Map(plans.map(({ id }) => [id, 0]));
    for (const { label, input, output } of await provider.entries()) {
      sent.set(label, (sent.get(label) ?? 0) + input + output);
    }
    const found = await world.reservations();
    const charged = new Map(found.map((each) => [each.requestId, Number(each.amounts[0]?.committed)]));
    const wrong = plans.filter(({ id }) => charged.get(id) !== sent.get(id));
    const shown = wrong.slice(0, 5).map((plan) => [plan, sent.get(plan.id), charged.get(plan.id)]);
    assert.deepEqual(shown, [], `${wrong.length} differ`);
    assert.equal(found.length, CALLS);
    const balance = (await world.balances()).get("tokens-per-day");
    const total = [...sent.values()].reduce((sum, tokens) => sum + tokens, 0);
    assert.deepEqual([Number(balance?.committed), Number(balance?.reserved)], [total, 0]);
    await world.close();
  });
});
