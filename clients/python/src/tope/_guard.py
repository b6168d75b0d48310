"""The decorator: each call of a function runs inside a hold, which is settled when the call or its stream ends."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from tope._core import Core, Ending
from tope._hold import Scope, current
from tope.usage import StreamUsage, Usage

if TYPE_CHECKING:
    from tope._client import Client

P = ParamSpec("P")
R = TypeVar("R")

# Options that may be functions of the arguments of the decorated function.
_BY_ARGUMENTS = ("tenant", "agent", "user", "model", "labels", "prompt", "tools", "max_tokens", "n", "request_id")


class Guard:
    """Decorates a function, a coroutine, a generator or an asynchronous generator."""

    def __init__(self, client: Callable[[], Client], amounts: Any, options: dict[str, Any]) -> None:
        self._client, self._amounts, self._options = client, amounts, options
        self._usage: Callable[[Any], object] | None = options.pop("usage", None)
        if self._usage is not None and not callable(self._usage):
            raise TypeError("usage must be a function of the result")
        unknown = set(options) - {*_BY_ARGUMENTS, *_FIXED}
        if unknown:
            raise TypeError(f"guard has no option {sorted(unknown)[0]!r}")

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
        if inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(called):
            wrapper: Any = self._async_generator(function)
        elif inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(called):
            wrapper = self._generator(function)
        elif inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
            wrapper = self._coroutine(function)
        else:
            wrapper = self._function(function)
        return cast("Callable[P, R]", wrapper)

    def _scope(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Client, Scope]:
        options = dict(self._options)
        for name in _BY_ARGUMENTS:
            if callable(options.get(name)):
                options[name] = options[name](*args, **kwargs)
        amounts: Any = self._amounts
        if callable(amounts):
            amounts = amounts(*args, **kwargs)
        client = self._client()
        return client, client.hold(amounts, **options)

    def _note(self, core: Core, result: object) -> None:
        """Adds the usage of a result, unless the function itself has added usage to its hold."""
        known = core.known
        if known.explicit or known.replies or any(not stream.fallback for stream in known.streams):
            return
        reply = self._usage(result) if self._usage is not None else result
        if reply is not None and (self._usage is not None or Usage.of(reply) is not None):
            core.add_reply(reply)

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            client, scope = self._scope(args, kwargs)
            core = scope.begin()
            try:
                with _inside(core):
                    result = function(*args, **kwargs)
                    if not isinstance(result, (Iterator, AsyncIterator)) and not inspect.isawaitable(result):
                        self._note(core, result)
            except BaseException as error:
                client.settle(core, _ending(error), error)
                raise
            if isinstance(result, Iterator):
                return GuardedStream(client, core, result)
            if isinstance(result, AsyncIterator):
                return GuardedAsyncStream(client, core, result)
            if inspect.isawaitable(result):
                return self._await(client, core, result)
            client.settle(core, "end", None)
            return result

        return guarded

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            client, scope = self._scope(args, kwargs)
            core = await scope.abegin()
            return await self._await(client, core, function(*args, **kwargs))

        return guarded

    async def _await(self, client: Client, core: Core, awaitable: Awaitable[Any]) -> Any:
        try:
            with _inside(core):
                result = await awaitable
                if not isinstance(result, (Iterator, AsyncIterator)):
                    self._note(core, result)
        except BaseException as error:
            await client.asettle(core, _ending(error), error)
            raise
        if isinstance(result, Iterator):
            return GuardedStream(client, core, result)
        if isinstance(result, AsyncIterator):
            return GuardedAsyncStream(client, core, result)
        await client.asettle(core, "end", None)
        return result

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            client, scope = self._scope(args, kwargs)
            core = scope.begin()
            try:
                with _inside(core):
                    inner = function(*args, **kwargs)
                result = yield from _drive(client, core, inner)
                self._note(core, result)
            except BaseException as error:
                client.settle(core, _ending(error), error)
                raise
            client.settle(core, "end", None)
            return result

        return guarded

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            client, scope = self._scope(args, kwargs)
            core = await scope.abegin()
            stream = _fallback(core)
            inner = function(*args, **kwargs)
            try:
                step: Callable[[], Awaitable[Any]] = inner.__anext__
                while True:
                    try:
                        with _inside(core):
                            item = await step()
                    except StopAsyncIteration:
                        break
                    stream.observe(item)
                    await client.agrow(core)
                    try:
                        step = functools.partial(inner.asend, (yield item))
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        step = functools.partial(inner.athrow, thrown)
                stream.finished = True
            except BaseException as error:
                try:
                    with _inside(core):
                        await inner.aclose()
                finally:
                    await client.asettle(core, _ending(error), error)
                raise
            await client.asettle(core, "end", None)

        return guarded


_FIXED = (
    "allow_partial", "minimum", "ttl", "on_expiry", "on_unknown", "on_unavailable", "reuse", "extend",
)  # fmt: skip


def _ending(error: BaseException) -> Ending:
    return "left" if isinstance(error, GeneratorExit) else "raise"


@contextmanager
def _inside(core: Core) -> Iterator[None]:
    """Makes the hold the current one while a part of the function runs."""
    token = current.set(core)
    try:
        yield
    finally:
        try:
            current.reset(token)
        except ValueError:
            pass  # A finalizer runs the rest of a coroutine in another context.


def _fallback(core: Core) -> StreamUsage:
    """Adds a stream that counts if the function adds no usage itself."""
    stream = core.add_stream()
    stream.fallback, stream.finished = True, False
    return stream


def _drive(client: Client, core: Core, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Runs a generator step by step, as `yield from` does, and adds each item to the hold."""
    stream = _fallback(core)
    step: Callable[[], Any] = functools.partial(next, inner)
    try:
        while True:
            try:
                with _inside(core):
                    item = step()
            except StopIteration as stop:
                stream.finished = True
                return stop.value
            stream.observe(item)
            client.grow(core)
            try:
                sent = yield item
                step = functools.partial(next, inner) if sent is None else functools.partial(inner.send, sent)
            except GeneratorExit:
                raise
            except BaseException as thrown:
                step = functools.partial(inner.throw, thrown)
    finally:
        with _inside(core):
            inner.close()


