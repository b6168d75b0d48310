/** The books of the fake: windows, counters and the limits that apply to a call. */

import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { Unimplemented } from "../errors.js";
import { Dimension, Enforcement, LimitSchema, Period } from "../gen/tope/v1/policy_pb.js";
import type { Limit } from "../gen/tope/v1/policy_pb.js";
import { BalanceSchema, OnExpiry, ReservationSchema, ReservationState } from "../gen/tope/v1/usage_pb.js";
import type { Balance, Reservation } from "../gen/tope/v1/usage_pb.js";

const DAY_MS = 86_400_000;

/** A clock that stands still until a test moves it. */
export class Clock {
  /** Milliseconds since 1970. */
  nowMs: number;

  constructor(now: Date = new Date(Date.UTC(2026, 0, 15, 12))) {
    this.nowMs = now.getTime();
  }

  /** Moves the clock forward. */
  advance(millis: number): void {
    if (!(millis >= 0)) {
      throw new RangeError(`a clock goes forward, and not by ${millis} milliseconds`);
    }
    this.nowMs += millis;
  }
}

/** Limits as tests give them: `{ tokens: 1_000 }` is a limit of 1,000 tokens a day. */
export type Limits = Readonly<Record<string, number>> | readonly MessageInitShape<typeof LimitSchema>[];

/** Makes limits of quantities per day, unless they are limits. */
export function asLimits(limits: Limits): Limit[] {
  if (Array.isArray(limits)) {
    return limits.map((limit: MessageInitShape<typeof LimitSchema>) => create(LimitSchema, limit));
  }
  return Object.entries(limits).map(([resource, quantity]) =>
    create(LimitSchema, {
      id: `${resource}-per-day`,
      resource,
      quantity: BigInt(quantity as number),
      period: Period.DAY,
    }),
  );
}

