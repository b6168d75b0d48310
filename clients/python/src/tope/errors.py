"""The errors of Tope, one class for each reason.

Every error has `code` (the canonical gRPC code), `reason`, `message`, `metadata` and `retry_after` (seconds, or None).
A reason that this version does not know gets the class of its code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, TypeVar

from google.protobuf.message import Message

from tope.rpc import error_details_pb2 as details_pb
from tope.rpc import status_pb2

DOMAIN = "tope"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Violation:
    """A limit that refused a request. `limit` is empty if no limit covers the resource."""

    limit: str
    resource: str
    requested: int
    remaining: int | None
    allowance: int | None
    window_end: datetime | None
    subject: str
    description: str
    dimensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """A wrong field of a request."""

    field: str
    description: str


class TopeError(Exception):
    """The base of all errors of a server, and of calls that do not reach a server."""

    code: str = "UNKNOWN"
    #: Whether the same call, with the same `request_id`, can succeed when it is repeated.
    transient: ClassVar[bool] = False
    #: Whether the file of the key has another key now, so that a repeat can succeed.
    key_changed: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} ({self.reason or self.code})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.message), self.__dict__


def _restore(kind: type[TopeError], message: str) -> TopeError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error


class QuotaExceeded(TopeError):
    """The quota does not suffice. The fields are those of the first limit that refused; `violations` has all limits."""

    code = "RESOURCE_EXHAUSTED"
    violations: tuple[Violation, ...] = ()

    def _first(self) -> Violation | None:
        return self.violations[0] if self.violations else None

    @property
    def limit(self) -> str:
        first = self._first()
        return first.limit if first else ""

    @property
    def resource(self) -> str:
        first = self._first()
        return first.resource if first else ""

    @property
    def allowance(self) -> int | None:
        first = self._first()
        return first.allowance if first else None

    @property
    def remaining(self) -> int | None:
        first = self._first()
        return first.remaining if first else None

    @property
    def requested(self) -> int | None:
        first = self._first()
        return first.requested if first else None

    @property
    def window_end(self) -> datetime | None:
        first = self._first()
        return first.window_end if first else None


class InvalidArgument(TopeError):
    """A field of the request is wrong. `faults` names the fields."""

    code = "INVALID_ARGUMENT"
    faults: tuple[Fault, ...] = ()


class NotFound(TopeError):
    """A thing does not exist. `what` is its kind, such as `tenant`, and `id` its id."""

    code = "NOT_FOUND"
    what: str = ""
    id: str = ""


class TenantNotFound(NotFound): ...


class ReservationNotFound(NotFound): ...


class AlreadyExists(TopeError):
    """The id is in use."""

    code = "ALREADY_EXISTS"
    what: str = ""
    id: str = ""


class RequestIdReused(AlreadyExists):
    """An earlier request used this `request_id` with another payload."""


class NameTaken(AlreadyExists): ...


class PermissionDenied(TopeError):
    code = "PERMISSION_DENIED"


class TenantSuspended(PermissionDenied): ...


class AgentSuspended(PermissionDenied): ...


class NotPermitted(PermissionDenied):
    """The key does not permit the call."""


class Unauthenticated(TopeError):
    """The client has no valid key."""

    code = "UNAUTHENTICATED"


class KeyMissing(Unauthenticated): ...


class KeyMalformed(Unauthenticated): ...


class KeyUnknown(Unauthenticated): ...


class KeyExpired(Unauthenticated): ...


class KeyRevoked(Unauthenticated): ...


class KeyAmbiguous(Unauthenticated): ...


class JwtInvalid(Unauthenticated): ...


class JwtExpired(Unauthenticated): ...


class FailedPrecondition(TopeError):
    code = "FAILED_PRECONDITION"


class ReservationSettled(FailedPrecondition):
    """The reservation was settled in another way. `metadata["state"]` is its state."""


class ReservationExpired(FailedPrecondition): ...


class ReservationNotCharged(FailedPrecondition): ...


class TooManyCounters(FailedPrecondition): ...


class ResourceInUse(FailedPrecondition): ...


class PlanInUse(FailedPrecondition): ...


class TenantHasHolds(FailedPrecondition): ...


class TooMany(FailedPrecondition):
    """There are as many agents, overrides, webhooks or keys as there may be."""


class JobRunning(FailedPrecondition): ...


class Aborted(TopeError):
    code = "ABORTED"


class EtagMismatch(Aborted): ...


class OutOfRange(TopeError):
    code = "OUT_OF_RANGE"


class CursorExpired(OutOfRange):
    """Events after the cursor were removed. `metadata["oldest_cursor"]` is the oldest cursor that is kept."""


class Unavailable(TopeError):
    """The server cannot decide now. A repeat with the same `request_id` can succeed."""

    code = "UNAVAILABLE"
    transient = True


class Overloaded(Unavailable): ...


class Draining(Unavailable): ...


class DatabaseUnavailable(Unavailable): ...


class KeysChanged(Unavailable): ...


class JwksUnavailable(Unavailable): ...


class Unreachable(Unavailable):
    """No server answered, or the connection broke."""


class DeadlineExceeded(TopeError):
    """The time of the call ran out. The call may have taken effect or not."""

    code = "DEADLINE_EXCEEDED"
    transient = True


class Internal(TopeError):
    """The server has a defect. Its log says more."""

    code = "INTERNAL"


class Unimplemented(TopeError):
    """The server does not know this call: it has another version, or is no server of Tope."""

    code = "UNIMPLEMENTED"


class ClientClosed(TopeError):
    """The client was closed before this call."""

    code = "CANCELLED"


REASONS: dict[str, type[TopeError]] = {
    "QUOTA_EXCEEDED": QuotaExceeded,
    "INVALID_ARGUMENT": InvalidArgument,
    "TENANT_NOT_FOUND": TenantNotFound,
    "RESERVATION_NOT_FOUND": ReservationNotFound,
    "RESOURCE_NOT_FOUND": NotFound,
    "PLAN_NOT_FOUND": NotFound,
    "AGENT_NOT_FOUND": NotFound,
    "OVERRIDE_NOT_FOUND": NotFound,
    "WEBHOOK_NOT_FOUND": NotFound,
    "DELIVERY_NOT_FOUND": NotFound,
    "JOB_NOT_FOUND": NotFound,
    "KEY_NOT_FOUND": NotFound,
    "REQUEST_ID_REUSED": RequestIdReused,
    "NAME_TAKEN": NameTaken,
    "TENANT_SUSPENDED": TenantSuspended,
    "AGENT_SUSPENDED": AgentSuspended,
    "NOT_PERMITTED": NotPermitted,
    "KEY_MISSING": KeyMissing,
    "KEY_MALFORMED": KeyMalformed,
    "KEY_UNKNOWN": KeyUnknown,
    "KEY_EXPIRED": KeyExpired,
    "KEY_REVOKED": KeyRevoked,
    "KEY_AMBIGUOUS": KeyAmbiguous,
    "JWT_MALFORMED": JwtInvalid,
    "JWT_UNTRUSTED": JwtInvalid,
    "JWT_CLAIM_INVALID": JwtInvalid,
    "JWT_EXPIRED": JwtExpired,
    "RESERVATION_SETTLED": ReservationSettled,
    "RESERVATION_EXPIRED": ReservationExpired,
    "RESERVATION_NOT_CHARGED": ReservationNotCharged,
    "TOO_MANY_COUNTERS": TooManyCounters,
    "RESOURCE_IN_USE": ResourceInUse,
    "PLAN_IN_USE": PlanInUse,
    "TENANT_HAS_HOLDS": TenantHasHolds,
    "TOO_MANY_AGENTS": TooMany,
    "TOO_MANY_OVERRIDES": TooMany,
    "TOO_MANY_WEBHOOKS": TooMany,
    "TOO_MANY_KEYS": TooMany,
    "JOB_RUNNING": JobRunning,
    "ETAG_MISMATCH": EtagMismatch,
    "CURSOR_EXPIRED": CursorExpired,
    "OVERLOADED": Overloaded,
    "DRAINING": Draining,
    "DATABASE_UNAVAILABLE": DatabaseUnavailable,
    "KEYS_CHANGED": KeysChanged,
    "JWKS_UNAVAILABLE": JwksUnavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "INTERNAL": Internal,
}

_OF_CODE: dict[str, type[TopeError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument, NotFound, AlreadyExists, PermissionDenied, Unauthenticated, FailedPrecondition, Aborted,
        OutOfRange, Unavailable, DeadlineExceeded, Internal, Unimplemented, QuotaExceeded,
    )
}  # fmt: skip

# Codes in the order of their numbers.
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


def of_status(status: status_pb2.Status) -> TopeError:
    """Makes the error of a status, such as the status of one operation of a Batch."""
    code = CODES[status.code] if 0 <= status.code < len(CODES) else "UNKNOWN"
    parts = {any_.type_url.rpartition(".")[2]: any_.value for any_ in status.details}
    info = _parse(details_pb.ErrorInfo(), parts.get("ErrorInfo"))
    ours = info is not None and info.domain == DOMAIN
    kind = REASONS.get(info.reason) if ours and info is not None else None
    if kind is None and not ours:
        kind = _without_reason(code)
    kind = kind or _OF_CODE.get(code, TopeError)
    retry = _parse(details_pb.RetryInfo(), parts.get("RetryInfo"))
    error = kind(
        status.message,
        code=code,
        reason=info.reason if ours and info is not None else "",
        metadata=dict(info.metadata) if ours and info is not None else None,
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if retry is not None else None,
    )
    _add_details(error, parts)
    return error


def of_rpc(code: str, message: str, trailers: Iterable[tuple[str, str | bytes]]) -> TopeError:
    """Makes the error of a call, from its code, its text and its trailing metadata."""
    for key, value in trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            status = _parse(status_pb2.Status(), value)
            if status is not None and status.details:
                return of_status(status)
    return of_status(status_pb2.Status(code=CODES.index(code) if code in CODES else 2, message=message))


def _without_reason(code: str) -> type[TopeError] | None:
    """Returns the class of an error that no server of Tope made: a proxy or gRPC itself made it."""
    # RESOURCE_EXHAUSTED is also what gRPC says about a message that is too large. That is no refusal.
    if code == "RESOURCE_EXHAUSTED":
        return TopeError
    # gRPC reports a connection that broke in the middle of a call with one of these codes.
    return Unreachable if code in ("UNAVAILABLE", "CANCELLED", "UNKNOWN", "INTERNAL") else None


def _parse(message: M, content: bytes | None) -> M | None:
    """Parses a detail. Returns None if there is none, or if it is malformed."""
    if content is None:
        return None
    try:
        message.ParseFromString(content)
    except Exception:
        return None
    return message


def _add_details(error: TopeError, parts: Mapping[str, bytes]) -> None:
    if isinstance(error, QuotaExceeded):
        failure = _parse(details_pb.QuotaFailure(), parts.get("QuotaFailure"))
        error.violations = tuple(_violation(one) for one in failure.violations) if failure is not None else ()
    elif isinstance(error, InvalidArgument):
        request = _parse(details_pb.BadRequest(), parts.get("BadRequest"))
        found = request.field_violations if request is not None else ()
        error.faults = tuple(Fault(one.field, one.description) for one in found)
    elif isinstance(error, (NotFound, AlreadyExists)):
        info = _parse(details_pb.ResourceInfo(), parts.get("ResourceInfo"))
        if info is not None:
            error.what, error.id = info.resource_type, info.resource_name


def _violation(one: details_pb.QuotaFailure.Violation) -> Violation:
    dimensions = dict(one.quota_dimensions)
    return Violation(
        limit=one.quota_id,
        resource=one.quota_metric,
        requested=_whole(dimensions.get("requested")) or 0,
        remaining=_whole(dimensions.get("remaining")),
        allowance=_whole(dimensions.get("allowance")),
        window_end=_instant(dimensions.get("window_end")),
        subject=one.subject,
        description=one.description,
        dimensions=dimensions,
    )


def _whole(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _instant(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
    except ValueError:
        return None


def to_status(error: TopeError) -> status_pb2.Status:
    """Makes the status of an error, as a server does."""
    status = status_pb2.Status(code=CODES.index(error.code), message=error.message)
    info = details_pb.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    details: list[Message] = [info]
    if error.retry_after is not None:
        retry = details_pb.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after * 1e9))
        details.append(retry)
    if isinstance(error, QuotaExceeded):
        failure = details_pb.QuotaFailure()
        for one in error.violations:
            failure.violations.add(
                subject=one.subject,
                description=one.description,
                api_service=DOMAIN,
                quota_metric=one.resource,
                quota_id=one.limit,
                quota_dimensions=dict(one.dimensions),
                quota_value=one.allowance or 0,
            )
        details.append(failure)
    if isinstance(error, InvalidArgument):
        faults = [
            details_pb.BadRequest.FieldViolation(field=one.field, description=one.description) for one in error.faults
        ]
        details.append(details_pb.BadRequest(field_violations=faults))
    if isinstance(error, (NotFound, AlreadyExists)):
        details.append(details_pb.ResourceInfo(resource_type=error.what, resource_name=error.id))
    for detail in details:
        name = detail.DESCRIPTOR.name
        status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString())
    return status
