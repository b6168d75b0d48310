"""Faults between a client and its server, for tests of what a program does then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from tope import errors
from tope._hold import AsyncHold, Hold
from tope._transport import Transport

#: `lose-reply`: the call takes effect, and its reply is lost. `lose-request`: it takes no effect.
#: `unavailable`: the server says that it is overloaded. `slow`: the reply does not come in time.
Fault = Literal["lose-reply", "lose-request", "unavailable", "slow"]


class Faulty:
    """A transport with faults: `tope.Client(Faulty(transport))`. A fault is for one call of a method.

    The worker of a client settles by the method `Batch`.
    """

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self._lock = threading.Lock()
        self._faults: list[tuple[str, Fault, float | None, int]] = []
        #: The number of calls of each method, with those that failed.
        self.calls: dict[str, int] = {}

    def fail(self, method: str, fault: Fault, *, times: int = 1, retry_after: float | None = None) -> None:
        """Lets the next calls of a method fail."""
        with self._lock:
            self._faults.append((method, fault, retry_after, times))

    def heal(self) -> None:
        """Forgets all faults that are left."""
        with self._lock:
            self._faults.clear()

    def _next(self, method: str) -> tuple[Fault, float | None] | None:
        with self._lock:
            self.calls[method] = self.calls.get(method, 0) + 1
            for index, (name, fault, retry_after, times) in enumerate(self._faults):
                if name == method:
                    self._faults[index : index + 1] = [(name, fault, retry_after, times - 1)] if times > 1 else []
                    return fault, retry_after
            return None

    def call(self, method: str, request: Any, timeout: float) -> Any:
        fault = self._next(method)
        if fault is None:
            return self.inner.call(method, request, timeout)
        if fault[0] in ("lose-reply", "slow"):
            self.inner.call(method, request, timeout)
        raise _error(*fault)

    async def acall(self, method: str, request: Any, timeout: float) -> Any:
        fault = self._next(method)
        if fault is None:
            return await self.inner.acall(method, request, timeout)
        if fault[0] in ("lose-reply", "slow"):
            await self.inner.acall(method, request, timeout)
        raise _error(*fault)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


def abandon(hold: Hold | AsyncHold) -> None:
    """Forgets a hold, as if the program had died: nothing settles it, and nothing extends it any more."""
    hold._core.state = "settled"


def _error(fault: Fault, retry_after: float | None) -> errors.TopeError:
    makers: dict[str, Callable[[], errors.TopeError]] = {
        "unavailable": lambda: errors.Overloaded(
            "the queue is full; repeat the call later", reason="OVERLOADED", retry_after=retry_after
        ),
        "slow": lambda: errors.DeadlineExceeded("the time of the call ran out"),
    }
    return makers.get(fault, lambda: errors.Unreachable("the connection broke"))()
