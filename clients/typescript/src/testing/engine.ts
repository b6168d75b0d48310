/** What the fake decides: the operations of QuotaService on the books of one tenant. */

import { QuotaExceeded, ReservationExpired, ReservationSettled, REASONS } from "../errors.js";
import type { ErrorClass, TopeError, Violation } from "../errors.js";
import { Enforcement, Uncovered } from "../gen/tope/v1/policy_pb.js";
import type { Limit, Plan } from "../gen/tope/v1/policy_pb.js";
import type { ExtendRequest } from "../gen/tope/v1/quota_service_pb.js";
import { OnExpiry, ReservationState } from "../gen/tope/v1/usage_pb.js";
import type { Balance } from "../gen/tope/v1/usage_pb.js";
import { applies, balance, counter, isHard, keyOf } from "./books.js";
import type { Counter, Held, Subject } from "./books.js";

const { COMMITTED, EXPIRED, RELEASED, RESERVED } = ReservationState;
const EXTENDED_MAX_MS = 48 * 3_600_000;

/** What a call asks for. */
export interface Wanted {
  readonly resource: string;
  readonly quantity: number;
  readonly minimum: number;
}

/** The decision about a call. */
export interface Verdicts {
  readonly granted: Map<string, number>;
  /** Each with the milliseconds after which its limit has room. Undefined: waiting never helps. */
  readonly refusals: [Violation, number | undefined][];
  /** The counters that count a refusal. */
  readonly counting: Counter[];
}

/** One tenant. */
export class Books {
  suspended = false;
  readonly counters = new Map<string, Counter>();
  /** Limits that read a counter, by its key. */
  readonly readers = new Map<string, Limit>();
  readonly held = new Map<string, Held>();
  readonly open = new Map<string, Held>();
  /** The payload and the reservation of each request_id. */
  readonly requests = new Map<string, { payload: string; name: string }>();

  constructor(
    readonly id: string,
    readonly plan: Plan,
  ) {}

  /** Ends the holds whose deadline has passed. */
  expire(now: number): void {
    for (const held of [...this.open.values()]) {
      if (held.deadline === undefined || held.deadline > now) {
        continue;
      }
      this.free(held);
      held.state = EXPIRED;
      if (held.onExpiry === OnExpiry.CHARGE) {
        held.amounts.forEach((amount, resource) => this.charge(held, resource, amount.reserved));
      }
    }
  }

  /** Takes a hold out of the counters. */
  private free(held: Held): void {
    this.open.delete(held.name);
    for (const [resource, amount] of held.amounts) {
      for (const key of held.keys.get(resource) ?? []) {
        (this.counters.get(key) as Counter).reserved -= amount.reserved;
      }
    }
  }

  /** Sets what a reservation was charged. A charge from before is replaced. */
  charge(held: Held, resource: string, quantity: number): void {
    const amount = held.amount(resource);
    for (const key of held.keys.get(resource) ?? []) {
      const one = this.counters.get(key) as Counter;
      one.committed = Math.max(0, one.committed + quantity - amount.committed);
      one.used = true;
    }
    amount.committed = quantity;
    amount.overrun = held.deadline === undefined ? 0 : Math.max(0, quantity - amount.reserved);
  }

  /** Lists the limits that apply to a resource, with their counters. Without a limit it is the meter. */
  private applying(resource: string, subject: Subject, now: number): [Limit | undefined, string, Counter][] {
    const found: [Limit | undefined, string, Counter][] = [];
    for (const limit of this.plan.limits) {
      if (limit.resource === resource && applies(limit, subject)) {
        const [key, fresh] = keyOf(limit, subject, now);
        found.push([limit, key, this.counterOf(key, fresh)]);
        this.readers.set(key, limit);
      }
    }
    if (found.length === 0) {
      const key = `meter ${resource}`;
      found.push([undefined, key, this.counterOf(key, counter(resource, [undefined, undefined]))]);
    }
    return found;
  }

  private counterOf(key: string, fresh: Counter): Counter {
    const found = this.counters.get(key) ?? fresh;
    this.counters.set(key, found);
    return found;
  }

  private keysOf(resource: string, subject: Subject, now: number): string[] {
    return this.applying(resource, subject, now).map(([, key]) => key);
  }

