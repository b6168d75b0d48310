"""Holds around the HTTP requests of providers' libraries: openai, anthropic and google-genai.

    openai = OpenAI(http_client=tope.http.http_client(client))
    anthropic = AsyncAnthropic(http_client=tope.http.async_http_client(client))
    google = genai.Client(http_options=HttpOptions(httpx_client=tope.http.http_client(client)))

Each request that asks a model is reserved before it is sent, and settled when its reply or its stream ends. If the
quota does not suffice, nothing is sent: the library gets the status 429 in the provider's form, and does not repeat the
request. Each repeat of the library has a hold of its own.
"""

from __future__ import annotations

import importlib
import json
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tope import errors
from tope._core import Core

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tope._client import Client

#: Returns options of `hold` for a request, such as `tenant` and `agent`. It gets the request, with its URL and headers.
Subject = Callable[[Any], Mapping[str, Any]]

# A reply that is larger is not read for its usage.
_BODY_MAX = 64 << 20
_MARK = "x-tope-reason"


def http_client(client: Client, *, library: Any = None, subject: Subject | None = None, **options: Any) -> Any:
    """Makes a client of httpx2, or of httpx if that is what is installed. `library` is the module to use.

    The other arguments are those of `httpx.Client`; `transport` is the transport that sends the requests.
    """
    module = library or _library()
    inner = options.pop("transport", None) or module.HTTPTransport()
    sender = _classes(module)[0](client, inner, subject)
    return module.Client(transport=sender, **{"follow_redirects": True, **options})


def async_http_client(client: Client, *, library: Any = None, subject: Subject | None = None, **options: Any) -> Any:
    """Does the same for a program with asyncio."""
    module = library or _library()
    inner = options.pop("transport", None) or module.AsyncHTTPTransport()
    sender = _classes(module)[1](client, inner, subject)
    return module.AsyncClient(transport=sender, **{"follow_redirects": True, **options})


def _library() -> Any:
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("tope.http needs the package httpx2 or httpx, which comes with the provider's library")


