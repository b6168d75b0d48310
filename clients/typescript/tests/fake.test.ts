/** The fake decides as the real server does: the same random operations have the same outcomes on both. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Client, InvalidArgument, QuotaExceeded, TopeError, errors } from "tope";
import { Clock, Fake, Server } from "tope/testing";
import { Dimension, Enforcement, LimitSchema, Period, QuotaService, ReservationState } from "tope/v1";
import type { Reservation } from "tope/v1";

import { random } from "./random.js";

const RESOURCES = ["tokens", "requests", "uncounted"] as const;
const MOST = { tokens: 700, requests: 8, uncounted: 50 };
const { LIFETIME, MONTH, YEAR } = Period;

const limits = [
  { id: "all", resource: "tokens", quantity: 4_000n, period: LIFETIME },
  { id: "agent", resource: "tokens", quantity: 1_500n, period: LIFETIME, per: [Dimension.AGENT] },
  { id: "soft", resource: "tokens", quantity: 500n, period: YEAR, enforcement: Enforcement.SOFT },
  { id: "run", resource: "requests", quantity: 40n, period: LIFETIME, perLabels: ["run"] },
  { id: "big", resource: "requests", quantity: 15n, period: LIFETIME, model: "big" },
  { id: "watch", resource: "tokens", quantity: 300n, period: MONTH, enforcement: Enforcement.OBSERVE },
].map((limit) => create(LimitSchema, limit));

type Name = "reserve" | "commit" | "release" | "extend" | "record";

/** The same operations on both servers. Names of reservations differ, so they are named by number. */
class Twins {
  readonly names: [string, string][] = [];

  constructor(
    private readonly clients: readonly [Client, Client],
    private readonly tenant: string,
  ) {}

  async run(name: Name, request: object, number: number | undefined): Promise<void> {
    const seen: { name: string; outcome: unknown }[] = [];
    for (const [index, client] of this.clients.entries()) {
      const reservation = number === undefined ? undefined : this.names[number]?.[index];
      // The methods differ in their requests, and each reply has a reservation.
      const method = QuotaService.method[name] as typeof QuotaService.method.reserve;
      const sent = { ...request, ...(reservation !== undefined && { reservation }) } as object;
      try {
        const reply = await client.call(method, sent);
        const found = reply.reservation as Reservation;
        seen.push({ name: found.name, outcome: shown(found) });
      } catch (error) {
        seen.push({ name: "", outcome: failed(error as TopeError) });
      }
    }
    const [fake, real] = seen as [(typeof seen)[0], (typeof seen)[0]];
    assert.deepEqual(fake.outcome, real.outcome, `${name} ${JSON.stringify(request, big)}`);
    if (number === undefined && fake.name !== "" && !this.names.some(([one]) => one === fake.name)) {
      this.names.push([fake.name, real.name]);
    }
  }

  async compare(): Promise<void> {
    const found: unknown[][] = [];
    for (const client of this.clients) {
      const balances: unknown[] = [];
      for await (const one of client.calls.usage(this.tenant)) {
        const { limitId, resource, committed, reserved, remaining, exceeded, refused, agent, model, labels } = one;
        balances.push(
          JSON.stringify(
            [limitId, resource, committed, reserved, remaining, exceeded, refused, agent, model, labels],
            big,
          ),
        );
      }
      found.push(balances.sort());
    }
    assert.deepEqual(found[0], found[1]);
  }
}

function big(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : value;
}

function shown(one: Reservation): unknown {
  const amounts = one.amounts.map(({ resource, reserved, committed, overrun }) =>
    [resource, reserved, committed, overrun].map(String),
  );
  return [ReservationState[one.state], amounts, one.late, one.agent, one.labels];
}

function failed(error: TopeError): unknown {
  assert.ok(error instanceof TopeError, String(error));
  if (error instanceof QuotaExceeded) {
    const figures = error.violations.map((one) => [one.limit, one.remaining, one.allowance, one.requested].join());
    return [error.name, figures.sort(), error.retryAfterMs === undefined];
  }
  const field = error instanceof InvalidArgument ? error.faults[0]?.field : undefined;
  return [error.name, error.code, error.reason, field, error.metadata["state"]];
}