class _Guarded:
    """A stream that a function returned. What it does not have itself comes from the stream inside."""

    def __init__(self, client: Client, core: Core, inner: Any) -> None:
        self._tope_client, self._tope_core, self._tope_inner = client, core, inner
        self._tope_stream = core.add_stream()
        self._tope_stream.finished = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tope_inner, name)


class GuardedStream(_Guarded):
    """A stream of a function. The hold is settled when the stream ends, breaks, is closed or is dropped."""

    def __iter__(self) -> GuardedStream:
        return self

    def __next__(self) -> Any:
        client, core = self._tope_client, self._tope_core
        try:
            with _inside(core):
                item = next(self._tope_inner)
            self._tope_stream.observe(item)
            client.grow(core)
            return item
        except StopIteration:
            self._tope_stream.finished = True
            client.settle(core, "end", None)
            raise
        except BaseException as error:
            client.settle(core, "raise", error)
            raise

    def close(self) -> None:
        """Closes the stream inside, and settles the hold by what came until now."""
        close = getattr(self._tope_inner, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._tope_client.settle(self._tope_core, "left", None)

    def __enter__(self) -> GuardedStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GuardedAsyncStream(_Guarded):
    """The same, for an asynchronous stream."""

    def __aiter__(self) -> GuardedAsyncStream:
        return self

    async def __anext__(self) -> Any:
        client, core = self._tope_client, self._tope_core
        try:
            with _inside(core):
                item = await self._tope_inner.__anext__()
            self._tope_stream.observe(item)
            await client.agrow(core)
            return item
        except StopAsyncIteration:
            self._tope_stream.finished = True
            await client.asettle(core, "end", None)
            raise
        except BaseException as error:
            await client.asettle(core, "raise", error)
            raise

    async def aclose(self) -> None:
        """Closes the stream inside, and settles the hold by what came until now."""
        close = getattr(self._tope_inner, "aclose", None) or getattr(self._tope_inner, "close", None)
        try:
            if close is not None:
                closing = close()
                if inspect.isawaitable(closing):
                    await closing
        finally:
            await self._tope_client.asettle(self._tope_core, "left", None)

    close = aclose

    async def __aenter__(self) -> GuardedAsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
