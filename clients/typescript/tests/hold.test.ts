/** Holds, guarded functions and what happens when things break, against the fake and the real server. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { Client, QuotaExceeded, Unavailable, errors } from "tope";
import type { Hold } from "tope";
import { Fake, Server } from "tope/testing";

import { World } from "./world.js";

const reply = { usage: { prompt_tokens: 4, completion_tokens: 6 } };
const abort = (): Error => new DOMException("the caller left", "AbortError");

for (const kind of ["fake", "server"]) {
  describe(`holds, ${kind}`, () => {
    let server: Server | undefined;
    let world: World;
    let client: Client;

    before(async () => {
      server = kind === "server" ? await Server.start() : undefined;
    });
    after(() => server?.close());
    beforeEach(async () => {
      world = new World(server);
      await world.add({ tokens: 1_000 });
      client = world.client();
    });
    afterEach(() => world.close());

    /** Returns what the only reservation reserved and committed, and the basis. */
    async function one(): Promise<[number, number, string | undefined]> {
      assert.ok(await client.flush(10_000));
      const found = await world.reservations();
      assert.equal(found.length, 1);
      const amount = found[0]?.amounts[0];
      return [Number(amount?.reserved), Number(amount?.committed), world.settlements[0]?.basis];
    }

    // Guarded functions: four kinds, and five ways in which they end.

    async function* chunks(): AsyncGenerator<string> {
      yield "w0 ";
      await sleep(1);
      yield "w1 ";
      yield "w2 ";
    }
    const options = { amounts: 100, prompt: (): string => "a b c" };

    it("guards a function", async () => {
      const ask = client.guard(100, (text: string) => ({ ...reply, text }));
      assert.equal((await ask("x")).text, "x");
      assert.deepEqual(await one(), [100, 10, "exact"]);
    });

    it("guards a function with options by its arguments, and usage inside the result", async () => {
      const ask = client.guard(
        {
          amounts: (budget: number) => budget,
          agent: (budget: number) => `agent-${budget}`,
          usage: (result: { inner: unknown }) => result.inner,
        },
        async (_budget: number) => ({ inner: reply }),
      );
      await ask(77);
      assert.deepEqual(await one(), [77, 10, "exact"]);
      assert.equal((await world.reservations())[0]?.agent, "agent-77");
    });

    it("guards a function that fails", async () => {
      const refused = Object.assign(new Error("no"), { status: 429 });
      await assert.rejects(client.guard(100, () => Promise.reject(refused))(), refused);
      assert.deepEqual(await one(), [100, 0, "unused"]);
    });

    const generators = {
      "an async generator": () => client.guard(options, chunks),
      "a generator": () =>
        client.guard(options, function* () {
          yield* ["w0 ", "w1 ", "w2 "];
        }),
      "a function that returns a stream": () => {
        const guarded = client.guard(options, async (): Promise<AsyncIterable<string>> => chunks());
        return async function* (): AsyncGenerator<string> {
          yield* await guarded();
        };
      },
    };
    for (const [name, make] of Object.entries(generators)) {
      it(`guards ${name} that is read to its end`, async () => {
        const texts: string[] = [];
        for await (const text of make()()) {
          texts.push(text);
        }
        assert.deepEqual(texts, ["w0 ", "w1 ", "w2 "]);
        assert.deepEqual((await one()).slice(0, 2), [100, 100], "its usage is an estimate");
      });

      it(`guards ${name} that is left`, async () => {
        for await (const _ of make()()) {
          break;
        }
        assert.deepEqual(await one(), [100, 4, "partial"]);
      });

      it(`guards ${name} whose reader fails`, async () => {
        await assert.rejects(async () => {
          for await (const _ of make()()) {
            throw abort();
          }
        });
        assert.deepEqual(await one(), [100, 4, "partial"]);
      });

      it(`holds nothing for ${name} that is never started, or one hold that is dropped`, async () => {
        make()();
        await sleep(20);
        assert.ok((await world.reservations()).length <= 1);
      });
    }

    it("does not commit a guarded generator before its first chunk", async () => {
      const stream = client.guard(options, chunks)();
      assert.equal((await stream.next()).value, "w0 ");
      const balance = (await world.balances()).get("tokens-per-day");
      assert.deepEqual([Number(balance?.reserved), Number(balance?.committed)], [100, 0]);
      await stream.return(undefined);
      assert.deepEqual(await one(), [100, 4, "partial"]);
    });

    it("passes values into a guarded generator, and what it returns out of it", async () => {
      const stream = client.guard(100, async function* () {
        const got: string = yield 1;
        return { ...reply, got };
      })();
      await stream.next();
      const { value } = await stream.next("back" as never);
      assert.equal((value as { got: string }).got, "back");
      assert.deepEqual(await one(), [100, 10, "exact"]);
    });

    // The scope, and the settlement.

    it("charges what is known after an error, and nothing that was not sent", async () => {
      await assert.rejects(
        client.hold({ amounts: 500, prompt: "a b c" }, async (hold) => {
          for await (const _ of hold.watch(chunks())) {
            throw new Error("broken");
          }
        }),
      );
      assert.deepEqual(await one(), [500, 4, "partial"]);
    });

    it("treats an error of a call in `await using` as one of the scope", async () => {
      const refused = Object.assign(new Error("no"), { cause: { code: "ECONNREFUSED" } });
      await assert.rejects(async () => {
        await using hold = await client.hold(100);
        await hold.call(() => Promise.reject(refused));
      });
      assert.deepEqual(await one(), [100, 0, "unused"]);
    });

    it("settles once, whatever is called", async () => {
      {
        await using hold = await client.hold(100);
        const settlement = await hold.commit({ tokens: 30 });
        assert.equal(Number(settlement?.reservation?.amounts[0]?.committed), 30);
        await hold.commit({ tokens: 50 });
        await hold.release();
      }
      assert.deepEqual(await one(), [100, 30, "exact"]);
      assert.equal(world.settlements.length, 1);
    });

    it("survives an abort, also if the server is away", async () => {
      world.faulty.fail("Batch", "lose-request", { times: 2 });
      const began = performance.now();
      await assert.rejects(
        client.hold(100, (hold) => {
          hold.add({ tokens: 40 });
          throw abort();
        }),
        { name: "AbortError" },
      );
      assert.ok(performance.now() - began < 500, "the caller does not wait");
      assert.deepEqual(await one(), [100, 40, "partial"]);
    });

    it("flushes settlements for which a caller waits, too", async () => {
      const hold = await client.hold(100);
      void hold.commit({ tokens: 40 });
      assert.deepEqual(await one(), [100, 40, "exact"]);
    });

    it("releases a hold whose caller left while it waited for the decision", async () => {
      const leave = new AbortController();
      world.faulty.fail("Reserve", "lose-reply", { times: 3 });
      const hold = client.hold({ amounts: 100, signal: leave.signal });
      setTimeout(() => leave.abort(), 30);
      await assert.rejects(hold, errors.Cancelled);
      assert.ok(await client.flush(10_000));
      assert.equal(Number((await world.balances()).get("tokens-per-day")?.reserved), 0);
    });

    it("settles a hold whose handle is gone", async () => {
      setFlagsFromString("--expose-gc");
      const gc = runInNewContext("gc") as () => void;
      const lose = async (): Promise<void> => {
        const hold = await client.hold({ amounts: 100, prompt: "a b c" });
        await hold.observe("w0 ");
      };
      await lose();
      for (let round = 0; round < 100 && world.settlements.length === 0; round += 1) {
        gc();
        await sleep(10);
      }
      assert.deepEqual(await one(), [100, 4, "partial"]);
    });

    it("repeats with one request_id, so that a call takes effect once", async () => {
      world.faulty.fail("Reserve", "lose-reply");
      world.faulty.fail("Reserve", "slow");
      world.faulty.fail("Commit", "lose-reply");
      await client.hold(100, (hold) => hold.add({ tokens: 10 }));
      assert.deepEqual(await one(), [100, 10, "exact"]);
    });

    it("lets a refusal pass in no mode", async () => {
      const seen: string[] = [];
      for (const onUnavailable of ["allow", (error: Error) => Boolean(seen.push(error.name))] as const) {
        const lenient = world.client({ onUnavailable });
        await assert.rejects(lenient.hold(1_001), QuotaExceeded);
        world.faulty.fail("Reserve", "lose-reply");
        await assert.rejects(lenient.hold(1_001), QuotaExceeded);
        await assert.rejects(lenient.hold({ amounts: 1, tenant: "nobody-here" }), errors.TenantNotFound);
      }
      assert.deepEqual(seen, []);
    });

    it("asks a function whether a call is allowed", async () => {
      const decide = async (error: Error, tenant: string): Promise<boolean> =>
        error instanceof Unavailable && tenant === world.tenant;
      const lenient = world.client({ onUnavailable: decide, timeoutMs: 100 });
      world.faulty.fail("Reserve", "lose-request", { times: 100 });
      await lenient.hold(100, (hold) => {
        assert.ok(hold.allowed);
        hold.add({ tokens: 7 });
      });
      await assert.rejects(lenient.hold({ amounts: 100, tenant: "other" }), errors.Unreachable);
      world.faulty.heal();
      assert.ok(await lenient.flush(10_000));
      assert.equal(await world.committed(), 7);
    });

    it("does not show an outage as a denial", async () => {
      world.faulty.fail("Reserve", "lose-request", { times: 100 });
      const began = performance.now();
      const error = await client.hold(10).catch((failure: unknown) => failure);
      assert.ok(error instanceof Unavailable && !(error instanceof QuotaExceeded));
      assert.ok(performance.now() - began < 2_500, "a decision takes two seconds at most");
    });

    it("extends a hundred long holds by one timer and few calls", async () => {
      const long = { amounts: 10, ttlMs: 500, reuse: "alone" } as const;
      const holds = await Promise.all(Array.from({ length: 100 }, () => client.hold(long)));
      const before = world.faulty.calls["Batch"] ?? 0;
      for (let waited = 0; waited < 1_500; waited += 20) {
        await sleep(20);
        world.fake?.clock.advance(20);
      }
      assert.ok((world.faulty.calls["Batch"] ?? 0) - before < 40, "the holds are extended together");
      await Promise.all(holds.map((hold) => hold.commit({ tokens: 1 })));
      const found = await world.reservations();
      assert.ok(found.length === 100 && found.every((each) => !each.late), "each hold was extended");
    });

    it("counts holds inside holds once, and leaves siblings alone", async () => {
      await client.hold(100, async () => {
        const two = [1, 2].map(() => client.hold(50, (hold) => hold.add({ tokens: 40 })));
        await Promise.all(two);
      });
      assert.deepEqual(await one(), [100, 80, "exact"]);
      const siblings = await Promise.all([client.hold(10), client.hold(10)]);
      assert.ok(siblings.every((hold) => !hold.joined));
      await Promise.all(siblings.map((hold) => hold.release()));
    });

    it("warns of an estimate once", async () => {
      for (let round = 0; round < 3; round += 1) {
        await client.hold(10, () => undefined);
      }
      assert.equal(world.logs.filter((text) => text.includes("charged as reserved")).length, 1);
    });

    it("charges cost and tokens of one hold, and leaves out what nobody declared", async () => {
      const priced = world.client({ price: (usage) => usage.total * 3, cost: "requests" });
      await world.home.addResource("requests");
      await priced.hold({ amounts: 100 }, (hold) => hold.use(reply));
      assert.equal(await world.committed("requests"), 30);
      const metered = world.client({ meter: (usage) => ({ tokens: usage.total, "no-such-thing": 1 }) });
      await metered.hold(100, (hold) => hold.use(reply));
      assert.ok(await metered.flush(10_000));
      assert.equal(await world.committed(), 20);
    });

    it("refuses options that are wrong, and names them", async () => {
      const wrong: [Parameters<Client["hold"]>[0], RegExp][] = [
        [-1, /amounts must be a whole number/],
        [1.5, /amounts must be a whole number/],
        [{ amounts: { tokens: 2 ** 60 } }, /tokens=/],
        [{ amounts: "5" as never }, /amounts must be a number/],
        [{}, /needs amounts/],
        [{ amounts: 1, ttlMs: 0 }, /ttlMs/],
        [{ amounts: 1, ttlMs: 90_000_000 }, /ttlMs/],
        [{ amounts: 1, onUnknown: "maybe" as never }, /onUnknown must be "charge" or "release"/],
        [{ amounts: 1, onUnavailable: "perhaps" as never }, /onUnavailable/],
        [{ amounts: 1, tenant: "" }, /tenant/],
        [{ maxTokens: -5 }, /maxTokens/],
      ];
      for (const [options_, message] of wrong) {
        await assert.rejects(client.hold(options_), message);
      }
      const hold: Hold = await client.hold(1);
      assert.throws(() => hold.add({ tokens: -1 }), /a quantity/);
      await assert.rejects(hold.extend({}), /extend needs/);
      await hold.release();
    });
  });
}

