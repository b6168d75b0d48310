/**
 * The errors of Tope, one class for each reason.
 *
 * Every error has `code` (the canonical gRPC code), `reason`, `message`, `metadata` and `retryAfterMs`. A reason that
 * this version does not know gets the class of its code.
 */

/** A limit that refused a request. `limit` is empty if no limit covers the resource. */
export interface Violation {
  readonly limit: string;
  readonly resource: string;
  readonly requested: number;
  readonly remaining: number | undefined;
  readonly allowance: number | undefined;
  readonly windowEnd: Date | undefined;
  readonly subject: string;
  readonly description: string;
  /** All details as text. Figures above 2^53 - 1 are exact here, and rounded in the other fields. */
  readonly dimensions: Readonly<Record<string, string>>;
}

/** A wrong field of a request. */
export interface Fault {
  readonly field: string;
  readonly description: string;
}

/** What an error consists of, beside its text. */
export interface ErrorParts {
  code?: string;
  reason?: string;
  metadata?: Record<string, string>;
  retryAfterMs?: number | undefined;
  violations?: readonly Violation[];
  faults?: readonly Fault[];
  what?: string;
  id?: string;
}

/** The base of all errors of a server, and of calls that do not reach a server. */
export class TopeError extends Error {
  readonly code: string;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** After how many milliseconds a repeat can succeed. Undefined: nobody knows, or waiting never helps. */
  readonly retryAfterMs: number | undefined;
  /** Whether the file of the key has another key now, so that a repeat can succeed. */
  keyChanged = false;

  constructor(message: string, parts: ErrorParts = {}, code = "UNKNOWN") {
    super(message);
    this.code = parts.code ?? code;
    this.reason = parts.reason ?? "";
    this.metadata = parts.metadata ?? {};
    this.retryAfterMs = parts.retryAfterMs;
    this.name = new.target.name;
  }

  /** Whether the same call, with the same `request_id`, can succeed when it is repeated. */
  get transient(): boolean {
    return false;
  }
}

/** The quota does not suffice. The fields are those of the first limit that refused; `violations` has all limits. */
export class QuotaExceeded extends TopeError {
  readonly violations: readonly Violation[];

  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "RESOURCE_EXHAUSTED");
    this.violations = parts.violations ?? [];
  }

  get limit(): string {
    return this.violations[0]?.limit ?? "";
  }
  get resource(): string {
    return this.violations[0]?.resource ?? "";
  }
  get allowance(): number | undefined {
    return this.violations[0]?.allowance;
  }
  get remaining(): number | undefined {
    return this.violations[0]?.remaining;
  }
  get requested(): number | undefined {
    return this.violations[0]?.requested;
  }
  get windowEnd(): Date | undefined {
    return this.violations[0]?.windowEnd;
  }
}

/** A field of the request is wrong. `faults` names the fields. */
export class InvalidArgument extends TopeError {
  readonly faults: readonly Fault[];

  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "INVALID_ARGUMENT");
    this.faults = parts.faults ?? [];
  }
}

class Thing extends TopeError {
  /** The kind of the thing, such as `tenant`. */
  readonly what: string;
  /** The id of the thing. */
  readonly id: string;

  constructor(message: string, parts: ErrorParts, code: string) {
    super(message, parts, code);
    this.what = parts.what ?? "";
    this.id = parts.id ?? "";
  }
}

/** A thing does not exist. */
export class NotFound extends Thing {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "NOT_FOUND");
  }
}
export class TenantNotFound extends NotFound {}
export class ReservationNotFound extends NotFound {}

/** The id is in use. */
export class AlreadyExists extends Thing {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "ALREADY_EXISTS");
  }
}
/** An earlier request used this `request_id` with another payload. */
export class RequestIdReused extends AlreadyExists {}
export class NameTaken extends AlreadyExists {}

export class PermissionDenied extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "PERMISSION_DENIED");
  }
}
export class TenantSuspended extends PermissionDenied {}
export class AgentSuspended extends PermissionDenied {}
/** The key does not permit the call. */
export class NotPermitted extends PermissionDenied {}

/** The client has no valid key. */
export class Unauthenticated extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "UNAUTHENTICATED");
  }
}
export class KeyMissing extends Unauthenticated {}
export class KeyMalformed extends Unauthenticated {}
export class KeyUnknown extends Unauthenticated {}
export class KeyExpired extends Unauthenticated {}
export class KeyRevoked extends Unauthenticated {}
export class KeyAmbiguous extends Unauthenticated {}
export class JwtInvalid extends Unauthenticated {}
export class JwtExpired extends Unauthenticated {}

export class FailedPrecondition extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "FAILED_PRECONDITION");
  }
}
/** The reservation was settled in another way. `metadata.state` is its state. */
export class ReservationSettled extends FailedPrecondition {}
export class ReservationExpired extends FailedPrecondition {}
export class ReservationNotCharged extends FailedPrecondition {}
export class TooManyCounters extends FailedPrecondition {}
export class ResourceInUse extends FailedPrecondition {}
export class PlanInUse extends FailedPrecondition {}
export class TenantHasHolds extends FailedPrecondition {}
/** There are as many agents, overrides, webhooks or keys as there may be. */
export class TooMany extends FailedPrecondition {}
export class JobRunning extends FailedPrecondition {}

