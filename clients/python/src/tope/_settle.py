"""The operations with which holds end, for the worker and for callers who wait."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from tope import errors
from tope._core import Core, Decision, amounts_of, duration, new_id
from tope.v1 import quota_service_pb2 as quota_pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

# A Release of a hold whose Reserve may still be on its way is repeated once, after this time.
_ON_ITS_WAY_SECONDS = 2.0
# A hold lives at most 48 hours.
_EXTENSIONS_MAX_SECONDS = 47 * 3_600


def commit_of(core: Core, decision: Decision) -> quota_pb.CommitRequest:
    amounts = amounts_of(decision.amounts or {})
    if core.name:
        return quota_pb.CommitRequest(reservation=core.name, amounts=amounts)
    return quota_pb.CommitRequest(tenant=core.ask.tenant, reserve_request_id=core.ask.request_id, amounts=amounts)


def release_of(core: Core) -> quota_pb.ReleaseRequest:
    if core.name:
        return quota_pb.ReleaseRequest(reservation=core.name)
    return quota_pb.ReleaseRequest(tenant=core.ask.tenant, reserve_request_id=core.ask.request_id)


def method_of(core: Core, decision: Decision) -> tuple[str, Message]:
    """Returns the call that ends a hold which has a reservation."""
    if decision.release:
        return "Release", release_of(core)
    return "Commit", commit_of(core, decision)


class Settle:
    """Ends a hold that has a reservation."""

    settles = True
    slack = 0.0

    def __init__(self, core: Core, decision: Decision) -> None:
        self.core, self.decision = core, decision

    def operation(self) -> quota_pb.Operation | None:
        if self.decision.release:
            return quota_pb.Operation(release=release_of(self.core))
        return quota_pb.Operation(commit=commit_of(self.core, self.decision))

    def done(self, result: quota_pb.OperationResult | None, error: errors.TopeError | None) -> float | None:
        smaller = self.core.without_foreign(self.decision, error) if error is not None else None
        if smaller is not None:
            self.decision = smaller
            return 0.0
        reservation = None
        if result is not None:
            reservation = (result.release if self.decision.release else result.commit).reservation
        self.core.ended(self.decision, reservation, error)
        return None


class SettleAllowed:
    """Ends a hold that was allowed while no server answered: its usage is recorded, once.

    The Reserve may have taken effect although its reply was lost. The Record has the same `request_id`, so only one of
    the two takes effect. If it was the Reserve, that hold is settled instead.
    """

    settles = True
    slack = 0.0

    def __init__(self, core: Core, decision: Decision) -> None:
        self.core, self.decision = core, decision
        self._has_hold = decision.release

    def operation(self) -> quota_pb.Operation | None:
        core, ask = self.core, self.core.ask
        if self._has_hold and self.decision.release:
            return quota_pb.Operation(release=release_of(core))
        if self._has_hold:
            return quota_pb.Operation(commit=commit_of(core, self.decision))
        amounts = ask.amounts if self.decision.amounts is None else self.decision.amounts
        record = quota_pb.RecordRequest(
            request_id=ask.request_id,
            tenant=ask.tenant,
            agent=ask.agent,
            user=ask.user,
            model=ask.model,
            amounts=amounts_of(amounts or dict.fromkeys(ask.amounts, 0)),
            labels=dict(ask.labels),
        )
        return quota_pb.Operation(record=record)

    def done(self, result: quota_pb.OperationResult | None, error: errors.TopeError | None) -> float | None:
        if isinstance(error, errors.RequestIdReused) and not self._has_hold:
            self._has_hold = True
            return 0.0
        if isinstance(error, errors.ReservationNotFound) and self.decision.release:
            # There was no hold, and nothing is to be charged.
            error = None
        reservation = None
        if result is not None:
            reservation = getattr(result, result.WhichOneof("result") or "record").reservation
        self.core.ended(self.decision, reservation, error)
        return None


class ReleaseUnknown:
    """Releases the hold of a Reserve whose outcome is not known, since nobody will use it."""

    settles = True
    slack = 0.0

    def __init__(self, tenant: str, request_id: str) -> None:
        self._tenant, self._request_id = tenant, request_id
        self._repeats = 1

    def operation(self) -> quota_pb.Operation | None:
        release = quota_pb.ReleaseRequest(tenant=self._tenant, reserve_request_id=self._request_id)
        return quota_pb.Operation(release=release)

    def done(self, result: quota_pb.OperationResult | None, error: errors.TopeError | None) -> float | None:
        if isinstance(error, errors.ReservationNotFound) and self._repeats:
            self._repeats -= 1
            # `flush` does not wait for a hold that is probably not there.
            self.settles = False
            return _ON_ITS_WAY_SECONDS
        return None


class KeepAlive:
    """Extends a hold when half of its time is over, again and again, as long as it is open."""

    settles = False

    def __init__(self, core: Core) -> None:
        # The worker must not keep a hold alive that its scope has dropped.
        self._core = weakref.ref(core)
        self._ttl = core.ask.ttl
        self.slack = self._ttl / 8
        self._request_id = ""
        self._left = float(_EXTENSIONS_MAX_SECONDS)

    @property
    def delay(self) -> float:
        return self._ttl / 2

    def operation(self) -> quota_pb.Operation | None:
        core = self._core()
        if core is None or core.state != "open" or self._left <= 0:
            return None
        self._request_id = self._request_id or new_id()
        request = quota_pb.ExtendRequest(reservation=core.name, request_id=self._request_id, ttl=duration(self._ttl))
        return quota_pb.Operation(extend=request)

    def done(self, result: quota_pb.OperationResult | None, error: errors.TopeError | None) -> float | None:
        self._request_id = ""
        if error is not None:
            # The hold is settled or expired. A late Commit still charges its usage.
            return None
        self._left -= self.delay
        return self.delay
