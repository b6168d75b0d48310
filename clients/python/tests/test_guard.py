"""The decorator: function, coroutine, generator and asynchronous generator; each ends, breaks, raises, is cancelled and
is dropped. The prompt has 3 tokens, and each item of a stream has one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from conftest import World, limit

import tope

REPLY = {"usage": {"prompt_tokens": 3, "completion_tokens": 7}}


class Broken(Exception):
    """An error in the middle of a call."""


class Stop(BaseException):
    """What KeyboardInterrupt is to a function."""


def settled(world: World) -> tuple[str, int, int]:
    """Returns how the only hold ended: its basis, and what it reserved and committed."""
    for client in world.clients:
        assert client.flush(10)
    [one] = world.reservations()
    [settlement] = world.settlements
    return settlement.basis, one.amounts[0].reserved, one.amounts[0].committed


def start(world: World, **options: Any) -> tope.Client:
    world.tenant_with(limit(10_000))
    return world.client(**options)


# A function.


def test_a_function_ends(world: World) -> None:
    client = start(world)

    @client.guard(100)
    def ask(prompt: str) -> dict[str, Any]:
        return REPLY

    assert ask("hi") is REPLY
    assert settled(world) == ("exact", 100, 10)


@pytest.mark.parametrize("error", [Broken, Stop, KeyboardInterrupt])
def test_a_function_raises_or_is_interrupted(world: World, error: type[BaseException]) -> None:
    client = start(world)

    @client.guard(100)
    def ask() -> None:
        hold = tope.current_hold()
        assert hold is not None
        hold.use(REPLY)
        hold.use(tokens=5)
        raise error

    with pytest.raises(error):
        ask()
    assert settled(world) == ("partial", 100, 15)


def test_a_function_returns_a_stream_which_ends(world: World) -> None:
    client = start(world)

    @client.guard(100, prompt="a b c")
    def ask() -> Iterator[str]:
        return iter(["w0 ", "w1 "])

    stream = ask()
    assert client.flush(5)
    assert not world.settlements, "it is not settled before it was read"
    assert list(stream) == ["w0 ", "w1 "]
    assert settled(world) == ("estimate", 100, 100)


@pytest.mark.parametrize("how", ["close", "drop", "with"])
def test_a_function_returns_a_stream_which_is_left(world: World, how: str) -> None:
    client = start(world)

    @client.guard(100, prompt="a b c")
    def ask() -> Any:
        return iter([f"w{number} " for number in range(9)])

    stream = ask()
    assert [next(stream), next(stream)] == ["w0 ", "w1 "]
    if how == "close":
        stream.close()
    elif how == "with":
        with stream:
            pass
    del stream
    gc.collect()
    assert settled(world) == ("partial", 100, 5)


# A coroutine.


def test_a_coroutine_ends(world: World) -> None:
    client = start(world)

    @client.guard(100)
    async def ask() -> dict[str, Any]:
        await asyncio.sleep(0)
        return REPLY

    async def main() -> None:
        assert await ask() is REPLY
        await client.aclose()

    asyncio.run(main())
    assert settled(world) == ("exact", 100, 10)


def test_a_coroutine_raises(world: World) -> None:
    client = start(world)

    @client.guard(100)
    async def ask() -> None:
        tope.current_hold().use(tokens=4)  # type: ignore[union-attr]
        raise Broken

    with pytest.raises(Broken):
        asyncio.run(ask())
    assert settled(world) == ("partial", 100, 4)


def test_a_coroutine_is_cancelled_twice(world: World) -> None:
    """A web server cancels a task, and its loop cancels what the task still waits for."""
    client = start(world)

    @client.guard(100)
    async def ask() -> None:
        tope.current_hold().use(tokens=4)  # type: ignore[union-attr]
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(ask())
        for _ in range(3):
            await asyncio.sleep(0.05)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert settled(world) == ("partial", 100, 4)


def test_a_coroutine_is_dropped(world: World) -> None:
    client = start(world)
    entered = []

    @client.guard(100)
    async def ask() -> None:
        tope.current_hold().use(tokens=4)  # type: ignore[union-attr]
        entered.append(1)
        await asyncio.sleep(30)

    # The loop ends without cancelling its tasks, as a crash of it does. The coroutine is closed when it is collected.
    loop = asyncio.new_event_loop()
    task = loop.create_task(ask())
    loop.run_until_complete(_until(lambda: bool(entered)))
    loop.close()
    del task
    gc.collect()
    assert settled(world) == ("partial", 100, 4)


async def _until(met: Callable[[], bool]) -> None:
    for _ in range(500):
        if met():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def test_a_coroutine_that_is_never_awaited_holds_nothing(world: World) -> None:
    client = start(world)

    @client.guard(100)
    async def ask() -> None: ...

    ask().close()
    assert client.flush(5)
    assert world.reservations() == []


def test_a_coroutine_returns_a_stream(world: World) -> None:
    client = start(world)

    async def chunks() -> AsyncIterator[str]:
        for number in range(9):
            yield f"w{number} "

    @client.guard(100, prompt="a b c")
    async def ask() -> AsyncIterator[str]:
        return chunks()

    async def main() -> None:
        stream: Any = await ask()
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(main())
    assert settled(world) == ("partial", 100, 4)


# A generator.


def generator(client: tope.Client) -> Any:
    @client.guard(100, prompt="a b c")
    def ask(count: int = 5, fail: bool = False) -> Any:
        for number in range(count):
            yield f"w{number} "
        if fail:
            raise Broken
        return "end"

    return ask


def test_a_generator_ends(world: World) -> None:
    client = start(world)

    def outer() -> Any:
        return (yield from generator(client)())

    stream = outer()
    assert [next(stream) for _ in range(5)] == [f"w{number} " for number in range(5)]
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert stop.value.value == "end"
    assert settled(world) == ("estimate", 100, 100)


def test_a_generator_is_not_settled_before_its_first_chunk(world: World) -> None:
    client = start(world)
    stream = generator(client)()
    assert world.reservations() == [], "a generator that is not started holds nothing"
    next(stream)
    assert client.flush(5)
    assert not world.settlements
    stream.close()
    assert settled(world) == ("partial", 100, 4)


@pytest.mark.parametrize("how", ["break", "close", "drop", "throw", "raise"])
def test_a_generator_is_left_or_breaks(world: World, how: str) -> None:
    client = start(world)
    stream = generator(client)(2, fail=how == "raise")
    if how == "raise":
        with pytest.raises(Broken):
            list(stream)
    else:
        for index, _ in enumerate(stream):
            if index == 1:
                break
        if how == "close":
            stream.close()
        elif how == "throw":
            with pytest.raises(Stop):
                stream.throw(Stop())
        del stream
    gc.collect()
    assert settled(world) == ("partial", 100, 5)


def test_a_generator_gets_what_its_caller_sends_and_throws(world: World) -> None:
    client = start(world)

    @client.guard(100)
    def echo() -> Any:
        got = yield "first"
        try:
            yield f"got {got}"
        except Broken:
            yield "caught"

    stream: Any = echo()
    assert [next(stream), stream.send("x"), stream.throw(Broken())] == ["first", "got x", "caught"]
    stream.close()
    assert settled(world)[0] == "unknown", "the items have no prompt, so nothing is known"


def test_a_generator_that_reports_its_usage_is_not_counted_twice(world: World) -> None:
    client = start(world)

    @client.guard(100, prompt="a b c")
    def ask() -> Iterator[str]:
        hold = tope.current_hold()
        assert hold is not None
        yield "w0 "
        yield "w1 "
        hold.use({"usage": {"prompt_tokens": 3, "completion_tokens": 2}})

    assert len(list(ask())) == 2
    assert settled(world) == ("exact", 100, 5)


def test_the_hold_of_a_generator_does_not_leak_to_its_caller(world: World) -> None:
    client = start(world)
    stream = generator(client)()
    next(stream)
    assert tope.current_hold() is None
    stream.close()
    assert tope.current_hold() is None


# An asynchronous generator.


def async_generator(client: tope.Client) -> Any:
    @client.guard(100, prompt="a b c")
    async def ask(count: int = 5, fail: bool = False) -> AsyncIterator[str]:
        for number in range(count):
            await asyncio.sleep(0)
            yield f"w{number} "
        if fail:
            raise Broken

    return ask


def test_an_async_generator_ends(world: World) -> None:
    client = start(world)

    async def main() -> None:
        assert len([item async for item in async_generator(client)()]) == 5

    asyncio.run(main())
    assert settled(world) == ("estimate", 100, 100)


@pytest.mark.parametrize("how", ["break", "close", "raise", "cancel", "drop"])
def test_an_async_generator_is_left_or_breaks(world: World, how: str) -> None:
    client = start(world)

    async def main() -> None:
        stream = async_generator(client)(2 if how == "raise" else 9, fail=how == "raise")
        seen = 0

        async def read() -> None:
            nonlocal seen
            async for _ in stream:
                seen += 1
                if seen == 2 and how != "raise":
                    if how == "cancel":
                        task.cancel()
                        await asyncio.sleep(30)
                    break

        task = asyncio.create_task(read())
        try:
            await task
        except (Broken, asyncio.CancelledError):
            assert how in ("raise", "cancel")
        if how in ("close", "cancel"):
            await stream.aclose()
        # Otherwise the event loop closes the generator when it is collected, or when the loop ends.

    asyncio.run(main())
    gc.collect()
    assert settled(world) == ("partial", 100, 5)


def test_an_async_generator_is_dropped_without_a_loop(world: World) -> None:
    client = start(world)
    stream = async_generator(client)()
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(stream.__anext__()) == "w0 "
    loop.close()
    del stream
    gc.collect()
    assert settled(world) == ("partial", 100, 4)


def test_an_async_generator_that_is_never_started_holds_nothing(world: World) -> None:
    client = start(world)
    async_generator(client)()
    assert client.flush(5)
    assert world.reservations() == []


# The options.


def test_options_can_depend_on_the_arguments(world: World) -> None:
    client = start(world)

    class Service:
        @client.guard(
            lambda self, text, size: {"tokens": size},
            agent=lambda self, text, size: f"agent-{text}",
            labels=lambda self, text, size: {"run": text},
            usage=lambda result: tope.Usage(1, result),
        )
        def ask(self, text: str, size: int) -> int:
            return 6

    assert Service().ask("x", size=70) == 6
    assert settled(world) == ("exact", 70, 7)
    [one] = world.reservations()
    assert (one.agent, dict(one.labels)) == ("agent-x", {"run": "x"})


def test_a_guard_without_a_client_uses_the_default_client(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start(world)
    monkeypatch.setattr("tope._default._client", client)

    @tope.guard(100)
    def ask() -> dict[str, Any]:
        with tope.hold(50) as inner:
            assert inner.joined
            inner.use(REPLY)
        return REPLY

    ask()
    assert settled(world) == ("exact", 100, 10)


def test_a_refused_call_does_not_run(world: World) -> None:
    client = start(world)
    ran = []

    @client.guard(10_001)
    def ask() -> None:
        ran.append(1)

    @client.guard(10_001)
    async def aask() -> None:
        ran.append(1)

    with pytest.raises(tope.QuotaExceeded):
        ask()
    with pytest.raises(tope.QuotaExceeded):
        asyncio.run(aask())
    assert ran == []


def test_wrong_options_are_named() -> None:
    with pytest.raises(TypeError, match="'tenat'"):
        tope.guard(1, tenat="x")
    with pytest.raises(TypeError, match="usage"):
        tope.guard(1, usage=5)
