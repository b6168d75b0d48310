"""Repeats of one logical call: the same request, with the same `request_id`, until a deadline."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from tope import errors
from tope._transport import Transport

_FIRST, _LAST = 0.05, 1.0


def backoff(attempt: int, retry_after: float | None) -> float:
    """Returns the seconds before the next attempt: exponential, with jitter, and never less than the server says."""
    most = min(_LAST, _FIRST * 2**attempt)
    return max(random.uniform(most / 2, most), retry_after or 0.0)


class _Attempts:
    """The attempts of one logical call. Each has a part of the time, so that one lost reply does not use all of it."""

    def __init__(self, timeout: float) -> None:
        self._end = time.monotonic() + timeout
        self._refreshed = False

    def __iter__(self) -> Iterator[tuple[int, float]]:
        attempt = 0
        while True:
            left = self._end - time.monotonic()
            yield attempt, left if left <= 0.5 else max(0.5, left / 2)
            attempt += 1

    def pause(self, attempt: int, error: errors.TopeError) -> float:
        """Returns how long to wait after an error. Raises the error if no repeat can help."""
        if error.key_changed and not self._refreshed:
            self._refreshed = True
            return 0.0
        delay = backoff(attempt, error.retry_after)
        if not error.transient or time.monotonic() + delay >= self._end - 0.01:
            raise error
        return delay


def call(transport: Transport, method: str, request: Message, timeout: float) -> Any:
    attempts = _Attempts(timeout)
    for attempt, seconds in attempts:
        try:
            return transport.call(method, request, seconds)
        except errors.TopeError as error:
            delay = attempts.pause(attempt, error)
        time.sleep(delay)
    raise AssertionError("attempts end with a reply or an error")


async def acall(transport: Transport, method: str, request: Message, timeout: float) -> Any:
    attempts = _Attempts(timeout)
    for attempt, seconds in attempts:
        try:
            return await transport.acall(method, request, seconds)
        except errors.TopeError as error:
            delay = attempts.pause(attempt, error)
        await asyncio.sleep(delay)
    raise AssertionError("attempts end with a reply or an error")
