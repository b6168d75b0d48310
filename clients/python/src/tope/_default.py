"""The client that `tope.hold` and `tope.guard` use."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from tope._client import Client
from tope._guard import Guard
from tope._hold import Hold, Scope, current

_lock = threading.Lock()
_client: Client | None = None


def configure(target: Any = None, **options: Any) -> Client:
    """Makes the client that `tope.hold` and `tope.guard` use. The arguments are those of `tope.Client`."""
    global _client
    with _lock:
        old, _client = _client, Client(target, **options)
        made = _client
    if old is not None:
        old.close()
    return made


def client() -> Client:
    """Returns that client. If `configure` was not called, the environment says where the server is."""
    global _client
    with _lock:
        if _client is None:
            _client = Client()
        return _client


def hold(amounts: int | Mapping[str, int] | None = None, **options: Any) -> Scope:
    """Makes a hold for a `with` or `async with` block. The arguments are those of `tope.Client.hold`."""
    return client().hold(amounts, **options)


def guard(amounts: Any = None, **options: Any) -> Guard:
    """Makes a decorator that runs each call of a function inside a hold.

    The function is a function, a coroutine, a generator or an asynchronous generator, or it returns a stream. The hold
    is settled when the call or its stream ends. The arguments are those of `tope.Client.hold`. Quantities, subject,
    prompt and `max_tokens` may be functions of the arguments of the decorated function. `usage` is a function that
    takes the result, and returns the reply of the provider or a `tope.Usage`.
    """
    return Guard(client, amounts, options)


def current_hold() -> Hold | None:
    """Returns the hold around the code that runs, such as that of a decorated function. `use` adds usage to it."""
    core = current.get()
    return Hold(core) if core is not None else None
