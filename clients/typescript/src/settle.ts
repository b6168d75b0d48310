/** The operations with which holds end, for the worker and for callers who wait. */

import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";

import { amountsOf, newId } from "./ask.js";
import type { Core, Decision } from "./core.js";
import { RequestIdReused, ReservationNotFound } from "./errors.js";
import type { TopeError } from "./errors.js";
import { CommitRequestSchema, OperationSchema, ReleaseRequestSchema } from "./gen/tope/v1/quota_service_pb.js";
import type { CommitRequest, OperationResult, ReleaseRequest } from "./gen/tope/v1/quota_service_pb.js";
import type { Reservation } from "./gen/tope/v1/usage_pb.js";
import { duration } from "./status.js";

// A Release of a hold whose Reserve may still be on its way is repeated once, after this time.
const ON_ITS_WAY_MS = 2_000;
// A hold lives at most 48 hours.
const EXTENSIONS_MAX_MS = 47 * 3_600_000;

/** One operation of a Batch. */
export type Operation = MessageInitShape<typeof OperationSchema>;

/** An operation for the worker. */
export interface Task {
  /** Whether `flush` waits for the task. */
  settles: boolean;
  /** Milliseconds by which the task may run earlier, together with others. */
  readonly slackMs: number;
  /** Returns the operation, or undefined if there is nothing to do any more. */
  operation(): Operation | undefined;
  /** Takes the outcome. Returns the milliseconds after which the task is to run again, or undefined at its end. */
  done(result: OperationResult | undefined, error: TopeError | undefined): number | undefined;
}

function nameOf(core: Core): { reservation: string } | { tenant: string; reserveRequestId: string } {
  return core.name !== ""
    ? { reservation: core.name }
    : { tenant: core.ask.tenant, reserveRequestId: core.ask.requestId };
}

/** Makes the Commit of a hold. */
export function commitOf(core: Core, decision: Decision): CommitRequest {
  return create(CommitRequestSchema, { ...nameOf(core), amounts: amountsOf(decision.amounts ?? {}) });
}

/** Makes the Release of a hold. */
export function releaseOf(core: Core): ReleaseRequest {
  return create(ReleaseRequestSchema, nameOf(core));
}

function endOf(core: Core, decision: Decision): Operation {
  return decision.release
    ? { operation: { case: "release", value: releaseOf(core) } }
    : { operation: { case: "commit", value: commitOf(core, decision) } };
}

function reservationOf(result: OperationResult | undefined): Reservation | undefined {
  const value = result?.result.value;
  return value !== undefined && "reservation" in value ? value.reservation : undefined;
}

/** Ends a hold that has a reservation. */
export class Settle implements Task {
  readonly settles = true;
  readonly slackMs = 0;

  constructor(
    private readonly core: Core,
    private decision: Decision,
  ) {}

  operation(): Operation {
    return endOf(this.core, this.decision);
  }

  done(result: OperationResult | undefined, error: TopeError | undefined): number | undefined {
    const smaller = error === undefined ? undefined : this.core.withoutForeign(this.decision, error);
    if (smaller !== undefined) {
      this.decision = smaller;
      return 0;
    }
    this.core.ended(this.decision, reservationOf(result), error);
    return undefined;
  }
}

/**
 * Ends a hold that was allowed while no server answered: its usage is recorded, once.
 *
 * The Reserve may have taken effect although its reply was lost. The Record has the same `request_id`, so only one of
 * the two takes effect. If it was the Reserve, that hold is settled instead.
 */
export class SettleAllowed implements Task {
  readonly settles = true;
  readonly slackMs = 0;
  private hasHold: boolean;

  constructor(
    private readonly core: Core,
    private readonly decision: Decision,
  ) {
    this.hasHold = decision.release;
  }

  operation(): Operation {
    const { ask } = this.core;
    if (this.hasHold) {
      return endOf(this.core, this.decision);
    }
    const { requestId, tenant, agent, user, model } = ask;
    const nothing = Object.fromEntries(Object.keys(ask.amounts).map((resource) => [resource, 0]));
    const charged = this.decision.amounts ?? ask.amounts;
    const amounts = amountsOf(Object.keys(charged).length > 0 ? charged : nothing);
    const labels = { ...ask.labels };
    return { operation: { case: "record", value: { requestId, tenant, agent, user, model, labels, amounts } } };
  }

  done(result: OperationResult | undefined, error: TopeError | undefined): number | undefined {
    if (error instanceof RequestIdReused && !this.hasHold) {
      this.hasHold = true;
      return 0;
    }
    // If there was no hold, and nothing is to be charged, all is done.
    const failed = error instanceof ReservationNotFound && this.decision.release ? undefined : error;
    this.core.ended(this.decision, reservationOf(result), failed);
    return undefined;
  }
}

/** Releases the hold of a Reserve whose outcome is not known, since nobody will use it. */
export class ReleaseUnknown implements Task {
  settles = true;
  readonly slackMs = 0;
  private repeats = 1;

  constructor(
    private readonly tenant: string,
    private readonly requestId: string,
  ) {}

  operation(): Operation {
    const value = { tenant: this.tenant, reserveRequestId: this.requestId };
    return { operation: { case: "release", value } };
  }

  done(_: OperationResult | undefined, error: TopeError | undefined): number | undefined {
    if (error instanceof ReservationNotFound && this.repeats > 0) {
      this.repeats -= 1;
      // `flush` does not wait for a hold that is probably not there.
      this.settles = false;
      return ON_ITS_WAY_MS;
    }
    return undefined;
  }
}

/** Extends a hold when half of its time is over, again and again, as long as it is open. */
export class KeepAlive implements Task {
  readonly settles = false;
  readonly slackMs: number;
  readonly delayMs: number;
  private requestId = "";
  private leftMs = EXTENSIONS_MAX_MS;

  constructor(private readonly core: Core) {
    this.slackMs = core.ask.ttlMs / 8;
    this.delayMs = core.ask.ttlMs / 2;
  }

  operation(): Operation | undefined {
    const { core } = this;
    if (core.state !== "open" || this.leftMs <= 0) {
      return undefined;
    }
    this.requestId ||= newId();
    const value = { reservation: core.name, requestId: this.requestId, ttl: duration(core.ask.ttlMs) };
    return { operation: { case: "extend", value } };
  }

  done(_: OperationResult | undefined, error: TopeError | undefined): number | undefined {
    this.requestId = "";
    if (error !== undefined) {
      // The hold is settled or expired. A late Commit still charges its usage.
      return undefined;
    }
    this.leftMs -= this.delayMs;
    return this.delayMs;
  }
}
