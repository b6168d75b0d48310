"""A server in memory, with a clock that tests move. It decides as the real server does, within what it knows.

It knows resources, plans, tenants and the operations of QuotaService. It does not know agents with plans, overrides,
zones, anchors, carry, rolling windows, keys, events and webhooks: a call that needs one of these fails with
`tope.errors.Unimplemented`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tope import errors
from tope.testing._books import INT64_MAX, Clock, Held, Subject, as_limits, check_limit, timestamp
from tope.testing._engine import EXPIRED, RELEASED, RESERVED, Books, count, in_state
from tope.v1 import policy_pb2, usage_pb2
from tope.v1 import quota_service_pb2 as pb

_NAME_MAX = 128


class Fake:
    """The transport of a client, and the server behind it: `tope.Client(Fake())`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._resources: dict[str, policy_pb2.Resource] = {}
        self._plans: dict[str, policy_pb2.Plan] = {}
        self._tenants: dict[str, Books] = {}

    # What tests call.

    def add(self, tenant: str, limits: Iterable[policy_pb2.Limit] | Mapping[str, int], plan: str = "") -> None:
        """Adds a tenant with a plan of these limits. `{"tokens": 1000}` is a limit of 1,000 tokens a day."""
        found = policy_pb2.Plan(id=plan or f"plan-of-{tenant}", limits=as_limits(limits))
        with self._lock:
            for limit in found.limits:
                self._resources.setdefault(limit.resource, policy_pb2.Resource(id=limit.resource))
            self._plans[found.id] = found
            self._tenants[tenant] = Books(tenant, found)

    def add_resource(self, id: str) -> None:
        """Declares a resource that no limit counts."""
        self._resources.setdefault(id, policy_pb2.Resource(id=id))

    def suspend(self, tenant: str, suspended: bool = True) -> None:
        self._books(tenant).suspended = suspended

    # The transport.

    def call(self, method: str, request: Any, timeout: float) -> Any:
        handler: Callable[[Any], Any] | None = getattr(self, f"_do_{_snake(method)}", None)
        if handler is None:
            raise errors.Unimplemented(f"the fake has no {method}")
        with self._lock:
            for books in self._tenants.values():
                books.expire(self.clock.now)
            return handler(request)

    async def acall(self, method: str, request: Any, timeout: float) -> Any:
        return self.call(method, request, timeout)

    def close(self) -> None:
        """Does nothing: there is no connection."""

    async def aclose(self) -> None:
        """Does nothing: there is no connection."""

    # The calls of AdminService.

    def _do_create_resource(self, request: Any) -> policy_pb2.Resource:
        self._create(self._resources, "resource", request.resource.id, request.resource)
        return self._resources[request.resource.id]

    def _do_create_plan(self, request: Any) -> policy_pb2.Plan:
        for limit in request.plan.limits:
            check_limit(limit)
            self._check_resource(limit.resource, "plan.limits[].resource")
        self._create(self._plans, "plan", request.plan.id, request.plan)
        return self._plans[request.plan.id]

    def _do_create_tenant(self, request: Any) -> policy_pb2.Tenant:
        tenant = request.tenant
        if tenant.zone not in ("", "UTC") or tenant.HasField("anchor_time"):
            raise errors.Unimplemented("the fake has no zones and no anchors of tenants")
        if tenant.plan not in self._plans:
            raise _missing(errors.NotFound, "PLAN_NOT_FOUND", "plan", tenant.plan)
        suspended = tenant.state == policy_pb2.TENANT_STATE_SUSPENDED
        self._create(self._tenants, "tenant", tenant.id, Books(tenant.id, self._plans[tenant.plan], suspended))
        return policy_pb2.Tenant(id=tenant.id, plan=tenant.plan, state=policy_pb2.TENANT_STATE_ACTIVE)

    def _create(self, table: dict[str, Any], what: str, id: str, thing: Any) -> None:
        if not id or len(id.encode()) > _NAME_MAX:
            raise _fault(f"{what}.id", f"must have 1-{_NAME_MAX} bytes")
        if id in table:
            raise _exists(errors.NameTaken, "NAME_TAKEN", what, id)
        table[id] = thing

    # The calls of QuotaService.

    def _do_reserve(self, request: pb.ReserveRequest) -> pb.ReserveResponse:
        books, known = self._begin("Reserve", request, request.amounts)
        if known is None:
            self._check_state(books)
            subject, now = _subject(request), self.clock.now
            granted, violations, refusing = books.verdicts(request.amounts, subject, request.allow_partial, now)
            count(refusing)
            if violations:
                raise books.refuse(violations)
            ttl = request.ttl.ToTimedelta() if request.HasField("ttl") else dt.timedelta(minutes=5)
            known = self._new(request, subject, now + ttl)
            known.pb.on_expiry = request.on_expiry or usage_pb2.ON_EXPIRY_RELEASE
            books.hold(known, granted, now)
            self._remember(books, "Reserve", request, known)
        return pb.ReserveResponse(reservation=known.pb, balances=books.balances(known))

    def _do_record(self, request: pb.RecordRequest) -> pb.RecordResponse:
        if request.HasField("occurred_time"):
            raise errors.Unimplemented("the fake has no occurred_time")
        books, known = self._begin("Record", request, request.amounts, negative=True)
        if known is None:
            known = self._new(request, _subject(request), None)
            books.record(known, request.amounts, self.clock.now)
            self._remember(books, "Record", request, known)
        applied = [books.counters[key].committed for key in known.all_keys()]
        return pb.RecordResponse(reservation=known.pb, balances=books.balances(known), applied=applied)

    def _do_commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        for name in ("agent", "user", "model"):
            if request.HasField(name):
                raise errors.Unimplemented(f"the fake has no {name} of Commit")
        books, held = self._find(request)
        self._check_amounts(request.amounts, None)
        usage = {amount.resource: amount.quantity for amount in request.amounts}
        for resource in usage:
            if resource not in held.keys:
                self._check_resource(resource, "amounts[].resource")
        books.commit(held, usage, self.clock.now)
        return pb.CommitResponse(reservation=held.pb, balances=books.balances(held))

    def _do_release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        books, held = self._find(request)
        books.release(held, self.clock.now)
        return pb.ReleaseResponse(reservation=held.pb, balances=books.balances(held))

    def _do_extend(self, request: pb.ExtendRequest) -> pb.ExtendResponse:
        books, held = self._find(request)
        if not request.amounts and not request.HasField("ttl"):
            raise _fault("ttl", "must be given, or amounts")
        self._check_amounts(request.amounts, None)
        if request.request_id not in books.requests:
            self._check_state(books)
            books.extend(held, request, self.clock.now)
            if request.request_id:
                books.requests[request.request_id] = (b"Extend", held.pb.name)
        return pb.ExtendResponse(reservation=held.pb, balances=books.balances(held))

    def _do_amend(self, request: pb.AmendRequest) -> pb.AmendResponse:
        books, held = self._find(request)
        charged = held.pb.state == EXPIRED and held.pb.on_expiry == usage_pb2.ON_EXPIRY_CHARGE
        if held.pb.state in (RESERVED, RELEASED) or (held.pb.state == EXPIRED and not charged):
            raise in_state(held, errors.ReservationNotCharged)
        for amount in request.amounts:
            books._charge(held, amount.resource, amount.quantity)
        return pb.AmendResponse(reservation=held.pb, balances=books.balances(held))

    def _do_check(self, request: pb.CheckRequest) -> pb.CheckResponse:
        books = self._books(request.tenant)
        self._check_amounts(request.amounts, "amounts")
        granted, violations, _ = books.verdicts(
            request.amounts, _subject(request), request.allow_partial, self.clock.now
        )
        if books.suspended or violations:
            return pb.CheckResponse(allowed=False, suspended=books.suspended)
        amounts = [pb.Amount(resource=name, quantity=quantity) for name, quantity in sorted(granted.items())]
        return pb.CheckResponse(allowed=True, granted=amounts)

    def _do_get_usage(self, request: pb.GetUsageRequest) -> pb.GetUsageResponse:
        balances = self._books(request.tenant).usage(self.clock.now)
        for name in ("agent", "user", "model"):
            if request.HasField(name):
                wanted = getattr(request, name)
                balances = [one for one in balances if not one.HasField(name) or getattr(one, name) == wanted]
        if request.resources:
            balances = [one for one in balances if one.resource in request.resources]
        return pb.GetUsageResponse(balances=balances)

    def _do_get_reservation(self, request: pb.GetReservationRequest) -> usage_pb2.Reservation:
        return self._find(request)[1].pb

    def _do_list_reservations(self, request: pb.ListReservationsRequest) -> pb.ListReservationsResponse:
        states = set(request.states) or {RESERVED}
        found = [held for held in self._books(request.tenant).held.values() if held.pb.state in states]
        if request.HasField("agent"):
            found = [held for held in found if held.subject.agent == request.agent]
        if request.HasField("min_age"):
            latest = self.clock.now - request.min_age.ToTimedelta()
            found = [held for held in found if held.created <= latest]
        return pb.ListReservationsResponse(reservations=[held.pb for held in reversed(found)])

    def _do_batch(self, request: pb.BatchRequest) -> pb.BatchResponse:
        if not 1 <= len(request.operations) <= 1_000:
            raise _fault("operations", "must have 1-1000 elements")
        reply = pb.BatchResponse()
        for operation in request.operations:
            kind = operation.WhichOneof("operation") or ""
            result = reply.results.add()
            try:
                getattr(result, kind).CopyFrom(getattr(self, f"_do_{kind}")(getattr(operation, kind)))
            except errors.TopeError as error:
                result.error.CopyFrom(errors.to_status(error))
        return reply

    # What the calls have in common.

    def _books(self, tenant: str) -> Books:
        found = self._tenants.get(tenant)
        if found is None:
            raise _missing(errors.TenantNotFound, "TENANT_NOT_FOUND", "tenant", tenant)
        return found

    def _begin(self, method: str, request: Any, amounts: Any, negative: bool = False) -> tuple[Books, Held | None]:
        """Checks a request with a `request_id`. Also returns the reservation, if the request is a repeat."""
        self._check_amounts(amounts, "amounts", negative)
        books = self._books(request.tenant)
        known = books.requests.get(request.request_id) if request.request_id else None
        if known is None:
            return books, None
        if known[0] != _payload(method, request):
            raise _exists(errors.RequestIdReused, "REQUEST_ID_REUSED", "request", request.request_id)
        return books, books.held[known[1]]

    def _remember(self, books: Books, method: str, request: Any, held: Held) -> None:
        if request.request_id:
            books.requests[request.request_id] = (_payload(method, request), held.pb.name)

    def _check_state(self, books: Books) -> None:
        if books.suspended:
            metadata = {"tenant": books.id}
            text = f'tenant "{books.id}" is suspended'
            raise errors.TenantSuspended(text, reason="TENANT_SUSPENDED", metadata=metadata)

    def _check_amounts(self, amounts: Any, required: str | None, negative: bool = False) -> None:
        if required and not amounts:
            raise _fault(required, "must have 1-16 elements")
        if len(amounts) > 16:
            raise _fault("amounts", "must have at most 16 elements")
        seen: set[str] = set()
        for index, amount in enumerate(amounts):
            if required:
                self._check_resource(amount.resource, f"amounts[{index}].resource")
            if amount.resource in seen:
                raise _fault(f"amounts[{index}].resource", "must be there once")
            if amount.quantity < 0 and not negative:
                raise _fault(f"amounts[{index}].quantity", f"must be 0 to {INT64_MAX}")
            seen.add(amount.resource)

    def _check_resource(self, id: str, field: str) -> None:
        if id not in self._resources:
            raise _fault(field, f'must be a declared resource, and "{id}" is not')

    def _new(self, request: Any, subject: Subject, deadline: dt.datetime | None) -> Held:
        name, now = f"fake-{next(self._numbers)}", self.clock.now
        found = usage_pb2.Reservation(
            name=name,
            tenant=request.tenant,
            agent=request.agent,
            user=request.user,
            model=request.model,
            labels=request.labels,
            request_id=request.request_id,
            create_time=timestamp(now),
            expire_time=timestamp(deadline),
        )
        return Held(found, subject, deadline, now)

    def _find(self, request: Any) -> tuple[Books, Held]:
        if request.reservation:
            for books in self._tenants.values():
                if request.reservation in books.held:
                    return books, books.held[request.reservation]
            raise _missing(errors.ReservationNotFound, "RESERVATION_NOT_FOUND", "reservation", request.reservation)
        books = self._books(request.tenant)
        known = books.requests.get(request.reserve_request_id)
        if known is None or known[0] == b"Extend":
            id = request.reserve_request_id
            raise _missing(errors.ReservationNotFound, "RESERVATION_NOT_FOUND", "request", id)
        return books, books.held[known[1]]


def _subject(request: Any) -> Subject:
    return Subject(request.agent, request.user, request.model, dict(request.labels))


def _payload(method: str, request: Any) -> bytes:
    return method.encode() + bytes(request.SerializeToString(deterministic=True))


def _snake(method: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in method).lstrip("_")


def _missing(kind: type[errors.NotFound], reason: str, what: str, id: str) -> errors.NotFound:
    error = kind(f'{what} "{id}" does not exist', reason=reason)
    error.what, error.id = what, id
    return error


def _exists(kind: type[errors.AlreadyExists], reason: str, what: str, id: str) -> errors.AlreadyExists:
    error = kind(f'{what} "{id}" exists', reason=reason)
    error.what, error.id = what, id
    return error


def _fault(field: str, text: str) -> errors.InvalidArgument:
    error = errors.InvalidArgument(f"{field} {text}", reason="INVALID_ARGUMENT")
    error.faults = (errors.Fault(field, text),)
    return error


__all__ = ["Clock", "Fake"]