/** Who spends. */
export interface Subject {
  readonly agent: string;
  readonly user: string;
  readonly model: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Start and end of a window, in milliseconds. A lifetime has neither. */
export type Window = readonly [number | undefined, number | undefined];

/** Returns the window that contains an instant. */
export function windowOf(period: Period, interval: number, now: number): Window {
  const days: Partial<Record<Period, number>> = {
    [Period.MINUTE]: 1 / 1_440,
    [Period.HOUR]: 1 / 24,
    [Period.DAY]: 1,
    [Period.WEEK]: 7,
  };
  if (period === Period.LIFETIME) {
    return [undefined, undefined];
  }
  if (period === Period.MONTH || period === Period.YEAR) {
    const months = interval * (period === Period.YEAR ? 12 : 1);
    const date = new Date(now);
    const index = Math.floor(((date.getUTCFullYear() - 1970) * 12 + date.getUTCMonth()) / months) * months;
    return [Date.UTC(1970, index), Date.UTC(1970, index + months)];
  }
  const count = days[period];
  if (count === undefined) {
    throw new Unimplemented(`the fake has no windows of ${Period[period]}`);
  }
  const length = Math.round(count * DAY_MS) * interval;
  const origin = period === Period.WEEK ? 4 * DAY_MS : 0;
  const start = origin + Math.floor((now - origin) / length) * length;
  return [start, start + length];
}

/** What was spent and is held in one window. */
export interface Counter {
  readonly resource: string;
  readonly window: Window;
  /** The dimensions and labels that are counted separately, with their values. */
  readonly values: Readonly<Record<string, string>>;
  committed: number;
  reserved: number;
  refused: number;
  /** Whether any operation used the counter. A refusal does, if it is counted. */
  used: boolean;
}

/** Makes an empty counter. */
export function counter(resource: string, window: Window, values: Record<string, string> = {}): Counter {
  return { resource, window, values, committed: 0, reserved: 0, refused: 0, used: false };
}

const DIMENSIONS = {
  [Dimension.AGENT]: "agent",
  [Dimension.USER]: "user",
  [Dimension.MODEL]: "model",
} as const;
const NAMES = ["agent", "user", "model"] as const;

/** Returns the key of a limit's counter, and an empty counter. */
export function keyOf(limit: Limit, subject: Subject, now: number): [string, Counter] {
  const interval = limit.interval || 1;
  const window = windowOf(limit.period, interval, now);
  const values: Record<string, string> = {};
  for (const name of NAMES.filter((one) => limit[one] !== "")) {
    values[name] = limit[name];
  }
  for (const dimension of limit.per) {
    if (dimension === Dimension.UNSPECIFIED) {
      throw new Unimplemented("the fake has no dimension UNSPECIFIED");
    }
    const name = DIMENSIONS[dimension];
    values[name] = subject[name];
  }
  for (const [label, value] of Object.entries(limit.labels)) {
    values[`labels.${label}`] = value;
  }
  for (const label of limit.perLabels) {
    values[`labels.${label}`] = subject.labels[label] ?? "";
  }
  const sorted = Object.entries(values).sort(([one], [two]) => (one < two ? -1 : 1));
  const key = JSON.stringify([limit.resource, limit.period, interval, window[0] ?? null, sorted]);
  return [key, counter(limit.resource, window, values)];
}

/** Whether a limit applies to a subject. */
export function applies(limit: Limit, subject: Subject): boolean {
  const selected = NAMES.every((name) => limit[name] === "" || limit[name] === subject[name]);
  return selected && Object.entries(limit.labels).every(([key, value]) => (subject.labels[key] ?? "") === value);
}

/** Refuses what the fake does not know, instead of counting it in another way. */
export function checkLimit(limit: Limit): void {
  const { anchorDay, anchorWeekday, anchorMonth, anchorMinute, originDate, anchor, carry, duration } = limit;
  if (anchorDay || anchorWeekday || anchorMonth || anchorMinute || originDate || anchor) {
    throw new Unimplemented("the fake has no anchors of limits");
  }
  if (carry !== undefined || duration !== undefined) {
    throw new Unimplemented("the fake has no carry and no duration of limits");
  }
}

export function isHard(limit: Limit): boolean {
  return limit.enforcement === Enforcement.UNSPECIFIED || limit.enforcement === Enforcement.HARD;
}

function timestamp(millis: number | undefined): { value?: Timestamp } {
  return millis === undefined ? {} : { value: timestampFromMs(millis) };
}

/** Makes the balance of a counter, as the server does. */
export function balance(limit: Limit | undefined, one: Counter, plan: string): Balance {
  const [start, end] = [timestamp(one.window[0]).value, timestamp(one.window[1]).value];
  const found = create(BalanceSchema, {
    resource: one.resource,
    committed: BigInt(one.committed),
    reserved: BigInt(one.reserved),
    period: limit?.period ?? Period.LIFETIME,
    ...(start !== undefined && { windowStart: start }),
    ...(end !== undefined && { windowEnd: end }),
  });
  for (const [name, value] of Object.entries(one.values)) {
    if (name.startsWith("labels.")) {
      found.labels[name.slice("labels.".length)] = value;
    } else {
      found[name as (typeof NAMES)[number]] = value;
    }
  }
  if (limit !== undefined) {
    const quantity = Number(limit.quantity);
    const used = one.committed + one.reserved;
    found.limitId = limit.id;
    found.quantity = limit.quantity;
    found.allowance = limit.quantity;
    found.remaining = BigInt(Math.max(0, quantity - used));
    found.exceeded = used > quantity;
    found.enforcement = limit.enforcement || Enforcement.HARD;
    found.refused = BigInt(one.refused);
    found.source = create(BalanceSchema, { source: { plan } }).source as NonNullable<Balance["source"]>;
  }
  return found;
}

/** The units of one resource of a reservation. */
export interface HeldAmount {
  reserved: number;
  committed: number;
  overrun: number;
}

/** A reservation, with its counters. */
export class Held {
  state = ReservationState.RESERVED;
  onExpiry = OnExpiry.RELEASE;
  late = false;
  settledAt: number | undefined;
  readonly amounts = new Map<string, HeldAmount>();
  /** Keys of the counters of each resource. */
  readonly keys = new Map<string, string[]>();
  /** Resources that were reserved, also with 0 units. */
  readonly reserved = new Set<string>();

  constructor(
    readonly name: string,
    readonly tenant: string,
    readonly requestId: string,
    readonly subject: Subject,
    readonly created: number,
    public deadline: number | undefined,
  ) {}

  amount(resource: string): HeldAmount {
    const found = this.amounts.get(resource) ?? { reserved: 0, committed: 0, overrun: 0 };
    this.amounts.set(resource, found);
    return found;
  }

  /** Lists the counters, by resource. */
  allKeys(): string[] {
    return [...this.keys].sort(([one], [two]) => (one < two ? -1 : 1)).flatMap(([, keys]) => keys);
  }

  message(): Reservation {
    const { subject } = this;
    const [expire, settle] = [timestamp(this.deadline).value, timestamp(this.settledAt).value];
    return create(ReservationSchema, {
      name: this.name,
      tenant: this.tenant,
      agent: subject.agent,
      user: subject.user,
      model: subject.model,
      labels: { ...subject.labels },
      requestId: this.requestId,
      state: this.state,
      late: this.late,
      onExpiry: this.deadline === undefined ? OnExpiry.UNSPECIFIED : this.onExpiry,
      createTime: timestampFromMs(this.created),
      ...(expire !== undefined && { expireTime: expire }),
      ...(settle !== undefined && { settleTime: settle }),
      amounts: [...this.amounts].sort(([one], [two]) => (one < two ? -1 : 1)).map(([resource, amount]) => ({
        resource,
        reserved: BigInt(amount.reserved),
        committed: BigInt(amount.committed),
        overrun: BigInt(amount.overrun),
      })),
    });
  }
}
