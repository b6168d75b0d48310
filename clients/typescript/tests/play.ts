/** Plays a scenario of clients/scenarios. */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { InvalidArgument, StreamUsage, TopeError } from "tope";
import type { Client, Hold, HoldOptions, Settlement } from "tope";
import { abandon } from "tope/testing";
import type { FaultKind } from "tope/testing";
import { Period, ReservationState } from "tope/v1";
import type { Reservation } from "tope/v1";

import { Provider } from "./provider.js";
import type { Api } from "./provider.js";
import type { World } from "./world.js";

type Amounts = Record<string, number>;

interface Call {
  api: Api;
  model: string;
  stream?: boolean;
  timeout_ms?: number;
  read?: number;
}

export interface Step {
  hold?: Record<string, unknown> & { amounts: Amounts };
  inside?: Step[];
  granted?: Amounts;
  settled?: string;
  error?: Record<string, unknown>;
  allowed?: boolean;
  took_at_least_ms?: number;
  times?: number;
  outcomes?: Record<string, number>;
  use?: Amounts;
  call?: Call;
  sent?: boolean;
  raise?: string;
  wait_ms?: number;
  crash?: boolean;
  restart?: boolean;
  suspend?: boolean;
  fault?: { method: string; fault: FaultKind; times?: number; retry_after_ms?: number };
  heal?: boolean;
}

interface WantedReservation {
  state: string;
  late?: boolean;
  amounts: Record<string, (number | null)[]>;
}

export interface Scenario {
  name: string;
  apis?: string[];
  limits: { id: string; resource: string; quantity: number; period: string }[];
  client?: { timeout_ms?: number; on_unavailable?: "refuse" | "allow" };
  steps: Step[];
  expect: {
    reservations?: WantedReservation[];
    states?: Record<string, number>;
    balances?: Record<string, Record<string, number>>;
    books?: string;
    provider_calls?: number;
  };
}

/** How holds are made: with a function, or with `await using`. */
export type Form = "function" | "using";

class CallerFailed extends Error {}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function optionsOf(step: Step): HoldOptions {
  return Object.fromEntries(Object.entries(step.hold ?? {}).map(([name, value]) => [camel(name), value]));
}

export class Player {
  private readonly expected: [Hold, string][] = [];
  private readonly client: Client;

  constructor(
    private readonly world: World,
    private readonly provider: Provider,
    private readonly scenario: Scenario,
    private readonly form: Form,
  ) {
    const { timeout_ms: timeoutMs, on_unavailable: onUnavailable } = scenario.client ?? {};
    this.client = world.client({ timeoutMs, onUnavailable });
  }

  async play(): Promise<void> {
    await this.world.add(
      this.scenario.limits.map(({ id, resource, quantity, period }) => ({
        id,
        resource,
        quantity: BigInt(quantity),
        period: Period[period as keyof typeof Period],
      })),
    );
    for (const step of this.scenario.steps) {
      try {
        await this.step(step, undefined);
      } catch (error) {
        // An error of the provider or of the caller leaves the outermost hold.
        if (error instanceof TopeError || error instanceof assert.AssertionError) {
          throw error;
        }
      }
    }
    await this.judge();
  }

  private async step(step: Step, hold: Hold | undefined): Promise<void> {
    if (step.hold !== undefined) {
      await (step.times !== undefined ? this.crowd(step) : this.hold(step, hold));
    } else if (step.call !== undefined) {
      await this.call(step.call, hold as Hold);
    } else if (step.use !== undefined) {
      hold?.add(step.use);
    } else if (step.sent !== undefined) {
      step.sent ? hold?.sent() : hold?.unsent();
    } else if (step.wait_ms !== undefined) {
      for (let waited = 0; waited < step.wait_ms; waited += 20) {
        await sleep(20);
        this.world.fake?.clock.advance(20);
      }
    } else if (step.raise !== undefined) {
      throw step.raise === "cancel" ? new DOMException("the caller left", "AbortError") : new CallerFailed();
    } else if (step.crash !== undefined) {
      abandon(hold as Hold);
    } else if (step.restart !== undefined) {
      await this.world.restart();
    } else if (step.suspend !== undefined) {
      await this.world.home.suspend(this.world.tenant);
    } else if (step.heal !== undefined) {
      this.world.faulty.heal();
    } else if (step.fault !== undefined) {
      const { method, fault, times = 1, retry_after_ms: retryAfterMs } = step.fault;
      this.world.faulty.fail(method, fault, { times, retryAfterMs });
    } else {
      assert.fail(`unknown step ${JSON.stringify(step)}`);
    }
  }

  /** Makes a hold in one of the forms. */
  private async scope(step: Step, outer: Hold | undefined, body: (hold: Hold) => Promise<void>): Promise<void> {
    if (this.form === "function") {
      return await this.client.hold(optionsOf(step), body);
    }
    await using hold = await this.client.hold({ ...optionsOf(step), ...(outer && { inside: outer }) });
    try {
      await body(hold);
    } catch (error) {
      hold.failed(error);
      throw error;
    }
  }

