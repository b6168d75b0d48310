"""The handles that a caller uses inside a hold, and the scope that makes and settles the hold."""

from __future__ import annotations

import contextvars
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from tope._core import Ask, Core, Ending, Settlement
from tope.usage import StreamUsage

if TYPE_CHECKING:
    from tope._client import Client

T = TypeVar("T")

#: The hold around the code that runs.
current: contextvars.ContextVar[Core | None] = contextvars.ContextVar("tope_hold", default=None)


class _Handle:
    """What a hold and its asynchronous form have in common."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._stream: StreamUsage | None = None

    @property
    def name(self) -> str:
        """Name of the reservation. Empty if the hold has none of its own: it joined another hold, or was allowed."""
        return self._core.name

    @property
    def request_id(self) -> str:
        return self._core.ask.request_id

    @property
    def granted(self) -> Mapping[str, int]:
        """Quantities that were granted, by resource."""
        return dict(self._core.granted)

    @property
    def allowed(self) -> bool:
        """Whether no server answered, and `on_unavailable` let the call pass."""
        return self._core.root.allowed is not None

    @property
    def joined(self) -> bool:
        """Whether the hold is a part of an outer hold."""
        return self._core.parent is not None

    @property
    def max_tokens(self) -> int:
        """The longest answer for which the granted tokens suffice."""
        granted = self._core.granted.get("tokens", 0)
        estimate = self._core.ask.estimate
        if estimate is None:
            return granted
        return max(1, min(estimate.output, granted - estimate.input))

    @property
    def settlement(self) -> Settlement | None:
        """How the hold ended. None as long as that is not known."""
        return self._core.settlement

    def use(self, *replies: object, **amounts: int) -> None:
        """Adds usage: replies of providers, or quantities such as `tokens=800`."""
        for reply in replies:
            self._core.add_reply(reply)
        self._core.add_amounts(amounts)

    def add(self, amounts: Mapping[str, int]) -> None:
        """Adds quantities of resources whose names are no names of Python."""
        self._core.add_amounts(amounts)

    def sent(self) -> None:
        """Says that a provider was called. After an error, the hold is then charged by `on_unknown`."""
        self._core.sent = True

    def unsent(self) -> None:
        """Says that no provider was called. Unless usage is added, the hold is then released."""
        self._core.sent = False

    def _observe(self, chunk: object) -> None:
        if self._stream is None:
            self._stream = self._core.add_stream()
        self._stream.observe(chunk)

    def __repr__(self) -> str:
        core = self._core
        return f"<{type(self).__name__} {core.ask.tenant} {core.ask.request_id} {core.state}>"


class Hold(_Handle):
    """A hold, in a `with` block."""

    def observe(self, chunk: object) -> None:
        """Adds a chunk of a stream. Extends the hold if the stream outgrows it, which can raise QuotaExceeded."""
        self._observe(chunk)
        self._core.client.grow(self._core)

    def watch(self, stream: Iterable[T], prompt: object = None) -> Iterator[T]:
        """Yields the chunks of a stream, and adds each of them."""
        usage = self._core.add_stream(prompt)
        usage.finished = False
        self._core.sent = True
        for chunk in stream:
            usage.observe(chunk)
            self._core.client.grow(self._core)
            yield chunk
        usage.finished = True

    def extend(self, amounts: Mapping[str, int] | None = None, *, ttl: float | None = None) -> None:
        """Adds quantities or time. Raises QuotaExceeded if the quota does not suffice."""
        self._core.client.extend(self._core.root, amounts or {}, ttl)

    def commit(self, **amounts: int) -> Settlement | None:
        """Settles the hold now. Returns None if no server answered: then the hold is settled in the background."""
        self._core.add_amounts(amounts)
        self._core.client.settle(self._core, "end", None)
        return self._core.settlement

    def release(self) -> None:
        """Settles the hold now, without a charge."""
        self._core.sent = False
        self._core.client.settle(self._core, "end", None)


class AsyncHold(_Handle):
    """A hold, in an `async with` block."""

    async def observe(self, chunk: object) -> None:
        """Adds a chunk of a stream. Extends the hold if the stream outgrows it, which can raise QuotaExceeded."""
        self._observe(chunk)
        await self._core.client.agrow(self._core)

    async def watch(self, stream: AsyncIterable[T], prompt: object = None) -> AsyncIterator[T]:
        """Yields the chunks of a stream, and adds each of them."""
        usage = self._core.add_stream(prompt)
        usage.finished = False
        self._core.sent = True
        async for chunk in stream:
            usage.observe(chunk)
            await self._core.client.agrow(self._core)
            yield chunk
        usage.finished = True

    async def extend(self, amounts: Mapping[str, int] | None = None, *, ttl: float | None = None) -> None:
        """Adds quantities or time. Raises QuotaExceeded if the quota does not suffice."""
        await self._core.client.aextend(self._core.root, amounts or {}, ttl)

    async def commit(self, **amounts: int) -> Settlement | None:
        """Settles the hold now. Returns None if no server answered: then the hold is settled in the background."""
        self._core.add_amounts(amounts)
        await self._core.client.asettle(self._core, "end", None)
        return self._core.settlement

    async def release(self) -> None:
        """Settles the hold now, without a charge."""
        self._core.sent = False
        await self._core.client.asettle(self._core, "end", None)


class Scope:
    """A hold that begins and ends with a `with` or `async with` block. It can be entered once."""

    def __init__(self, client: Client, ask: Ask, on_unavailable: object) -> None:
        self._client, self._ask, self._on_unavailable = client, ask, on_unavailable
        self._core: Core | None = None
        self._token: contextvars.Token[Core | None] | None = None

    def _new(self) -> Core:
        if self._core is not None:
            raise RuntimeError("a hold can be entered once; call hold() again")
        outer = current.get() if self._ask.join else None
        joins = outer is not None and outer.state == "open" and outer.client is self._client
        # After a fork, the hold around the code belongs to another process.
        joins = joins and outer is not None and outer.ask.tenant == self._ask.tenant and outer.pid == os.getpid()
        self._core = Core(self._client, self._ask, outer if joins else None)
        return self._core

    def begin(self) -> Core:
        """Reserves, without setting the hold around the code that runs."""
        core = self._new()
        self._client.begin(core, self._on_unavailable)
        return core

    async def abegin(self) -> Core:
        core = self._new()
        await self._client.abegin(core, self._on_unavailable)
        return core

    def __enter__(self) -> Hold:
        core = self.begin()
        self._token = current.set(core)
        return Hold(core)

    async def __aenter__(self) -> AsyncHold:
        core = await self.abegin()
        self._token = current.set(core)
        return AsyncHold(core)

    def _leave(self, error: BaseException | None) -> tuple[Core, Ending]:
        assert self._core is not None
        if self._token is not None:
            try:
                current.reset(self._token)
            except ValueError:
                pass  # The block ends in another context, such as that of a finalizer.
        return self._core, "end" if error is None else "left" if isinstance(error, GeneratorExit) else "raise"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        core, ending = self._leave(error)
        self._client.settle(core, ending, error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        core, ending = self._leave(error)
        await self._client.asettle(core, ending, error)
