"""What an exception says about the provider: whether a call reached it."""

from __future__ import annotations

import socket

from tope import errors

# Names of exceptions of httpx, aiohttp, requests and urllib3 that are raised before anything was sent.
_NOT_SENT = frozenset(
    {
        "ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError", "InvalidURL",
        "ProxyError", "ClientConnectorError", "ClientConnectorDNSError", "NewConnectionError", "ConnectTimeoutError",
        "NameResolutionError", "ConnectionRefusedError",
    }
)  # fmt: skip
_DEPTH = 8


def was_called(error: BaseException | None) -> bool | None:
    """Returns False if the provider certainly did no work, and None if that is not known."""
    seen: list[BaseException] = []
    while error is not None and error not in seen and len(seen) < _DEPTH:
        if _says_no(error):
            return False
        seen.append(error)
        # An error that was raised while another one was handled came after it.
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _says_no(error: BaseException) -> bool:
    if isinstance(error, (errors.TopeError, ConnectionRefusedError, socket.gaierror)):
        return True
    if any(kind.__name__ in _NOT_SENT for kind in type(error).__mro__):
        return True
    return 400 <= _status(error) <= 599


def _status(error: BaseException) -> int:
    """Returns the HTTP status that an error of a provider's library has, or 0."""
    response = getattr(error, "response", None)
    for value in (getattr(error, "status_code", None), getattr(response, "status_code", None), _code(error)):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0


def _code(error: BaseException) -> object:
    # google-genai calls it `code`. urllib and others call other things so.
    module = type(error).__module__
    return getattr(error, "code", None) if module.startswith(("google.genai", "urllib.error")) else None