/** Makes a random operation. */
function operation(chance: () => number, tenant: string, count: number): [Name, object, number | undefined] {
  const upTo = (most: number): number => Math.floor(chance() * (most + 1));
  const pick = <T>(choices: readonly T[]): T => choices[upTo(choices.length - 1)] as T;
  const who = { tenant, agent: pick(["a", "b", ""]), model: pick(["big", "small"]) };
  const labels: Record<string, string> = chance() < 0.7 ? { run: pick(["1", "2"]) } : {};
  const requestId = pick(["", `id-${upTo(30)}`]);
  const chosen = RESOURCES.filter(() => chance() < 0.6);
  const resources = chosen.length > 0 ? chosen : [pick(RESOURCES)];
  const amounts = resources.map((resource) => ({ resource, quantity: BigInt(upTo(MOST[resource])) }));
  const number = count > 0 ? upTo(count - 1) : undefined;
  const kinds = [...Array<string>(5).fill("reserve"), "commit", "commit", "commit", "release", "extend", "record"];
  const kind = pick([...kinds, "wrong"]);
  if (kind === "wrong") {
    const wrong = pick([{ resource: "nothing", quantity: 1n }, { resource: "tokens", quantity: -1n }]);
    return ["reserve", { ...who, amounts: [wrong] }, undefined];
  }
  if (kind === "record") {
    const signed = amounts.map((one) => ({ ...one, quantity: one.quantity * pick([1n, 1n, 1n, -1n]) }));
    return ["record", { ...who, requestId, labels, amounts: signed }, undefined];
  }
  if (kind === "reserve" || number === undefined) {
    const allowPartial = chance() < 0.3;
    const least = BigInt(allowPartial ? pick([0, 1, 3]) : 0);
    const wanted = amounts.map((one) => ({ ...one, minimum: least < one.quantity ? least : one.quantity }));
    const minimal = wanted.map((one) => (allowPartial ? one : { ...one, minimum: 0n }));
    return ["reserve", { ...who, requestId, labels, allowPartial, amounts: minimal }, undefined];
  }
  if (kind === "commit") {
    return ["commit", { amounts: chance() < 0.8 ? amounts : [] }, number];
  }
  return kind === "extend" ? ["extend", { amounts }, number] : ["release", {}, number];
}

describe("the fake", () => {
  let server: Server;
  before(async () => {
    server = await Server.start();
  });
  after(() => server.close());

  for (let seed = 1; seed <= 6; seed += 1) {
    it(`decides as the server does, ${seed}`, async () => {
      const tenant = `twins-${seed}`;
      const fake = new Fake(new Clock(new Date()));
      for (const home of [fake, server]) {
        await home.addResource("uncounted");
        await home.add(tenant, limits);
      }
      const clients = [new Client(fake), new Client(server.target, { timeoutMs: 10_000 })] as const;
      const twins = new Twins(clients, tenant);
      const chance = random(seed);
      for (let number = 0; number < 200; number += 1) {
        await twins.run(...operation(chance, tenant, twins.names.length));
        if (number % 50 === 49) {
          await twins.compare();
        }
      }
      await Promise.all(clients.map((client) => client.close()));
    });
  }

  it("refuses what it does not know", async () => {
    const fake = new Fake();
    assert.throws(() => fake.add("t", [{ id: "l", resource: "r", quantity: 1n, anchorDay: 5 }]), errors.Unimplemented);
    fake.add("t", [{ id: "l", resource: "r", quantity: 1n, period: Period.ROLLING }]);
    await using client = new Client(fake, { tenant: "t" });
    await assert.rejects(client.hold({ amounts: { r: 1 } }), errors.Unimplemented);
    const amounts = [{ resource: "r", quantity: 1n }];
    const record = { tenant: "t", amounts, occurredTime: { seconds: 1n, nanos: 0 } };
    await assert.rejects(client.calls.record(record), errors.Unimplemented);
    assert.throws(() => fake.clock.advance(-1), RangeError);
  });
});

