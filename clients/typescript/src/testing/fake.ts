/**
 * A server in memory, with a clock that tests move. It decides as the real server does, within what it knows.
 *
 * It knows tenants with plans and the operations of QuotaService. It does not know agents with plans, overrides, zones,
 * anchors, carry, rolling windows, keys, events and webhooks: a call that needs one of these fails with
 * `errors.Unimplemented`.
 */

import { create, toJsonString } from "@bufbuild/protobuf";
import type { DescMessage, DescMethodUnary, Message, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Transport, UnaryResponse } from "@connectrpc/connect";

import * as errors from "../errors.js";
import { PlanSchema } from "../gen/tope/v1/policy_pb.js";
import * as pb from "../gen/tope/v1/quota_service_pb.js";
import { OnExpiry, ReservationState } from "../gen/tope/v1/usage_pb.js";
import type { Reservation } from "../gen/tope/v1/usage_pb.js";
import { toConnect, toStatus } from "../status.js";
import { Clock, Held, asLimits, checkLimit } from "./books.js";
import type { Limits, Subject } from "./books.js";
import { Books, inState } from "./engine.js";
import type { Wanted } from "./engine.js";

const { EXPIRED, RELEASED, RESERVED } = ReservationState;
const AMOUNTS_MAX = 16;
const DEFAULT_TTL_MS = 300_000;

type AnyAmount = { resource: string; quantity: bigint; minimum?: bigint };
type Named = { reservation: string; tenant: string; reserveRequestId: string };
type Spends = { tenant: string; requestId: string; agent: string; user: string; model: string; labels: object };
type Handler = (request: never) => Message;

/** The transport of a client, and the server behind it: `new Client(new Fake())`. */
export class Fake implements Transport {
  private readonly resources = new Set<string>();
  private readonly tenants = new Map<string, Books>();
  private numbers = 0;
  private readonly handlers: Readonly<Record<string, Handler>> = {
    Reserve: (request: pb.ReserveRequest) => this.reserve(request),
    Commit: (request: pb.CommitRequest) => this.commit(request),
    Release: (request: pb.ReleaseRequest) => this.release(request),
    Extend: (request: pb.ExtendRequest) => this.extend(request),
    Record: (request: pb.RecordRequest) => this.record(request),
    Amend: (request: pb.AmendRequest) => this.amend(request),
    Check: (request: pb.CheckRequest) => this.check(request),
    Batch: (request: pb.BatchRequest) => this.batch(request),
    GetUsage: (request: pb.GetUsageRequest) => this.getUsage(request),
    GetReservation: (request: pb.GetReservationRequest) => this.find(request)[1].message(),
    ListReservations: (request: pb.ListReservationsRequest) => this.listReservations(request),
  };

  constructor(readonly clock: Clock = new Clock()) {}

  // What tests call.

  /** Adds a tenant with a plan of these limits. `{ tokens: 1_000 }` is a limit of 1,000 tokens a day. */
  add(tenant: string, limits: Limits, plan = `plan-of-${tenant}`): void {
    const made = create(PlanSchema, { id: plan, limits: asLimits(limits) });
    for (const limit of made.limits) {
      checkLimit(limit);
      this.addResource(limit.resource);
    }
    this.tenants.set(tenant, new Books(tenant, made));
  }

  /** Declares a resource. */
  addResource(id: string): void {
    this.resources.add(id);
  }

  /** Suspends a tenant, or ends that. */
  suspend(tenant: string, suspended = true): void {
    this.books(tenant).suspended = suspended;
  }

