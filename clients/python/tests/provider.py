"""Calls of the stub, as a program makes them, without the library of a provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from tope.usage import text_of


def request_of(api: str, model: str, stream: bool, prompt: str) -> tuple[str, dict[str, Any]]:
    """Returns the path and the body of a call."""
    if api == "gemini":
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/v1beta/models/{model}:{verb}", {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
    if api == "openai-responses":
        return "/v1/responses", {"model": model, "stream": stream, "input": prompt}
    body: dict[str, Any] = {"model": model, "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    if api == "anthropic":
        return "/v1/messages", {**body, "max_tokens": 200_000}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return "/v1/chat/completions", body


def parse(line: str) -> Any:
    """Returns the event of a line of a stream, or None if the line has none."""
    if not line.startswith("data: ") or line == "data: [DONE]":
        return None
    return json.loads(line.removeprefix("data: "))


class Provider:
    """The stub, for threads and for asyncio."""

    def __init__(self, url: str) -> None:
        self.url = url
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
        self.http = httpx.Client(base_url=url, timeout=30, limits=limits)

    def totals(self, label: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/ledger/totals", params={"label": label}).json()
        return found

    def entries(self, label: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get("/ledger", params={"label": label}).json()["entries"]
        return found

    def ask(self, api: str, model: str, label: str, prompt: str = "a b c", timeout: float = 30.0) -> Any:
        path, body = request_of(api, model, False, prompt)
        reply = self.http.post(path, json=body, headers={"x-stub-label": label}, timeout=timeout)
        return reply.raise_for_status().json()

    @contextmanager
    def stream(self, api: str, model: str, label: str, prompt: str = "a b c") -> Iterator[Iterator[Any]]:
        path, body = request_of(api, model, True, prompt)
        with self.http.stream("POST", path, json=body, headers={"x-stub-label": label}) as reply:
            if reply.is_error:
                reply.read()
            reply.raise_for_status()
            yield (event for event in map(parse, reply.iter_lines()) if event is not None)

    @asynccontextmanager
    async def aclient(self) -> AsyncIterator[httpx.AsyncClient]:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.url, timeout=30, limits=limits) as http:
            yield http

    async def aask(self, http: httpx.AsyncClient, api: str, model: str, label: str, timeout: float = 30.0) -> Any:
        path, body = request_of(api, model, False, "a b c")
        reply = await http.post(path, json=body, headers={"x-stub-label": label}, timeout=timeout)
        return reply.raise_for_status().json()

    @asynccontextmanager
    async def astream(
        self, http: httpx.AsyncClient, api: str, model: str, label: str, prompt: str = "a b c"
    ) -> AsyncIterator[AsyncIterator[Any]]:
        path, body = request_of(api, model, True, prompt)
        async with http.stream("POST", path, json=body, headers={"x-stub-label": label}) as reply:
            if reply.is_error:
                await reply.aread()
            reply.raise_for_status()

            async def events() -> AsyncIterator[Any]:
                async for line in reply.aiter_lines():
                    event = parse(line)
                    if event is not None:
                        yield event

            yield events()


def has_token(event: Any) -> bool:
    return bool(text_of(event))
