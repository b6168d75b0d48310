/** The calls of QuotaService, with their requests and replies. */

import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";

import { QuotaService } from "./gen/tope/v1/quota_service_pb.js";
import type {
  AmendRequestSchema,
  AmendResponse,
  BatchRequestSchema,
  BatchResponse,
  CheckRequestSchema,
  CheckResponse,
  CommitRequestSchema,
  CommitResponse,
  ExtendRequestSchema,
  ExtendResponse,
  GetReservationRequestSchema,
  GetUsageResponse,
  ListReservationsResponse,
  RecordRequestSchema,
  RecordResponse,
  ReleaseRequestSchema,
  ReleaseResponse,
  ReserveRequestSchema,
  ReserveResponse,
} from "./gen/tope/v1/quota_service_pb.js";
import { ReservationState } from "./gen/tope/v1/usage_pb.js";
import type { Balance, Reservation } from "./gen/tope/v1/usage_pb.js";
import type { Unary } from "./transport.js";

/** Makes one call, with repeats. */
export type Caller = <I extends DescMessage, O extends DescMessage>(
  method: Unary<I, O>,
  request: MessageInitShape<I>,
) => Promise<MessageShape<O>>;

type Init<D extends DescMessage> = MessageInitShape<D>;

const ALL_STATES = [
  ReservationState.RESERVED,
  ReservationState.COMMITTED,
  ReservationState.RELEASED,
  ReservationState.EXPIRED,
];
const PAGE = 1_000;

/** Each method makes one call, with repeats. An error is one of `errors.ts`. */
export class Calls {
  readonly #call: Caller;

  constructor(call: Caller) {
    this.#call = call;
  }

  reserve(request: Init<typeof ReserveRequestSchema>): Promise<ReserveResponse> {
    return this.#call(QuotaService.method.reserve, request);
  }
  commit(request: Init<typeof CommitRequestSchema>): Promise<CommitResponse> {
    return this.#call(QuotaService.method.commit, request);
  }
  release(request: Init<typeof ReleaseRequestSchema>): Promise<ReleaseResponse> {
    return this.#call(QuotaService.method.release, request);
  }
  extend(request: Init<typeof ExtendRequestSchema>): Promise<ExtendResponse> {
    return this.#call(QuotaService.method.extend, request);
  }
  record(request: Init<typeof RecordRequestSchema>): Promise<RecordResponse> {
    return this.#call(QuotaService.method.record, request);
  }
  amend(request: Init<typeof AmendRequestSchema>): Promise<AmendResponse> {
    return this.#call(QuotaService.method.amend, request);
  }
  check(request: Init<typeof CheckRequestSchema>): Promise<CheckResponse> {
    return this.#call(QuotaService.method.check, request);
  }
  batch(request: Init<typeof BatchRequestSchema>): Promise<BatchResponse> {
    return this.#call(QuotaService.method.batch, request);
  }
  getReservation(request: Init<typeof GetReservationRequestSchema>): Promise<Reservation> {
    return this.#call(QuotaService.method.getReservation, request);
  }

  /** Yields all balances of a tenant. */
  async *usage(tenant: string): AsyncGenerator<Balance, void, undefined> {
    let pageToken = "";
    do {
      const request = { tenant, pageSize: PAGE, pageToken };
      const reply: GetUsageResponse = await this.#call(QuotaService.method.getUsage, request);
      yield* reply.balances;
      pageToken = reply.nextPageToken;
    } while (pageToken !== "");
  }

  /** Yields the reservations of a tenant, the newest one first. */
  async *reservations(tenant: string, states = ALL_STATES): AsyncGenerator<Reservation, void, undefined> {
    let pageToken = "";
    do {
      const request = { tenant, states, pageSize: PAGE, pageToken };
      const reply: ListReservationsResponse = await this.#call(QuotaService.method.listReservations, request);
      yield* reply.reservations;
      pageToken = reply.nextPageToken;
    } while (pageToken !== "");
  }
}