  // The transport.

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    _timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    signal?.throwIfAborted();
    const request = create(method.input, input);
    try {
      const message = this.handle(method.name, request) as MessageShape<O>;
      const { parent: service } = method;
      return { stream: false, service, method, header: new Headers(header), trailer: new Headers(), message };
    } catch (error) {
      throw error instanceof errors.TopeError ? toConnect(error) : error;
    }
  }

  async stream(): Promise<never> {
    throw toConnect(new errors.Unimplemented("the fake has no streams"));
  }

  private handle(name: string, request: Message): Message {
    const handler = this.handlers[name];
    if (handler === undefined) {
      throw new errors.Unimplemented(`the fake has no ${name}`);
    }
    for (const books of this.tenants.values()) {
      books.expire(this.clock.nowMs);
    }
    return handler(request as never);
  }

  // The calls of QuotaService.

  private reserve(request: pb.ReserveRequest): pb.ReserveResponse {
    const wanted = this.wanted(request.amounts, true);
    const now = this.clock.nowMs;
    const [books, held] = this.once("Reserve", toJsonString(pb.ReserveRequestSchema, request), request, (found) => {
      this.checkState(found);
      const subject = subjectOf(request);
      const verdicts = found.verdicts(wanted, subject, request.allowPartial, now);
      found.decide(verdicts);
      const { ttl } = request;
      const ttlMs = ttl === undefined ? DEFAULT_TTL_MS : Number(ttl.seconds) * 1_000 + Math.floor(ttl.nanos / 1e6);
      const made = this.newHeld(request, subject, now + ttlMs);
      made.onExpiry = request.onExpiry || OnExpiry.RELEASE;
      found.hold(made, verdicts.granted, now);
      return made;
    });
    return create(pb.ReserveResponseSchema, { reservation: held.message(), balances: books.balances(held) });
  }

  private record(request: pb.RecordRequest): pb.RecordResponse {
    if (request.occurredTime !== undefined) {
      throw new errors.Unimplemented("the fake has no occurred_time");
    }
    const amounts = this.amounts(request.amounts, true, true);
    const [books, held] = this.once("Record", toJsonString(pb.RecordRequestSchema, request), request, (found) => {
      const made = this.newHeld(request, subjectOf(request), undefined);
      found.record(made, amounts, this.clock.nowMs);
      return made;
    });
    const applied = held.allKeys().map((key) => BigInt(books.counters.get(key)?.committed ?? 0));
    return create(pb.RecordResponseSchema, { reservation: held.message(), balances: books.balances(held), applied });
  }

  private commit(request: pb.CommitRequest): pb.CommitResponse {
    if (request.agent !== undefined || request.user !== undefined || request.model !== undefined) {
      throw new errors.Unimplemented("the fake has no agent, user and model of Commit");
    }
    const [books, held] = this.find(request);
    const amounts = this.amounts(request.amounts, false);
    request.amounts.forEach(({ resource }, index) => {
      if (!held.keys.has(resource)) {
        this.checkResource(resource, `amounts[${index}].resource`);
      }
    });
    books.commit(held, amounts, this.clock.nowMs);
    return create(pb.CommitResponseSchema, { reservation: held.message(), balances: books.balances(held) });
  }

  private release(request: pb.ReleaseRequest): pb.ReleaseResponse {
    const [books, held] = this.find(request);
    books.release(held, this.clock.nowMs);
    return create(pb.ReleaseResponseSchema, { reservation: held.message(), balances: books.balances(held) });
  }

  private extend(request: pb.ExtendRequest): pb.ExtendResponse {
    const [books, held] = this.find(request);
    if (request.amounts.length === 0 && request.ttl === undefined) {
      throw fault("ttl", "must be given, or amounts");
    }
    const wanted = this.wanted(request.amounts, false);
    if (!books.requests.has(request.requestId)) {
      this.checkState(books);
      books.extend(held, request, wanted, this.clock.nowMs);
      if (request.requestId !== "") {
        books.requests.set(request.requestId, { payload: "Extend", name: held.name });
      }
    }
    return create(pb.ExtendResponseSchema, { reservation: held.message(), balances: books.balances(held) });
  }

  private amend(request: pb.AmendRequest): pb.AmendResponse {
    const [books, held] = this.find(request);
    const charged = held.state === EXPIRED && held.onExpiry === OnExpiry.CHARGE;
    if ([RESERVED, RELEASED].includes(held.state) || (held.state === EXPIRED && !charged)) {
      throw inState(held, errors.ReservationNotCharged);
    }
    this.amounts(request.amounts, true).forEach((quantity, resource) => books.charge(held, resource, quantity));
    return create(pb.AmendResponseSchema, { reservation: held.message(), balances: books.balances(held) });
  }

  private check(request: pb.CheckRequest): pb.CheckResponse {
    const books = this.books(request.tenant);
    const wanted = this.wanted(request.amounts, true);
    const found = books.verdicts(wanted, subjectOf(request), request.allowPartial, this.clock.nowMs);
    if (books.suspended || found.refusals.length > 0) {
      return create(pb.CheckResponseSchema, { allowed: false, suspended: books.suspended });
    }
    const granted = [...found.granted].sort(([one], [two]) => (one < two ? -1 : 1));
    const amounts = granted.map(([resource, quantity]) => ({ resource, quantity: BigInt(quantity) }));
    return create(pb.CheckResponseSchema, { allowed: true, granted: amounts });
  }

  private getUsage(request: pb.GetUsageRequest): pb.GetUsageResponse {
    const balances = this.books(request.tenant)
      .usage(this.clock.nowMs)
      .filter((one) => request.resources.length === 0 || request.resources.includes(one.resource))
      .filter((one) =>
        (["agent", "user", "model"] as const).every(
          (name) => request[name] === undefined || one[name] === undefined || one[name] === request[name],
        ),
      );
    return create(pb.GetUsageResponseSchema, { balances });
  }

  private listReservations(request: pb.ListReservationsRequest): pb.ListReservationsResponse {
    const states = request.states.length > 0 ? request.states : [RESERVED];
    const age = request.minAge;
    const ageMs = age === undefined ? 0 : Number(age.seconds) * 1_000 + Math.floor(age.nanos / 1e6);
    const reservations = [...this.books(request.tenant).held.values()]
      .filter((held) => states.includes(held.state))
      .filter((held) => request.agent === undefined || held.subject.agent === request.agent)
      .filter((held) => held.created <= this.clock.nowMs - ageMs)
      .map((held): Reservation => held.message());
    return create(pb.ListReservationsResponseSchema, { reservations: reservations.reverse() });
  }

  private batch(request: pb.BatchRequest): pb.BatchResponse {
    if (request.operations.length < 1 || request.operations.length > 1_000) {
      throw fault("operations", "must have 1-1000 elements");
    }
    const results = request.operations.map(({ operation }) => {
      const name = operation.case ?? "";
      try {
        const value = this.handle(name.charAt(0).toUpperCase() + name.slice(1), operation.value as Message);
        return { result: { case: name, value } } as MessageInitShape<typeof pb.OperationResultSchema>;
      } catch (error) {
        if (!(error instanceof errors.TopeError)) {
          throw error;
        }
        return { result: { case: "error" as const, value: toStatus(error) } };
      }
    });
    return create(pb.BatchResponseSchema, { results });
  }

  // What the calls have in common.

  private books(tenant: string): Books {
    const found = this.tenants.get(tenant);
    if (found === undefined) {
      const parts = { reason: "TENANT_NOT_FOUND", what: "tenant", id: tenant };
      throw new errors.TenantNotFound(`tenant "${tenant}" does not exist`, parts);
    }
    return found;
  }

  /** Runs a request with a `request_id`, unless it is a repeat. */
  private once(method: string, body: string, request: Spends, run: (books: Books) => Held): [Books, Held] {
    const books = this.books(request.tenant);
    const payload = `${method} ${body}`;
    const known = request.requestId === "" ? undefined : books.requests.get(request.requestId);
    if (known !== undefined) {
      if (known.payload !== payload) {
        const parts = { reason: "REQUEST_ID_REUSED", what: "request", id: request.requestId };
        throw new errors.RequestIdReused(`request "${request.requestId}" exists with another payload`, parts);
      }
      return [books, books.held.get(known.name) as Held];
    }
    const held = run(books);
    if (request.requestId !== "") {
      books.requests.set(request.requestId, { payload, name: held.name });
    }
    return [books, held];
  }

  private checkState(books: Books): void {
    if (books.suspended) {
      const parts = { reason: "TENANT_SUSPENDED", metadata: { tenant: books.id } };
      throw new errors.TenantSuspended(`tenant "${books.id}" is suspended`, parts);
    }
  }

  private wanted(amounts: readonly AnyAmount[], required: boolean): Wanted[] {
    this.amounts(amounts, required);
    return amounts.map(({ resource, quantity, minimum }) => ({
      resource,
      quantity: Number(quantity),
      minimum: Number(minimum ?? 0n),
    }));
  }

  private amounts(amounts: readonly AnyAmount[], required: boolean, negative = false): Map<string, number> {
    if (amounts.length > AMOUNTS_MAX || (required && amounts.length === 0)) {
      throw fault("amounts", `must have ${required ? 1 : 0}-${AMOUNTS_MAX} elements`);
    }
    const found = new Map<string, number>();
    amounts.forEach(({ resource, quantity, minimum }, index) => {
      if (required) {
        this.checkResource(resource, `amounts[${index}].resource`);
      }
      if (found.has(resource)) {
        throw fault(`amounts[${index}].resource`, "must be there once");
      }
      if (quantity < 0n && !negative) {
        throw fault(`amounts[${index}].quantity`, "must be 0 or more");
      }
      if (minimum !== undefined && minimum !== 0n && (minimum < 0n || minimum > quantity)) {
        throw fault(`amounts[${index}].minimum`, "must be 0 to the quantity");
      }
      found.set(resource, Number(quantity));
    });
    return found;
  }

  private checkResource(id: string, field: string): void {
    if (!this.resources.has(id)) {
      throw fault(field, `must be a declared resource, and "${id}" is not`);
    }
  }

  private newHeld(request: Spends, subject: Subject, deadline: number | undefined): Held {
    this.numbers += 1;
    return new Held(`fake-${this.numbers}`, request.tenant, request.requestId, subject, this.clock.nowMs, deadline);
  }

  private find(request: Named): [Books, Held] {
    const { reservation, reserveRequestId: id } = request;
    if (reservation !== "") {
      for (const books of this.tenants.values()) {
        const held = books.held.get(reservation);
        if (held !== undefined) {
          return [books, held];
        }
      }
      throw missing("reservation", reservation);
    }
    const books = this.books(request.tenant);
    const known = books.requests.get(id);
    if (known === undefined || known.payload === "Extend") {
      throw missing("request", id);
    }
    return [books, books.held.get(known.name) as Held];
  }
}

function subjectOf(request: { agent: string; user: string; model: string; labels: object }): Subject {
  const { agent, user, model, labels } = request;
  return { agent, user, model, labels: { ...labels } };
}

function missing(what: string, id: string): errors.TopeError {
  const parts = { reason: "RESERVATION_NOT_FOUND", what, id };
  return new errors.ReservationNotFound(`${what} "${id}" does not exist`, parts);
}

function fault(field: string, description: string): errors.TopeError {
  const parts = { reason: "INVALID_ARGUMENT", faults: [{ field, description }] };
  return new errors.InvalidArgument(`${field} ${description}`, parts);
}