export class Aborted extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "ABORTED");
  }
}
export class EtagMismatch extends Aborted {}

export class OutOfRange extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "OUT_OF_RANGE");
  }
}
/** Events after the cursor were removed. `metadata.oldest_cursor` is the oldest cursor that is kept. */
export class CursorExpired extends OutOfRange {}

/** The server cannot decide now. A repeat with the same `request_id` can succeed. */
export class Unavailable extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "UNAVAILABLE");
  }

  override get transient(): boolean {
    return true;
  }
}
export class Overloaded extends Unavailable {}
export class Draining extends Unavailable {}
export class DatabaseUnavailable extends Unavailable {}
export class KeysChanged extends Unavailable {}
export class JwksUnavailable extends Unavailable {}
/** No server answered, or the connection broke. */
export class Unreachable extends Unavailable {}

/** The time of the call ran out. The call may have taken effect or not. */
export class DeadlineExceeded extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "DEADLINE_EXCEEDED");
  }

  override get transient(): boolean {
    return true;
  }
}

/** The server has a defect. Its log says more. */
export class Internal extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "INTERNAL");
  }
}

/** The server does not know this call: it has another version, or is no server of Tope. */
export class Unimplemented extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "UNIMPLEMENTED");
  }
}

/** The client was closed before this call, or the caller's signal ended it. */
export class Cancelled extends TopeError {
  constructor(message: string, parts: ErrorParts = {}) {
    super(message, parts, "CANCELLED");
  }
}

export type ErrorClass = new (message: string, parts?: ErrorParts) => TopeError;

/** The class of each reason. */
export const REASONS: Readonly<Record<string, ErrorClass>> = {
  QUOTA_EXCEEDED: QuotaExceeded,
  INVALID_ARGUMENT: InvalidArgument,
  TENANT_NOT_FOUND: TenantNotFound,
  RESERVATION_NOT_FOUND: ReservationNotFound,
  RESOURCE_NOT_FOUND: NotFound,
  PLAN_NOT_FOUND: NotFound,
  AGENT_NOT_FOUND: NotFound,
  OVERRIDE_NOT_FOUND: NotFound,
  WEBHOOK_NOT_FOUND: NotFound,
  DELIVERY_NOT_FOUND: NotFound,
  JOB_NOT_FOUND: NotFound,
  KEY_NOT_FOUND: NotFound,
  REQUEST_ID_REUSED: RequestIdReused,
  NAME_TAKEN: NameTaken,
  TENANT_SUSPENDED: TenantSuspended,
  AGENT_SUSPENDED: AgentSuspended,
  NOT_PERMITTED: NotPermitted,
  KEY_MISSING: KeyMissing,
  KEY_MALFORMED: KeyMalformed,
  KEY_UNKNOWN: KeyUnknown,
  KEY_EXPIRED: KeyExpired,
  KEY_REVOKED: KeyRevoked,
  KEY_AMBIGUOUS: KeyAmbiguous,
  JWT_MALFORMED: JwtInvalid,
  JWT_UNTRUSTED: JwtInvalid,
  JWT_CLAIM_INVALID: JwtInvalid,
  JWT_EXPIRED: JwtExpired,
  RESERVATION_SETTLED: ReservationSettled,
  RESERVATION_EXPIRED: ReservationExpired,
  RESERVATION_NOT_CHARGED: ReservationNotCharged,
  TOO_MANY_COUNTERS: TooManyCounters,
  RESOURCE_IN_USE: ResourceInUse,
  PLAN_IN_USE: PlanInUse,
  TENANT_HAS_HOLDS: TenantHasHolds,
  TOO_MANY_AGENTS: TooMany,
  TOO_MANY_OVERRIDES: TooMany,
  TOO_MANY_WEBHOOKS: TooMany,
  TOO_MANY_KEYS: TooMany,
  JOB_RUNNING: JobRunning,
  ETAG_MISMATCH: EtagMismatch,
  CURSOR_EXPIRED: CursorExpired,
  OVERLOADED: Overloaded,
  DRAINING: Draining,
  DATABASE_UNAVAILABLE: DatabaseUnavailable,
  KEYS_CHANGED: KeysChanged,
  JWKS_UNAVAILABLE: JwksUnavailable,
  DEADLINE_EXCEEDED: DeadlineExceeded,
  INTERNAL: Internal,
};

/** The class of each code, for reasons that this version does not know. */
export const OF_CODE: Readonly<Record<string, ErrorClass>> = {
  INVALID_ARGUMENT: InvalidArgument,
  NOT_FOUND: NotFound,
  ALREADY_EXISTS: AlreadyExists,
  PERMISSION_DENIED: PermissionDenied,
  UNAUTHENTICATED: Unauthenticated,
  FAILED_PRECONDITION: FailedPrecondition,
  ABORTED: Aborted,
  OUT_OF_RANGE: OutOfRange,
  UNAVAILABLE: Unavailable,
  DEADLINE_EXCEEDED: DeadlineExceeded,
  INTERNAL: Internal,
  UNIMPLEMENTED: Unimplemented,
  RESOURCE_EXHAUSTED: QuotaExceeded,
  CANCELLED: Cancelled,
};

/** Codes in the order of their numbers. */
export const CODES: readonly string[] = [
  "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
  "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
];
