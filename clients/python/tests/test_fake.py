"""The fake decides as the real server does: the same random operations have the same outcomes on both."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest
from conftest import World, limit

import tope
from tope import errors
from tope.testing import Clock, Fake, Server
from tope.v1 import admin_service_pb2 as admin_pb
from tope.v1 import policy_pb2, usage_pb2
from tope.v1 import quota_service_pb2 as pb

RESOURCES = ("tokens", "requests", "uncounted")


def limits() -> list[policy_pb2.Limit]:
    lifetime = policy_pb2.PERIOD_LIFETIME
    return [
        policy_pb2.Limit(id="all", resource="tokens", quantity=4_000, period=lifetime),
        policy_pb2.Limit(
            id="agent", resource="tokens", quantity=1_500, period=lifetime, per=[policy_pb2.DIMENSION_AGENT]
        ),
        policy_pb2.Limit(
            id="soft",
            resource="tokens",
            quantity=500,
            period=policy_pb2.PERIOD_YEAR,
            enforcement=policy_pb2.ENFORCEMENT_SOFT,
        ),
        policy_pb2.Limit(id="run", resource="requests", quantity=40, period=lifetime, per_labels=["run"]),
        policy_pb2.Limit(id="big", resource="requests", quantity=15, period=lifetime, model="big"),
        policy_pb2.Limit(
            id="watch",
            resource="tokens",
            quantity=300,
            period=policy_pb2.PERIOD_MONTH,
            enforcement=policy_pb2.ENFORCEMENT_OBSERVE,
        ),
    ]


class Twins:
    """The same operations on both servers. Names of reservations differ, so they are named by number."""

    def __init__(self, server: Server, tenant: str) -> None:
        fake = Fake(Clock(dt.datetime.now(dt.timezone.utc)))
        fake.add_resource("uncounted")
        server.add_resource("uncounted")
        for home in (fake, server):
            home.add(tenant, limits())
        self.tenant, self.fake = tenant, fake
        self.clients = [tope.Client(fake, timeout=10), tope.Client(server.target, timeout=10)]
        self.names: list[tuple[str, str]] = []

    def run(self, method: str, request: Any, number: int | None) -> Any:
        seen = []
        for index, client in enumerate(self.clients):
            copy = type(request)()
            copy.CopyFrom(request)
            self.fake.clock.advance(0.001)
            if number is not None:
                copy.reservation = self.names[number][index]
            try:
                reply = client.call(method, copy)
                seen.append((reply.reservation.name, self.outcome(reply.reservation)))
            except errors.TopeError as error:
                seen.append(("", self.error(error, method)))
        assert seen[0][1] == seen[1][1], (method, request)
        if number is None and seen[0][0] and (seen[0][0], seen[1][0]) not in self.names:
            self.names.append((seen[0][0], seen[1][0]))

    @staticmethod
    def outcome(one: Any) -> Any:
        amounts = [(amount.resource, amount.reserved, amount.committed, amount.overrun) for amount in one.amounts]
        return usage_pb2.ReservationState.Name(one.state), amounts, one.late, one.agent, dict(one.labels)

    @staticmethod
    def error(error: errors.TopeError, method: str) -> Any:
        if isinstance(error, tope.QuotaExceeded):
            figures = sorted((one.limit, one.remaining, one.allowance, one.requested) for one in error.violations)
            # Whether another hold helps an Extend depends on milliseconds, which the two clocks do not share.
            return type(error), figures, error.retry_after is None and method != "Extend"
        faults = error.faults[0].field if isinstance(error, tope.InvalidArgument) else None
        return type(error), error.code, error.reason, faults, error.metadata.get("state")

    def compare(self) -> None:
        """Compares the balances of both."""
        found = []
        for client in self.clients:
            balances = [
                (
                    *(one.limit_id, one.resource, one.committed, one.reserved, one.remaining, one.exceeded),
                    *(one.refused, one.agent, one.model, tuple(sorted(one.labels.items()))),
                )
                for one in client.calls.usage(self.tenant)
            ]
            found.append(sorted(balances))
        assert found[0] == found[1]


def random_amounts(chance: random.Random, low: int = 0) -> dict[str, int]:
    chosen = chance.sample(RESOURCES, chance.randint(1, 3))
    most = {"tokens": 700, "requests": 8, "uncounted": 50}
    return {resource: chance.randint(low, most[resource]) for resource in chosen}


def random_call(chance: random.Random, tenant: str, count: int) -> tuple[str, Any, int | None]:
    who = {"tenant": tenant, "agent": chance.choice(["a", "b", ""]), "model": chance.choice(["big", "small"])}
    labels = {"run": chance.choice("12")} if chance.random() < 0.7 else {}
    request_id = chance.choice(["", f"id-{chance.randint(1, 30)}"])
    amounts = [pb.Amount(resource=name, quantity=units) for name, units in random_amounts(chance).items()]
    number = chance.randrange(count) if count else None
    kind = chance.choice(["Reserve"] * 5 + ["Commit"] * 3 + ["Release", "Extend", "Record", "Wrong"])
    if kind == "Wrong":
        wrong = chance.choice([pb.Amount(resource="nothing", quantity=1), pb.Amount(resource="tokens", quantity=-1)])
        reserve = pb.ReserveAmount(resource=wrong.resource, quantity=wrong.quantity)
        return "Reserve", pb.ReserveRequest(amounts=[reserve], **who), None
    if kind == "Record":
        for amount in amounts:
            amount.quantity *= chance.choice([1, 1, 1, -1])
        return kind, pb.RecordRequest(request_id=request_id, amounts=amounts, labels=labels, **who), None
    if kind == "Reserve" or number is None:
        partial = chance.random() < 0.3
        least = chance.choice([0, 1, 3]) if partial else 0
        wanted = [
            pb.ReserveAmount(resource=one.resource, quantity=one.quantity, minimum=min(least, one.quantity))
            for one in amounts
        ]
        request = pb.ReserveRequest(request_id=request_id, amounts=wanted, allow_partial=partial, labels=labels, **who)
        return "Reserve", request, None
    if kind == "Commit":
        return kind, pb.CommitRequest(amounts=amounts if chance.random() < 0.8 else []), number
    if kind == "Extend":
        return kind, pb.ExtendRequest(amounts=amounts), number
    return kind, pb.ReleaseRequest(), number


@pytest.mark.parametrize("seed", range(12))
def test_random_operations_have_the_same_outcomes(real: World, tope_server: Server, seed: int) -> None:
    chance = random.Random(seed)
    twins = Twins(tope_server, real.tenant)
    for number in range(250):
        twins.run(*random_call(chance, real.tenant, len(twins.names)))
        if number % 50 == 0:
            twins.compare()
    twins.compare()
    for client in twins.clients:
        client.close()


def test_the_clock_ends_holds_and_windows() -> None:
    fake = Fake()
    fake.add("t", {"tokens": 100})
    client = tope.Client(fake, tenant="t")
    cores = [
        client.hold(quantity, ttl=30, on_expiry=how, extend=False).begin()
        for quantity, how in [(60, "release"), (40, "charge")]
    ]
    with pytest.raises(tope.QuotaExceeded) as caught, client.hold(50):
        pass
    assert caught.value.retry_after == 30
    fake.clock.advance(31)
    [balance] = client.calls.usage("t")
    assert (balance.committed, balance.reserved, balance.remaining) == (40, 0, 60)
    with pytest.raises(tope.QuotaExceeded) as caught, client.hold(100):
        pass
    assert caught.value.retry_after == 12 * 3_600 - 31, "the window ends at midnight"
    fake.clock.advance(caught.value.retry_after)
    with client.hold(100) as hold:
        hold.use(tokens=100)
    for core in cores:
        core.state = "settled"
    client.close()


@pytest.mark.parametrize(
    ("period", "end"),
    [
        ("MINUTE", "2026-01-15T12:01"), ("HOUR", "2026-01-15T13:00"), ("DAY", "2026-01-16T00:00"),
        ("WEEK", "2026-01-19T00:00"), ("MONTH", "2026-02-01T00:00"), ("YEAR", "2027-01-01T00:00"),
    ],
)  # fmt: skip
def test_windows_are_those_of_the_calendar(period: str, end: str) -> None:
    fake = Fake()
    fake.add("t", [limit(10, period=policy_pb2.Period.Value(f"PERIOD_{period}"))])
    [balance] = tope.Client(fake, tenant="t").calls.usage("t")
    assert balance.window_end.ToDatetime().isoformat().startswith(end)


@pytest.mark.parametrize(
    "bad",
    [{"anchor_day": 5}, {"carry": policy_pb2.Carry(percent=5)}, {"origin_date": "2026-01-01"}],
)
def test_what_the_fake_does_not_know_is_an_error(bad: dict[str, Any]) -> None:
    client = tope.Client(Fake())
    request = admin_pb.CreatePlanRequest(
        plan=policy_pb2.Plan(
            id="p", limits=[policy_pb2.Limit(id="l", resource="r", period=policy_pb2.PERIOD_MONTH, **bad)]
        )
    )
    with pytest.raises(errors.Unimplemented, match=next(iter(bad))):
        client.call("CreatePlan", request)
    with pytest.raises(errors.Unimplemented, match="CreateWebhook"):
        client.call("CreateWebhook", admin_pb.CreatePlanRequest())


def test_a_fake_is_made_like_a_server() -> None:
    client = tope.Client(Fake())
    resource = policy_pb2.Resource(id="tokens")
    client.call("CreateResource", admin_pb.CreateResourceRequest(resource=resource))
    with pytest.raises(errors.NameTaken):
        client.call("CreateResource", admin_pb.CreateResourceRequest(resource=resource))
    client.call("CreatePlan", admin_pb.CreatePlanRequest(plan=policy_pb2.Plan(id="p", limits=[limit(5)])))
    tenant = policy_pb2.Tenant(id="t", plan="p")
    client.call("CreateTenant", admin_pb.CreateTenantRequest(tenant=tenant))
    with client.hold(5, tenant="t") as hold:
        hold.use(tokens=5)
    with pytest.raises(tope.QuotaExceeded), client.hold(1, tenant="t"):
        pass
