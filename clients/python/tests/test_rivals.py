"""What clients of other systems do wrong (section 4 of the specification of the clients), each as a test of ours."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator

import pytest
from conftest import World, limit

import tope
from tope import errors


def one(world: World) -> tuple[int, int]:
    """Returns what the only reservation reserved and committed."""
    for client in world.clients:
        assert client.flush(10)
    [found] = world.reservations()
    return found.amounts[0].reserved, found.amounts[0].committed


def test_a_decorated_generator_is_not_committed_before_its_first_chunk(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client()

    @client.guard(100, prompt="a b c")
    def ask() -> Iterator[str]:
        assert world.balances()["tokens-per-day"].reserved == 100, "the hold is open while the stream runs"
        yield "w0 "

    stream = ask()
    assert next(stream) == "w0 "
    assert world.balances()["tokens-per-day"].committed == 0
    stream.close()
    assert one(world) == (100, 4)


def test_a_stream_that_breaks_after_900_known_tokens_is_charged_900(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client()

    def chunks() -> Iterator[str]:
        for number in range(900):
            yield f"w{number} "
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError), client.hold(1_000, prompt="a b c") as hold:
        for _ in hold.watch(chunks()):
            pass
    assert one(world) == (1_000, 903)


@pytest.mark.parametrize("mode", ["allow", lambda error, tenant: True])
def test_a_refusal_passes_in_no_mode(world: World, mode: tope._client.OnUnavailable) -> None:
    world.tenant_with(limit(100))
    client = world.client(on_unavailable=mode)
    for fault in (None, "lose-reply"):
        if fault:
            assert world.faulty is not None
            world.faulty.fail("Reserve", "lose-reply")
        with pytest.raises(tope.QuotaExceeded), client.hold(101):
            raise AssertionError("the call passed")
    world.home.suspend(world.tenant)
    with pytest.raises(errors.TenantSuspended), client.hold(1):
        raise AssertionError("the call passed")
    with pytest.raises(errors.TenantNotFound), client.hold(1, tenant="nobody-here"):
        raise AssertionError("the call passed")


def test_the_usage_is_committed_and_not_the_estimate(world: World) -> None:
    world.tenant_with(limit(10_000))
    client = world.client()
    with client.hold(prompt="a b c", max_tokens=500) as hold:
        hold.use({"usage": {"prompt_tokens": 4, "completion_tokens": 6}})
    assert one(world) == (503, 10)


def test_one_client_serves_threads_and_asyncio(world: World) -> None:
    world.tenant_with(limit(10_000))
    client = world.client()

    async def main() -> None:
        async with client.hold(10) as hold:
            hold.use(tokens=1)
            with client.hold(10, reuse="alone") as other:
                other.use(tokens=2)

    for _ in range(2):  # A second event loop, too.
        asyncio.run(main())
    with client.hold(10) as hold:
        hold.use(tokens=4)
    assert sum(found.amounts[0].committed for found in world.reservations()) == 10


def test_a_late_commit_is_charged(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client()
    with client.hold(100, ttl=0.05, extend=False, on_expiry="release") as hold:
        if world.fake is not None:
            world.fake.clock.advance(3_600)
        time.sleep(0.2)
        hold.use(tokens=90)
    assert one(world) == (100, 90)
    assert world.reservations()[0].late


def test_a_hundred_holds_need_one_thread(world: World) -> None:
    world.tenant_with(limit(1_000_000))
    client = world.client()
    before = set(threading.enumerate())
    scopes = [client.hold(10, ttl=1.5, reuse="alone") for _ in range(100)]
    holds = [scope.__enter__() for scope in scopes]
    new = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("tope")]
    assert len(new) == 1
    time.sleep(3.2)
    if world.fake is not None:
        world.fake.clock.advance(1.4)
    assert world.faulty is not None
    assert world.faulty.calls["Batch"] < 50, "the holds are extended together"
    for hold, scope in zip(holds, scopes, strict=True):
        hold.use(tokens=1)
        scope.__exit__(None, None, None)
    assert client.flush(10)
    found = world.reservations()
    assert len(found) == 100
    assert not any(one.late for one in found), "each hold was extended, more often than ten times if it must be"


def test_one_hold_has_several_resources(world: World) -> None:
    world.tenant_with(limit(1_000), limit(10, "requests"))
    client = world.client()
    with client.hold({"tokens": 100, "requests": 1}) as hold:
        hold.use(tokens=80)
    [found] = world.reservations()
    assert {amount.resource: amount.committed for amount in found.amounts} == {"tokens": 80, "requests": 1}


def test_nested_holds_are_counted_once(world: World) -> None:
    world.tenant_with(limit(150))
    client = world.client()
    with client.hold(100):
        for _ in range(2):
            with client.hold(50) as inner:
                inner.use(tokens=40)
    assert one(world) == (100, 80)


def test_an_outage_is_no_denial(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client(timeout=0.3)
    assert world.faulty is not None
    world.faulty.fail("Reserve", "lose-request", times=100)
    with pytest.raises(errors.Unreachable) as caught, client.hold(10):
        pass
    assert not isinstance(caught.value, tope.QuotaExceeded)
    assert isinstance(caught.value, tope.Unavailable)


def test_replies_are_typed(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client()
    with client.hold(100) as hold:
        hold.use(tokens=80)
    assert isinstance(hold.settlement, tope.Settlement)
    assert hold.settlement.reservation is not None
    assert hold.settlement.reservation.amounts[0].committed == 80
    [balance] = [one for one in client.calls.usage(world.tenant) if one.limit_id]
    assert (balance.committed, balance.remaining) == (80, 920)


def test_an_estimate_is_warned_of_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.tenant_with(limit(1_000))
    client = world.client()
    with caplog.at_level(logging.WARNING, "tope"):
        for _ in range(3):
            with client.hold(10):
                pass
    assert sum("charged as reserved" in record.message for record in caplog.records) == 1