  /** Decides quantities. */
  verdicts(wanted: readonly Wanted[], subject: Subject, partial: boolean, now: number, extended?: Held): Verdicts {
    const at = extended?.created ?? now;
    const granted = new Map<string, number>();
    const refusals: Verdicts["refusals"] = [];
    const refusing: Counter[] = [];
    const observing: Counter[] = [];
    for (const { resource, quantity, minimum } of wanted) {
      const least = partial ? Math.max(1, minimum) : quantity;
      let grant = quantity;
      for (const [limit, , one] of quantity > 0 ? this.applying(resource, subject, at) : []) {
        if (limit === undefined) {
          if (this.plan.uncovered === Uncovered.REFUSE) {
            refusals.push([this.violation(undefined, one, quantity), undefined]);
          }
          continue;
        }
        const left = leftOf(limit, one);
        if (!isHard(limit)) {
          if (left < least && limit.enforcement === Enforcement.OBSERVE) {
            observing.push(one);
          }
          continue;
        }
        if (left < least) {
          refusing.push(one);
          refusals.push([this.violation(limit, one, quantity), this.wait(limit, one, least, now, extended)]);
        }
        grant = Math.min(grant, left);
      }
      granted.set(resource, grant);
    }
    // A limit that only observes counts what passes, and would not pass if it were HARD.
    return { granted, refusals, counting: refusals.length > 0 ? refusing : observing };
  }

  private violation(limit: Limit | undefined, one: Counter, requested: number): Violation {
    const names = Object.entries(one.values).filter(([name]) => !name.includes("."));
    const subject = [`tenant:${this.id}`, ...names.map(([name, value]) => `${name}:${value}`)].join(",");
    const windowEnd = one.window[1] === undefined ? undefined : new Date(one.window[1]);
    const base = { resource: one.resource, requested, windowEnd, subject };
    const ends = windowEnd === undefined ? {} : { window_end: windowEnd.toISOString() };
    const dimensions = { requested: String(requested), ...ends, ...one.values };
    if (limit === undefined) {
      const description = `no limit of the plan covers "${one.resource}", of which ${requested} were requested`;
      return { ...base, limit: "", remaining: undefined, allowance: undefined, description, dimensions };
    }
    const remaining = leftOf(limit, one);
    const allowance = Number(limit.quantity);
    const description =
      `limit "${limit.id}" of "${limit.resource}" has ${remaining} of ${allowance} left` +
      `, and ${requested} were requested`;
    const more = { remaining: String(remaining), allowance: String(allowance), plan: this.plan.id };
    return { ...base, limit: limit.id, remaining, allowance, description, dimensions: { ...dimensions, ...more } };
  }

  /** Returns the milliseconds until a limit has room. Undefined if waiting never helps. */
  private wait(limit: Limit, one: Counter, need: number, now: number, extended?: Held): number | undefined {
    let left = Number(limit.quantity) - one.committed - one.reserved;
    const instants: number[] = [];
    const ending = [...this.open.values()].filter((held) => held.deadline !== undefined);
    ending.sort((first, second) => (first.deadline as number) - (second.deadline as number));
    for (const held of ending) {
      const deadline = held.deadline as number;
      if (extended !== undefined && deadline >= (extended.deadline as number)) {
        break;
      }
      const mine = [...held.keys].filter(([, keys]) => keys.some((key) => this.counters.get(key) === one));
      if (held.onExpiry === OnExpiry.CHARGE || mine.length === 0) {
        continue;
      }
      left += mine.reduce((sum, [resource]) => sum + held.amount(resource).reserved, 0);
      if (left >= need) {
        instants.push(deadline);
        break;
      }
    }
    // An Extend counts in the window of its hold.
    if (one.window[1] !== undefined && need <= Number(limit.quantity) && extended === undefined) {
      instants.push(one.window[1]);
    }
    return instants.length === 0 ? undefined : Math.max(1, Math.ceil((Math.min(...instants) - now) / 1_000)) * 1_000;
  }

  /** Makes the refusal, and counts it. Does nothing if there is none. */
  decide(verdicts: Verdicts): void {
    for (const one of verdicts.counting) {
      one.refused += 1;
      one.used = true;
    }
    const [first] = verdicts.refusals;
    if (first === undefined) {
      return;
    }
    const waits = verdicts.refusals.map(([, wait]) => wait);
    const [{ limit, resource, description }] = first;
    const text = limit === "" ? description : description.replace(` of "${resource}"`, "");
    throw new QuotaExceeded(`quota exceeded: ${text}`, {
      reason: "QUOTA_EXCEEDED",
      metadata: { tenant: this.id },
      retryAfterMs: waits.includes(undefined) ? undefined : Math.max(...(waits as number[])),
      violations: verdicts.refusals.map(([violation]) => violation),
    });
  }

  /** Makes a hold of the quantities that were granted. */
  hold(held: Held, granted: ReadonlyMap<string, number>, now: number): void {
    for (const [resource, quantity] of granted) {
      this.reserve(held, resource, quantity, now);
    }
    this.held.set(held.name, held);
    this.open.set(held.name, held);
  }

