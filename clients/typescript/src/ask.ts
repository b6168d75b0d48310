/** What a hold asks for, and the checks of what callers give. */

import { randomUUID } from "node:crypto";

import { create } from "@bufbuild/protobuf";

import type { Estimate } from "./estimate.js";
import { ReserveRequestSchema } from "./gen/tope/v1/quota_service_pb.js";
import type { ReserveRequest } from "./gen/tope/v1/quota_service_pb.js";
import { OnExpiry } from "./gen/tope/v1/usage_pb.js";
import { duration } from "./status.js";

/** Units by resource. */
export type Amounts = Readonly<Record<string, number>>;
/** What is charged if nobody knows what a call used. */
export type Charge = "charge" | "release";

const TTL_MAX_MS = 86_400_000;

/** What a hold asks for, with the defaults of its client applied. */
export interface Ask {
  readonly tenant: string;
  readonly amounts: Amounts;
  readonly agent: string;
  readonly user: string;
  readonly model: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly minimum: Amounts;
  readonly allowPartial: boolean;
  readonly ttlMs: number;
  readonly onExpiry: Charge;
  readonly onUnknown: Charge;
  readonly requestId: string;
  readonly extend: boolean;
  readonly estimate: Estimate | undefined;
  readonly promptKnown: boolean;
}

/** Makes the request of a hold. */
export function reserveRequest(ask: Ask): ReserveRequest {
  return create(ReserveRequestSchema, {
    requestId: ask.requestId,
    tenant: ask.tenant,
    agent: ask.agent,
    user: ask.user,
    model: ask.model,
    ttl: duration(ask.ttlMs),
    allowPartial: ask.allowPartial,
    onExpiry: ask.onExpiry === "charge" ? OnExpiry.CHARGE : OnExpiry.RELEASE,
    labels: { ...ask.labels },
    amounts: Object.entries(ask.amounts).map(([resource, quantity]) => ({
      resource,
      quantity: BigInt(quantity),
      minimum: BigInt(ask.minimum[resource] ?? 0),
    })),
  });
}

/** Makes an id of a logical call. */
export function newId(): string {
  return randomUUID().replaceAll("-", "");
}

/** Makes the amounts of a request. */
export function amountsOf(amounts: Amounts): { resource: string; quantity: bigint }[] {
  return Object.entries(amounts).map(([resource, quantity]) => ({ resource, quantity: BigInt(quantity) }));
}

/** Fails unless all quantities are whole numbers, 0 or more. */
export function checkAmounts(amounts: Amounts, what: string): void {
  for (const [resource, quantity] of Object.entries(amounts)) {
    if (!Number.isSafeInteger(quantity) || quantity < 0) {
      const most = Number.MAX_SAFE_INTEGER;
      throw new RangeError(`${what} must be a whole number, 0 to ${most}, and ${resource}=${String(quantity)} is not`);
    }
  }
}

/** Reads quantities as callers give them: a number means tokens. */
export function readAmounts(amounts: number | Amounts, what: string): Record<string, number> {
  if (typeof amounts !== "number" && (typeof amounts !== "object" || amounts === null || Array.isArray(amounts))) {
    throw new TypeError(`${what} must be a number of tokens, or quantities by resource`);
  }
  const found = typeof amounts === "number" ? { tokens: amounts } : { ...amounts };
  checkAmounts(found, what);
  return found;
}

/** Reads a number of milliseconds above 0. */
export function readMillis(setting: string, value: number, most = 1e12): number {
  if (typeof value !== "number" || !(value > 0 && value <= most)) {
    throw new RangeError(`${setting} must be a number of milliseconds, above 0 and at most ${most}, not ${value}`);
  }
  return value;
}

/** Reads the time to live of a hold. */
export function readTtl(value: number): number {
  return Math.max(1, readMillis("ttlMs", value, TTL_MAX_MS));
}

/** Reads one of several words. */
export function readChoice<T extends string>(setting: string, value: T, ...choices: T[]): T {
  if (!choices.includes(value)) {
    throw new TypeError(`${setting} must be ${choices.map((one) => `"${one}"`).join(" or ")}, not ${String(value)}`);
  }
  return value;
}