  private async hold(step: Step, outer: Hold | undefined): Promise<void> {
    const began = performance.now();
    try {
      await this.scope(step, outer, async (hold) => {
        assert.ok(performance.now() - began >= (step.took_at_least_ms ?? 0) - 1);
        for (const [resource, quantity] of Object.entries(step.granted ?? {})) {
          assert.equal(hold.granted[resource], quantity);
        }
        if (step.allowed !== undefined) {
          assert.equal(hold.allowed, step.allowed);
        }
        if (step.settled !== undefined) {
          this.expected.push([hold, step.settled]);
        }
        for (const inner of step.inside ?? []) {
          await this.step(inner, hold);
        }
      });
    } catch (error) {
      if (!(error instanceof TopeError)) {
        throw error;
      }
      this.failed(step, error);
      return;
    }
    assert.equal(step.error, undefined, "the hold did not fail");
  }

  /** Compares an error with that of the step, if the step has one. Otherwise it goes on. */
  private failed(step: Step, error: TopeError): void {
    if (step.error === undefined) {
      throw error;
    }
    for (const [name, want] of Object.entries(step.error)) {
      if (name === "retry_after") {
        assert.equal(error.retryAfterMs !== undefined, want);
      } else if (name === "field") {
        assert.equal((error as InvalidArgument).faults[0]?.field, want);
      } else {
        assert.equal((error as unknown as Record<string, unknown>)[name], want, name);
      }
    }
  }

  private async crowd(step: Step): Promise<void> {
    const one = async (): Promise<string> => {
      let made: Hold | undefined;
      try {
        await this.scope(step, undefined, async (hold) => {
          made = hold;
          for (const inner of step.inside ?? []) {
            await this.step(inner, hold);
          }
        });
      } catch (error) {
        return (error as TopeError).reason;
      }
      return made?.settlement?.basis ?? "late";
    };
    const outcomes: Record<string, number> = {};
    for (const outcome of await Promise.all(Array.from({ length: step.times ?? 0 }, one))) {
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    assert.deepEqual(outcomes, step.outcomes);
  }

  private async call(call: Call, hold: Hold): Promise<void> {
    const { api, model } = call;
    if (call.stream !== true) {
      hold.use(await this.provider.ask(api, model, this.world.tenant, call.timeout_ms));
      return;
    }
    let tokens = 0;
    for await (const event of hold.watch(this.provider.stream(api, model, this.world.tenant))) {
      tokens += Number(hasToken(event));
      if (tokens === call.read) {
        break;
      }
    }
  }

  /** Compares the books with what the scenario expects. */
  private async judge(): Promise<void> {
    assert.ok(await this.client.flush(20_000));
    const { expect } = this.scenario;
    for (const [hold, basis] of this.expected) {
      const settlement = hold.settlement as Settlement;
      assert.equal(settlement.basis, basis);
      assert.equal(settlement.error, undefined);
    }
    const found = await this.world.reservations();
    if (expect.reservations !== undefined) {
      assert.deepEqual(found.map((one, index) => shown(one, expect.reservations?.[index])), expect.reservations);
    }
    for (const [state, count] of Object.entries(expect.states ?? {})) {
      assert.equal(found.filter((one) => ReservationState[one.state] === state).length, count);
      assert.equal(found.length, count);
    }
    const balances = await this.world.balances();
    for (const [limit, want] of Object.entries(expect.balances ?? {})) {
      const one = balances.get(limit) as unknown as Record<string, bigint>;
      assert.deepEqual(Object.fromEntries(Object.keys(want).map((name) => [name, Number(one[name])])), want);
    }
    const totals = await this.provider.totals(this.world.tenant);
    if (expect.books === "equal") {
      assert.ok(totals.tokens > 0);
      assert.equal(await this.world.committed(), totals.tokens);
    }
    if (expect.provider_calls !== undefined) {
      assert.equal(totals.calls, expect.provider_calls);
    }
  }
}

/** Shows a reservation as far as the scenario says something about it. */
function shown(one: Reservation, want: WantedReservation | undefined): object {
  const amounts = one.amounts.map(({ resource, reserved, committed }) => {
    const figures = [Number(reserved), Number(committed)];
    return [resource, figures.map((figure, index) => (want?.amounts[resource]?.[index] === null ? null : figure))];
  });
  const late = want?.late === undefined ? {} : { late: one.late };
  return { state: ReservationState[one.state], amounts: Object.fromEntries(amounts), ...late };
}

/** Whether an event has a token of the answer. */
export function hasToken(event: unknown): boolean {
  const usage = new StreamUsage(0, undefined, () => 1);
  usage.observe({ ...(event as object), usage: undefined, usageMetadata: undefined, response: undefined });
  return (usage.soFar()?.output ?? 0) > 0;
}