  private reserve(held: Held, resource: string, quantity: number, at: number): void {
    const keys = held.keys.get(resource) ?? [];
    for (const [, key, one] of this.applying(resource, held.subject, at)) {
      one.reserved += quantity;
      one.used = true;
      if (!keys.includes(key)) {
        keys.push(key);
      }
    }
    held.keys.set(resource, keys);
    held.amount(resource).reserved += quantity;
    held.reserved.add(resource);
  }

  commit(held: Held, usage: ReadonlyMap<string, number>, now: number): void {
    if (held.state === RELEASED) {
      throw inState(held, ReservationSettled);
    }
    const final = new Map([...held.reserved].map((one): [string, number] => [one, held.amount(one).reserved]));
    usage.forEach((quantity, resource) => final.set(resource, quantity));
    if (held.state === COMMITTED) {
      const names = new Set([...held.amounts.keys(), ...final.keys()]);
      const same = (name: string): boolean => (held.amounts.get(name)?.committed ?? 0) === (final.get(name) ?? 0);
      if (![...names].every(same)) {
        throw inState(held, ReservationSettled);
      }
      return;
    }
    held.late = held.state === EXPIRED;
    if (held.state === RESERVED) {
      this.free(held);
    }
    for (const [resource, quantity] of final) {
      if (!held.keys.has(resource)) {
        held.keys.set(resource, this.keysOf(resource, held.subject, held.created));
      }
      this.charge(held, resource, quantity);
    }
    held.state = COMMITTED;
    held.settledAt = now;
  }

  release(held: Held, now: number): void {
    if (held.state === COMMITTED) {
      throw inState(held, ReservationSettled);
    }
    if (held.state === RELEASED) {
      return;
    }
    if (held.state === RESERVED) {
      this.free(held);
    }
    [...held.amounts.keys()].forEach((resource) => this.charge(held, resource, 0));
    held.state = RELEASED;
    held.settledAt = now;
  }

  extend(held: Held, request: ExtendRequest, wanted: readonly Wanted[], now: number): void {
    if (held.state !== RESERVED) {
      throw inState(held, held.state === EXPIRED ? ReservationExpired : ReservationSettled);
    }
    const verdicts = this.verdicts(wanted, held.subject, false, now, held);
    this.decide(verdicts);
    for (const [resource, quantity] of verdicts.granted) {
      this.reserve(held, resource, quantity, held.created);
    }
    if (request.ttl !== undefined && held.deadline !== undefined) {
      const ttl = Number(request.ttl.seconds) * 1_000 + Math.floor(request.ttl.nanos / 1_000_000);
      held.deadline = Math.max(held.deadline, Math.min(held.created + EXTENDED_MAX_MS, now + ttl));
    }
  }

  record(held: Held, amounts: ReadonlyMap<string, number>, now: number): void {
    for (const [resource, quantity] of amounts) {
      held.keys.set(resource, this.keysOf(resource, held.subject, now));
      held.reserved.add(resource);
      this.charge(held, resource, quantity);
    }
    held.state = COMMITTED;
    held.settledAt = now;
    this.held.set(held.name, held);
  }

  balances(held: Held): Balance[] {
    return held.allKeys().map((key) => balance(this.readers.get(key), this.counters.get(key) as Counter, this.plan.id));
  }

  /** Makes the balances of all running windows. */
  usage(now: number): Balance[] {
    const found = new Map<string, Balance>();
    const nobody = { agent: "", user: "", model: "", labels: {} };
    for (const limit of this.plan.limits.filter((one) => one.per.length === 0 && one.perLabels.length === 0)) {
      const [key, fresh] = keyOf(limit, nobody, now);
      found.set(key, balance(limit, this.counters.get(key) ?? fresh, this.plan.id));
    }
    for (const [key, one] of this.counters) {
      const runs = one.window[1] === undefined || one.window[1] > now;
      if (!found.has(key) && one.used && runs) {
        found.set(key, balance(this.readers.get(key), one, this.plan.id));
      }
    }
    return [...found.values()];
  }
}

function leftOf(limit: Limit, one: Counter): number {
  return Math.max(0, Number(limit.quantity) - one.committed - one.reserved);
}

/** Makes the error of an operation that does not fit the state of a reservation. */
export function inState(held: Held, kind: ErrorClass): TopeError {
  const state = ReservationState[held.state];
  const reason = Object.keys(REASONS).find((one) => REASONS[one] === kind) as string;
  return new kind(`reservation "${held.name}" is ${state}`, { reason, metadata: { state } });
}