class _Call:
    """A request that asks a model."""

    def __init__(self, request: Any, body: dict[str, Any], kind: str) -> None:
        self.body, self.kind = body, kind
        path = request.url.path
        model = body.get("model") or path.rpartition("/")[2].partition(":")[0]
        self.model = model if isinstance(model, str) else ""
        config = body.get("generationConfig")
        limits = [body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens")]
        limits.append(config.get("maxOutputTokens") if isinstance(config, dict) else None)
        self.max_tokens = next((one for one in limits if isinstance(one, int) and one >= 0), None)
        self.n = body["n"] if isinstance(body.get("n"), int) else 1
        if kind == "embeddings":
            self.max_tokens = 0
        #: Whether the usage of the stream is asked for in the name of the caller, who must not see it.
        self.hides_usage = False

    @staticmethod
    def of(request: Any) -> _Call | None:
        """Returns None for a request that is no call of a model."""
        kind = _kind(request.url.path)
        if request.method != "POST" or kind is None:
            return None
        try:
            body = json.loads(request.content)
        except (ValueError, RuntimeError):
            return None
        return _Call(request, body, kind) if isinstance(body, dict) else None

    def scope(self, client: Client, options: Mapping[str, Any]) -> Any:
        given = {"model": self.model, "prompt": self.body, "max_tokens": self.max_tokens, "n": self.n, **options}
        return client.hold(**given)

    def with_usage(self, module: Any, request: Any) -> Any:
        """Returns the request that is sent: it asks for usage, and for a body without compression."""
        headers = request.headers.copy()
        headers["accept-encoding"] = "identity"
        content = request.content
        asked = self.body.get("stream_options")
        if self.kind == "chat" and self.body.get("stream") is True and not (asked or {}).get("include_usage"):
            self.hides_usage = True
            content = json.dumps({**self.body, "stream_options": {**(asked or {}), "include_usage": True}}).encode()
            headers["content-length"] = str(len(content))
        return module.Request(
            request.method, request.url, headers=headers, content=content, extensions=request.extensions
        )


def _kind(path: str) -> str | None:
    ends = {
        "/chat/completions": "chat",
        "/completions": "chat",
        "/responses": "responses",
        "/messages": "anthropic",
        "/embeddings": "embeddings",
        ":generateContent": "gemini",
        ":streamGenerateContent": "gemini",
    }
    return next((kind for end, kind in ends.items() if path.endswith(end)), None)


def _refusal(module: Any, request: Any, call: _Call, error: errors.TopeError) -> Any:
    """Makes the response that stands for an error of Tope, in the provider's form."""
    status = {"RESOURCE_EXHAUSTED": 429, "PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401}.get(error.code, 503)
    headers = {"x-should-retry": "false", _MARK: error.reason or error.code}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    text = f"tope: {error}"
    if call.kind == "anthropic":
        kind = "rate_limit_error" if status == 429 else "api_error"
        body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": text}}
    elif call.kind == "gemini":
        body = {"error": {"code": status, "message": text, "status": error.code}}
    else:
        kind = "insufficient_quota" if status == 429 else "tope_error"
        body = {"error": {"message": text, "type": kind, "param": None, "code": error.reason.lower() or None}}
    response = module.Response(status, headers=headers, json=body, request=request)
    response.extensions["tope_error"] = error
    return response


class _Reader:
    """Reads the bytes of a reply, and adds the usage to the hold."""

    def __init__(self, core: Core, call: _Call, response: Any) -> None:
        self.core, self.call = core, call
        core.sent = True
        kind = response.headers.get("content-type", "")
        self.is_stream = kind.startswith("text/event-stream")
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        #: Makes the text of compressed bytes. None: the compression is not known, and neither is the usage.
        self._decode: Callable[[bytes], bytes] | None = None
        if encoding in ("identity", ""):
            self._decode = bytes
        elif encoding in ("gzip", "deflate"):
            self._decode = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress
        self.hides = self.is_stream and call.hides_usage and encoding in ("identity", "")
        self._rest = b""
        self._usage = core.add_stream(call.body) if self.is_stream else None
        if self._usage is not None:
            self._usage.finished = False

    def feed(self, content: bytes) -> bytes:
        """Takes bytes, and returns those that the caller gets."""
        if self._decode is None:
            return content
        try:
            self._rest += self._decode(content)
        except zlib.error:
            self._decode = None
            return content
        if not self.is_stream:
            if len(self._rest) > _BODY_MAX:
                self._decode, self._rest = None, b""
            return content
        shown = b""
        while (end := _end_of_event(self._rest)) > 0:
            event, self._rest = self._rest[:end], self._rest[end:]
            if self._observe(event):
                shown += event
        return shown if self.hides else content

    def last(self) -> bytes:
        """Returns what is left for the caller at the end."""
        rest, self._rest = self._rest, b""
        if self._usage is not None:
            self._usage.finished = True
            self._observe(rest)
            return rest if self.hides else b""
        if self._decode is not None:
            self._whole(rest)
        return b""

    def _whole(self, content: bytes) -> None:
        try:
            body = json.loads(content)
        except ValueError:
            return
        # A stream of Gemini without `alt=sse` is a list of chunks.
        self.core.add_reply(body[-1] if isinstance(body, list) and body else body)

    def _observe(self, event: bytes) -> bool:
        """Adds an event. Returns whether the caller shall see it."""
        assert self._usage is not None
        lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
        try:
            body = json.loads(b"\n".join(lines)) if lines else None
        except ValueError:
            return True
        if not isinstance(body, dict):
            return True
        self._usage.observe(body)
        return not (self.hides and body.get("choices") == [] and body.get("usage") is not None)


def _end_of_event(content: bytes) -> int:
    """Returns the place after the first event, or 0 if it has not come as a whole."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := content.find(mark)) >= 0]
    return min(ends, default=0)


_made: dict[Any, tuple[Any, Any]] = {}


def _classes(module: Any) -> tuple[Any, Any]:
    """Makes the transports for a library, whose streams must be of its own classes."""
    if module not in _made:
        _made[module] = (_sync_class(module), _async_class(module))
    return _made[module]


def _sync_class(module: Any) -> Any:
    class Stream(module.SyncByteStream):  # type: ignore[misc]
        def __init__(self, client: Client, reader: _Reader, inner: Any) -> None:
            self._client, self._reader, self._inner = client, reader, inner

        def __iter__(self) -> Iterator[bytes]:
            core = self._reader.core
            try:
                for content in self._inner:
                    shown = self._reader.feed(content)
                    self._client.grow(core)
                    if shown:
                        yield shown
                rest = self._reader.last()
            except GeneratorExit:
                self._client.settle(core, "left", None)
                raise
            except BaseException as error:
                self._client.settle(core, "raise", error)
                raise
            self._client.settle(core, "end", None)
            if rest:
                yield rest

        def close(self) -> None:
            try:
                self._inner.close()
            finally:
                self._client.settle(self._reader.core, "left", None)

    class Transport(module.BaseTransport):  # type: ignore[misc]
        def __init__(self, client: Client, inner: Any, subject: Subject | None) -> None:
            self._client, self._inner, self._subject = client, inner, subject

        def handle_request(self, request: Any) -> Any:
            request.read()
            call = _Call.of(request)
            if call is None:
                return self._inner.handle_request(request)
            try:
                core = call.scope(self._client, self._subject(request) if self._subject else {}).begin()
            except errors.TopeError as error:
                return _refusal(module, request, call, error)
            try:
                response = self._inner.handle_request(call.with_usage(module, request))
            except BaseException as error:
                self._client.settle(core, "raise", error)
                raise
            if not response.is_success:
                core.sent = False
                self._client.settle(core, "raise", None)
                return response
            response.stream = Stream(self._client, _Reader(core, call, response), response.stream)
            if response.stream._reader.hides:
                response.headers.pop("content-length", None)
            return response

        def close(self) -> None:
            self._inner.close()

    return Transport


def _async_class(module: Any) -> Any:
    class Stream(module.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, client: Client, reader: _Reader, inner: Any) -> None:
            self._client, self._reader, self._inner = client, reader, inner

        async def __aiter__(self) -> AsyncIterator[bytes]:
            core = self._reader.core
            try:
                async for content in self._inner:
                    shown = self._reader.feed(content)
                    await self._client.agrow(core)
                    if shown:
                        yield shown
                rest = self._reader.last()
            except GeneratorExit:
                self._client.settle_later(core, "left", None)
                raise
            except BaseException as error:
                await self._client.asettle(core, "raise", error)
                raise
            await self._client.asettle(core, "end", None)
            if rest:
                yield rest

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                # The task may be cancelled, so it does not wait.
                self._client.settle_later(self._reader.core, "left", None)

    class Transport(module.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, client: Client, inner: Any, subject: Subject | None) -> None:
            self._client, self._inner, self._subject = client, inner, subject

        async def handle_async_request(self, request: Any) -> Any:
            await request.aread()
            call = _Call.of(request)
            if call is None:
                return await self._inner.handle_async_request(request)
            try:
                core = await call.scope(self._client, self._subject(request) if self._subject else {}).abegin()
            except errors.TopeError as error:
                return _refusal(module, request, call, error)
            try:
                response = await self._inner.handle_async_request(call.with_usage(module, request))
            except BaseException as error:
                await self._client.asettle(core, "raise", error)
                raise
            if not response.is_success:
                core.sent = False
                await self._client.asettle(core, "raise", None)
                return response
            response.stream = Stream(self._client, _Reader(core, call, response), response.stream)
            if response.stream._reader.hides:
                response.headers.pop("content-length", None)
            return response

        async def aclose(self) -> None:
            await self._inner.aclose()

    return Transport