describe("a program", () => {
  it("settles its open holds at its end, and does not hang", async () => {
    await using server = await Server.start();
    await server.add("t", { tokens: 1_000 });
    const script = `
      import { Client } from "tope";
      const client = new Client("${server.target}", { tenant: "t" });
      await client.hold(100, (hold) => hold.add({ tokens: 1 }));
      const hold = await client.hold(100);
      hold.add({ tokens: 7 });
    `;
    const began = performance.now();
    await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], { cwd: import.meta.dirname });
    assert.ok(performance.now() - began < 4_000);
    await using client = new Client(server.target);
    const found: number[] = [];
    for await (const one of client.calls.reservations("t")) {
      found.push(Number(one.amounts[0]?.committed));
    }
    assert.deepEqual(found, [7, 1]);
  });

  it("loads quickly", async () => {
    const script = `const began = performance.now(); await import("tope"); console.log(performance.now() - began);`;
    const run = promisify(execFile);
    const { stdout } = await run(process.execPath, ["--input-type=module", "-e", script], { cwd: import.meta.dirname });
    assert.ok(Number(stdout) < 1_500, `${stdout} ms`);
  });

  it("tests without a server", async () => {
    const fake = new Fake();
    fake.add("acme", { tokens: 1_500 });
    await using client = new Client(fake, { tenant: "acme" });
    await client.hold(1_000, (hold) => hold.add({ tokens: 1_000 }));
    const refusal = await client.hold(1_000).catch((error: unknown) => error);
    assert.ok(refusal instanceof QuotaExceeded);
    assert.deepEqual([refusal.remaining, refusal.retryAfterMs], [500, 12 * 3_600_000]);
    fake.clock.advance(refusal.retryAfterMs as number);
    await client.hold(1_000, (hold) => hold.add({ tokens: 1_000 }));
  });
});
