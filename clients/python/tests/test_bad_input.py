"""Bad input from all sides: the authority, the provider, the caller and the machine."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import World, limit
from provider import Provider, has_token

import tope
from tope import errors
from tope.testing import Fake, Server
from tope.testing.server import free_port
from tope.v1 import usage_pb2

APIS = ("openai-chat", "openai-responses", "anthropic", "gemini")


def wait_until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not met():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# The authority.


def test_an_authority_that_is_away_costs_two_seconds_and_no_more() -> None:
    client = tope.Client(f"127.0.0.1:{free_port()}", tenant="t")
    began = time.monotonic()
    with pytest.raises(errors.Unreachable), client.hold(1):
        raise AssertionError("the call passed")
    assert time.monotonic() - began < 2.5

    async def main() -> None:
        async with client.hold(1):
            raise AssertionError("the call passed")

    began = time.monotonic()
    with pytest.raises(errors.Unreachable):
        asyncio.run(main())
    assert time.monotonic() - began < 2.5
    client.close(0.1)


def test_an_authority_that_hangs_costs_two_seconds_and_no_more() -> None:
    with Server() as server:
        server.add("t", {"tokens": 1_000})
        client = tope.Client(server.target, tenant="t", on_unavailable="allow")
        with client.hold(1) as hold:
            hold.use(tokens=1)
        process = server._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rsplit(")")[1].split()[0] == "T")
        began = time.monotonic()
        try:
            with client.hold(10) as hold:
                assert hold.allowed
                assert 1.5 < time.monotonic() - began < 2.5
                hold.use(tokens=7)
            assert time.monotonic() - began < 4
        finally:
            process.send_signal(signal.SIGCONT)
        assert client.flush(20)
        # The Reserve had reached the server, or it had not. It is charged once.
        assert sum(one.amounts[0].committed for one in client.calls.reservations("t")) == 8
        [balance] = client.calls.usage("t")
        assert (balance.committed, balance.reserved) == (8, 0)
        client.close()


def test_what_was_allowed_waits_for_the_authority_and_is_recorded_once() -> None:
    with Server() as server:
        server.add("t", {"tokens": 10_000})
        client = tope.Client(server.target, tenant="t", on_unavailable="allow", timeout=0.2)
        server.kill()
        for _ in range(20):
            with client.hold(10, agent="a") as hold:
                assert hold.allowed
                hold.use(tokens=7)
        assert not client.flush(0.5)
        assert client.pending == 20
        server.start()
        assert client.flush(30)
        found = list(client.calls.reservations("t"))
        assert [(one.agent, one.amounts[0].committed) for one in found] == [("a", 7)] * 20
        client.close()


def test_a_function_decides_whether_a_call_is_allowed() -> None:
    seen: list[tuple[type, str]] = []

    def decide(error: errors.TopeError, tenant: str) -> bool:
        seen.append((type(error), tenant))
        return tenant == "vip"

    client = tope.Client(f"127.0.0.1:{free_port()}", on_unavailable=decide, timeout=0.2)
    with client.hold(1, tenant="vip") as hold:
        assert hold.allowed
    with pytest.raises(errors.Unreachable), client.hold(1, tenant="other"):
        pass
    assert seen == [(errors.Unreachable, "vip"), (errors.Unreachable, "other")]
    assert not client.close(0.1)
    assert client.lost == 2


def test_settlements_that_wait_are_bounded() -> None:
    client = tope.Client(f"127.0.0.1:{free_port()}", tenant="t", on_unavailable="allow", timeout=0.05, queue_max=5)
    for _ in range(8):
        with client.hold(1):
            pass
    assert client.pending <= 6
    assert client.lost >= 2
    client.close(0.1)


def test_a_server_that_is_no_tope_is_a_typed_error(provider: Provider) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = tope.Client(f"127.0.0.1:{port}", tenant="t")
    with pytest.raises(errors.Unimplemented), client.hold(1):
        pass
    client.close(0.1)
    server.stop(None)
    client = tope.Client(provider.url, tenant="t", timeout=0.5)
    with pytest.raises((tope.Unavailable, errors.DeadlineExceeded)), client.hold(1):
        pass
    client.close(0.1)


@pytest.mark.parametrize(
    "target",
    ["", "http://", "ftp://host:1", "host:port", "host:99999", "http://host:1/path", "http://u@host:1", "a b:1"],
)
def test_a_wrong_target_is_named(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not target:
        monkeypatch.setenv("TOPE_TARGET", "://")
    with pytest.raises(ValueError, match="target"):
        tope.Client(target or None)


@pytest.mark.parametrize(
    "target", ["h:1", "http://h:1", "https://h", "http://[::1]:50051", "127.0.0.1:1", "http://h:1/"]
)
def test_a_right_target_is_read(target: str) -> None:
    tope.Client(target).close()


# The provider.


@pytest.mark.parametrize("api", APIS)
def test_a_stream_is_cut_at_each_chunk(world: World, provider: Provider, api: str) -> None:
    world.tenant_with(limit(10_000))
    client = world.client()
    for cut in range(6):
        try:
            with (
                client.hold(50, prompt="a b c", request_id=f"cut-{cut}") as hold,
                provider.stream(api, f"tokens-5+cut-after-{cut}", world.tenant) as events,
            ):
                tokens = sum(has_token(event) for event in hold.watch(events))
        except Exception as error:
            assert type(error).__module__.startswith("httpx")  # noqa: PT017
        else:
            assert tokens == 5, "only a stream that has sent everything can end"
    charged = {one.request_id: one.amounts[0].committed for one in world.reservations()}
    sent = {f"cut-{cut}": entry["input"] + entry["output"] for cut, entry in enumerate(provider.entries(world.tenant))}
    # Before the first token, a stream of Anthropic has its input, and others have nothing: the hold is charged.
    assert charged.pop("cut-0") == (3 if api in ("anthropic", "openai-responses") else 50)
    sent.pop("cut-0")
    assert charged == sent


@pytest.mark.parametrize("api", APIS)
def test_garbage_is_charged_as_reserved_or_by_what_came(world: World, provider: Provider, api: str) -> None:
    world.tenant_with(limit(10_000))
    client = world.client()

    def ask() -> None:
        with client.hold(50, prompt="a b c") as hold:
            hold.sent()
            hold.use(provider.ask(api, "garbage", world.tenant))

    with pytest.raises(ValueError, match="Expecting value"):
        ask()
    with client.hold(50) as hold:
        hold.use("<html>", None, 5, {"error": "x"})
    with client.hold(50) as hold:
        for chunk in (None, "text", b"bytes", 7, {"usage": "much"}, object()):
            hold.observe(chunk)
    assert [one.amounts[0].committed for one in world.reservations()] == [50, 50, 50]


def test_a_provider_that_cannot_be_reached_costs_nothing(world: World) -> None:
    import httpx

    world.tenant_with(limit(10_000))
    client = world.client()
    for error in (httpx.ConnectError("x"), httpx.ConnectTimeout("x"), ConnectionRefusedError()):
        with pytest.raises(type(error)), client.hold(50):
            raise error
    try:
        with client.hold(50):
            try:
                raise httpx.ConnectError("x")
            except httpx.ConnectError as cause:
                raise RuntimeError("as libraries of providers do") from cause
    except RuntimeError:
        pass
    # A read that timed out, or broke: the provider may have worked.
    for error in (httpx.ReadTimeout("x"), httpx.ReadError("x"), TimeoutError(), ConnectionResetError()):
        with pytest.raises(type(error)), client.hold(50):
            raise error
    assert [one.amounts[0].committed for one in world.reservations()] == [0, 0, 0, 0, 50, 50, 50, 50]


# The caller.


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"amounts": -1}, "amounts"), ({"amounts": 1.5}, "amounts"), ({"amounts": True}, "amounts"),
        ({"amounts": 1 << 63}, "amounts"), ({"amounts": {"tokens": None}}, "amounts"), ({}, "amounts"),
        ({"amounts": 1, "ttl": 0}, "ttl"), ({"amounts": 1, "ttl": 86_401}, "ttl"), ({"amounts": 1, "ttl": "5"}, "ttl"),
        ({"amounts": 1, "on_expiry": "keep"}, "on_expiry"), ({"amounts": 1, "on_unknown": "x"}, "on_unknown"),
        ({"amounts": 1, "on_unavailable": "x"}, "on_unavailable"), ({"amounts": 1, "reuse": "x"}, "reuse"),
        ({"amounts": 1, "minimum": -1}, "minimum"), ({"amounts": 1, "tenant": ""}, "tenant"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(options: dict[str, Any], name: str) -> None:
    client = tope.Client(Fake(), tenant="t")
    with pytest.raises((ValueError, TypeError), match=name):
        client.hold(**options)


def test_wrong_options_of_a_client_are_named() -> None:
    for options, name in [
        ({"timeout": 0}, "timeout"), ({"timeout": "2"}, "timeout"), ({"ttl": 1e9}, "ttl"), ({"on_expiry": 5}, "on_exp"),
        ({"on_unavailable": "maybe"}, "on_unavailable"), ({"tokenizer": 7}, "tokenizer"),
        ({"key": "two words"}, "key"), ({"key": "zeile\n"}, "key"), ({"client_cert": "x"}, "client_key"),
    ]:  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=name):
            tope.Client("h:1", **options)
    with pytest.raises(ValueError, match="key_file names /nowhere"):
        tope.Client("h:1", tenant="t", key_file="/nowhere").hold(1).begin()
    with pytest.raises(ValueError, match="ca names /nowhere"):
        tope.Client("https://h:1", tenant="t", ca="/nowhere").hold(1).begin()


def test_a_hold_is_entered_and_settled_once(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client()
    scope = client.hold(100)
    with scope as hold:
        hold.use(tokens=5)
        assert hold.commit(tokens=1) is not None
        assert hold.commit(tokens=50) is not None
        hold.release()
        with pytest.raises(RuntimeError, match="settled"):
            hold.extend({"tokens": 1})
    with pytest.raises(RuntimeError, match="once"), scope:
        pass
    assert [one.amounts[0].committed for one in world.reservations()] == [6]


def test_a_hold_that_is_extended_and_one_that_is_refused_more(world: World) -> None:
    world.tenant_with(limit(100))
    client = world.client()
    with client.hold(50) as hold:
        hold.extend({"tokens": 30}, ttl=600)
        assert hold.granted == {"tokens": 80}
        with pytest.raises(tope.QuotaExceeded):
            hold.extend({"tokens": 21})
        hold.use(tokens=75)
    assert [one.amounts[0].committed for one in world.reservations()] == [75]


def test_a_prompt_of_ten_megabytes(world: World) -> None:
    world.tenant_with(limit(100_000_000))
    client = world.client(estimator=tope.Estimator())
    prompt = "The quick brown fox. " * 500_000
    began = time.monotonic()
    with client.hold(prompt=prompt, max_tokens=100) as hold:
        assert time.monotonic() - began < 2
        assert 2_000_000 < hold.granted["tokens"] < 4_000_000
        assert hold.max_tokens == 100
        hold.use(tokens=5)


def test_a_meter_with_a_resource_that_nobody_declared_does_not_lose_the_tokens(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client(meter=lambda usage, model: {"tokens": usage.total, "no-such-resource": 5})
    for _ in range(2):
        with client.hold(100) as hold:
            hold.use(tope.Usage(10, 20))
    assert client.flush(5)
    assert [one.amounts[0].committed for one in world.reservations()] == [30, 30]


def test_an_outer_hold_that_ends_first_loses_nothing(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client()

    async def inner(started: asyncio.Event, go: asyncio.Event) -> None:
        async with client.hold(50) as hold:
            started.set()
            await go.wait()
            hold.use(tokens=40)

    async def main() -> None:
        started, go = asyncio.Event(), asyncio.Event()
        async with client.hold(100) as outer:
            task = asyncio.create_task(inner(started, go))
            await started.wait()
            outer.use(tokens=10)
        go.set()
        await task

    asyncio.run(main())
    assert client.flush(5)
    assert sorted(one.amounts[0].committed for one in world.reservations()) == [10, 40]


def test_threads_share_a_hold(world: World) -> None:
    world.tenant_with(limit(1_000_000))
    client = world.client()
    with client.hold(10_000) as hold:
        threads = [threading.Thread(target=lambda: [hold.use(tokens=1) for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [one.amounts[0].committed for one in world.reservations()] == [4_000]


class Slow:
    """A transport on which a method never returns to its caller, who is stopped meanwhile."""

    def __init__(self, inner: Any, method: str, *, arrives: bool) -> None:
        self.inner, self.method, self.arrives = inner, method, arrives
        self.waits = 0

    def call(self, method: str, request: Any, timeout: float) -> Any:
        if method != self.method:
            return self.inner.call(method, request, timeout)
        if self.arrives:
            self.inner.call(method, request, timeout)
        raise KeyboardInterrupt

    async def acall(self, method: str, request: Any, timeout: float) -> Any:
        if method != self.method:
            return await self.inner.acall(method, request, timeout)
        if self.arrives:
            await self.inner.acall(method, request, timeout)
        self.waits += 1
        await asyncio.sleep(30)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize(("method", "charged"), [("Commit", 80), ("Reserve", 0)])
def test_a_caller_who_is_stopped_in_a_call_of_tope(world: World, method: str, charged: int, arrives: bool) -> None:
    """The Commit is repeated in the background, and the hold of a Reserve is released."""
    world.tenant_with(limit(10_000))
    world.client()
    slow = Slow(world.faulty, method, arrives=arrives)
    client = tope.Client(slow, tenant=world.tenant)
    world.clients.append(client)

    def work() -> None:
        with client.hold(100) as hold:
            hold.use(tokens=80)

    async def awork() -> None:
        async with client.hold(100) as hold:
            hold.use(tokens=80)

    async def main() -> None:
        task = asyncio.create_task(awork())
        while not slow.waits:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    with pytest.raises(KeyboardInterrupt):
        work()
    asyncio.run(main())
    assert client.flush(10)
    found = [(one.state, one.amounts[0].committed) for one in world.reservations()]
    released, committed_ = usage_pb2.RESERVATION_STATE_RELEASED, usage_pb2.RESERVATION_STATE_COMMITTED
    if method == "Commit":
        assert found == [(committed_, charged)] * 2
    else:
        assert found == ([(released, charged)] * 2 if arrives else [])
