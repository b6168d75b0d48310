"""The libraries of providers, as they are published, with a client of HTTP that holds and settles."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from conftest import World, limit
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google_types
from provider import Provider

import tope
import tope.http

USER: Any = [{"role": "user", "content": "a b c"}]


class Libraries:
    """Clients of the three libraries, whose requests have the tenant as their label."""

    def __init__(self, world: World, provider: Provider, **options: Any) -> None:
        world.tenant_with(limit(10_000))
        self.world, self.provider = world, provider
        self.client = world.client(**options)
        self.headers = {"x-stub-label": world.tenant}

    def http(self, **options: Any) -> Any:
        return tope.http.http_client(self.client, headers=self.headers, **options)

    def ahttp(self, **options: Any) -> Any:
        return tope.http.async_http_client(self.client, headers=self.headers, **options)

    def openai(self, **options: Any) -> openai.OpenAI:
        url = f"{self.provider.url}/v1"
        return openai.OpenAI(api_key="k", base_url=url, http_client=self.http(), **options)

    def aopenai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(api_key="k", base_url=f"{self.provider.url}/v1", http_client=self.ahttp())

    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(api_key="k", base_url=self.provider.url, http_client=self.http())

    def google(self) -> genai.Client:
        options = google_types.HttpOptions(
            base_url=self.provider.url, httpx_client=self.http(), httpx_async_client=self.ahttp()
        )
        return genai.Client(api_key="k", http_options=options)

    def charged(self) -> list[int]:
        assert self.client.flush(10)
        return [one.amounts[0].committed for one in self.world.reservations()]

    def sent(self) -> list[int]:
        return [entry["input"] + entry["output"] for entry in self.provider.entries(self.world.tenant)]


@pytest.fixture
def libraries(world: World, provider: Provider) -> Libraries:
    return Libraries(world, provider)


def calls(libraries: Libraries, model: str) -> Iterator[Callable[[], Any]]:
    """Yields a call of each API, whole and as a stream. Each returns the text."""
    one, two, three = libraries.openai(), libraries.anthropic(), libraries.google()
    yield lambda: one.chat.completions.create(model=model, messages=USER).choices[0].message.content
    yield lambda: "".join(
        chunk.choices[0].delta.content or ""
        for chunk in one.chat.completions.create(model=model, messages=USER, stream=True)
    )
    yield lambda: one.responses.create(model=model, input="a b c").output_text
    yield lambda: "".join(
        event.delta
        for event in one.responses.create(model=model, input="a b c", stream=True)
        if event.type == "response.output_text.delta"
    )
    yield lambda: two.messages.create(model=model, messages=USER, max_tokens=100).content[0].text  # type: ignore[union-attr]
    yield lambda: _anthropic_stream(two, model)
    yield lambda: three.models.generate_content(model=model, contents="a b c").text
    yield lambda: "".join(
        chunk.text or "" for chunk in three.models.generate_content_stream(model=model, contents="a b c")
    )


def _anthropic_stream(client: anthropic.Anthropic, model: str) -> str:
    with client.messages.stream(model=model, messages=USER, max_tokens=100) as stream:
        return "".join(stream.text_stream)


def test_every_call_is_charged_what_was_sent(libraries: Libraries) -> None:
    texts = [call() for call in calls(libraries, "tokens-7")]
    assert texts == ["w0 w1 w2 w3 w4 w5 w6 "] * 8
    assert libraries.charged() == libraries.sent() == [10] * 8
    assert {one.model for one in libraries.world.reservations()} == {"tokens-7"}
    assert {settlement.basis for settlement in libraries.world.settlements} == {"exact"}


def test_a_refused_call_sends_nothing_and_is_not_repeated(libraries: Libraries) -> None:
    assert libraries.world.faulty is not None
    # A hold that is not around the calls.
    core = libraries.client.hold(9_999).begin()
    raised: list[type[Exception]] = []
    for number, call in enumerate(calls(libraries, "tokens-7"), 2):
        with pytest.raises((openai.RateLimitError, anthropic.RateLimitError, google_errors.ClientError)) as caught:
            call()
        raised.append(type(caught.value))
        assert "quota exceeded" in str(caught.value)
        assert libraries.world.faulty.calls == {"Reserve": number}, "the library asks once"
    core.leave()
    assert raised[:4] == [openai.RateLimitError] * 4
    assert raised[4:6] == [anthropic.RateLimitError] * 2
    assert libraries.sent() == []


def test_a_refusal_of_a_call_that_stands_alone(world: World, provider: Provider) -> None:
    libraries = Libraries(world, provider)
    world.home.suspend(world.tenant)
    with pytest.raises(openai.PermissionDeniedError, match="suspended"):
        libraries.openai().chat.completions.create(model="m", messages=USER)
    assert world.faulty is not None
    assert world.faulty.calls == {"Reserve": 1}
    world.faulty.fail("Reserve", "lose-request", times=1_000)
    with pytest.raises(openai.InternalServerError) as caught:
        libraries.openai().chat.completions.create(model="m", messages=USER, timeout=20)
    assert caught.value.status_code == 503
    assert libraries.sent() == []


@pytest.mark.parametrize("broken", ["cut-after-3", "429", "500", "garbage"])
def test_calls_that_break(libraries: Libraries, broken: str) -> None:
    client = libraries.openai(max_retries=0)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        for _ in client.chat.completions.create(model=f"tokens-7+{broken}", messages=USER, stream=True):
            pass
    assert not isinstance(caught.value, tope.TopeError)
    del client, caught
    gc.collect()
    [charged] = libraries.charged()
    if broken != "garbage":
        assert [charged] == libraries.sent()
    else:
        assert charged > 0


def test_each_repeat_of_the_library_has_a_hold_of_its_own(libraries: Libraries) -> None:
    with pytest.raises(openai.InternalServerError):
        libraries.openai(max_retries=1).chat.completions.create(model="500", messages=USER)
    assert libraries.charged() == [0, 0]
    assert len(libraries.provider.entries(libraries.world.tenant)) == 2


@pytest.mark.parametrize("how", ["close", "with", "drop"])
def test_a_stream_that_is_left(libraries: Libraries, how: str) -> None:
    stream: Any = libraries.openai().chat.completions.create(model="tokens-7+hang-after-3", messages=USER, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(3)] == ["w0 ", "w1 ", "w2 "]
    if how == "close":
        stream.close()
    elif how == "with":
        with stream:
            pass
    del stream
    gc.collect()
    assert libraries.charged() == libraries.sent() == [6]


def test_the_caller_sees_the_usage_only_if_it_asked(libraries: Libraries) -> None:
    def chunks(**more: Any) -> list[Any]:
        return list(libraries.openai().chat.completions.create(model="tokens-2", messages=USER, stream=True, **more))

    assert [chunk.usage for chunk in chunks()] == [None] * 3
    assert chunks(stream_options={"include_usage": False})[-1].usage is None
    assert chunks(stream_options={"include_usage": True})[-1].usage.total_tokens == 5
    assert libraries.charged() == [5, 5, 5]


def test_with_asyncio(libraries: Libraries) -> None:
    async def main() -> None:
        client = libraries.aopenai()
        reply = await client.chat.completions.create(model="tokens-7", messages=USER)
        assert reply.usage is not None
        stream = await client.chat.completions.create(model="tokens-7", messages=USER, stream=True)
        assert len([chunk async for chunk in stream]) == 8
        task = asyncio.create_task(_cancelled(client))
        while libraries.provider.totals(libraries.world.tenant)["outcomes"].get("hangs", 0) == 0:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = await libraries.google().aio.models.generate_content(model="tokens-7", contents="a b c")
        assert found.text
        await client.close()

    asyncio.run(main())
    assert libraries.charged() == libraries.sent() == [10, 10, 6, 10]


async def _cancelled(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="tokens-7+hang-after-3", messages=USER, stream=True)
    async for _ in stream:
        pass


def test_a_call_inside_a_hold_joins_it(libraries: Libraries) -> None:
    with libraries.client.hold(1_000_000 // 200, agent="planner"):
        for _ in range(3):
            libraries.openai().chat.completions.create(model="tokens-7", messages=USER, max_tokens=10)
    assert libraries.charged() == [30]


def test_the_subject_comes_from_the_request(libraries: Libraries) -> None:
    http = tope.http.http_client(
        libraries.client, headers={"x-agent": "writer"}, subject=lambda request: {"agent": request.headers["x-agent"]}
    )
    client = openai.OpenAI(api_key="k", base_url=f"{libraries.provider.url}/v1", http_client=http)
    client.chat.completions.create(model="tokens-7", messages=USER)
    assert libraries.client.flush(5)
    assert [one.agent for one in libraries.world.reservations()] == ["writer"]


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_both_libraries_of_http(libraries: Libraries, module: Any) -> None:
    client = libraries.http(library=module, base_url=libraries.provider.url)
    assert isinstance(client, module.Client)
    reply = client.post("/v1/chat/completions", json={"model": "tokens-7", "messages": USER, "max_tokens": 3})
    assert reply.json()["usage"]["completion_tokens"] == 3
    # What is no call of a model passes without a hold.
    assert client.get("/ledger").status_code == 200
    assert client.post("/v1/files", json={}).status_code == 404
    assert client.post("/v1/chat/completions", content=b"no json").status_code == 400
    assert libraries.charged() == [6]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_compressed_reply(libraries: Libraries, coding: str) -> None:
    import zlib

    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    plain = json.dumps({"choices": [], "usage": usage}).encode()
    packer = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
    content = packer.compress(plain) + packer.flush()

    def answer(request: Any) -> Any:
        assert request.headers["accept-encoding"] == "identity"
        # A stream, since a response with content would be decoded at once.
        return httpx2.Response(200, headers={"content-encoding": coding}, stream=httpx2.ByteStream(content))

    client = libraries.http(library=httpx2, transport=httpx2.MockTransport(answer))
    body = {"model": "m", "messages": USER, "max_tokens": 50}
    with client.stream("POST", "http://x/v1/chat/completions", json=body) as reply:
        assert b"".join(reply.iter_raw()) == content
    assert libraries.charged() == [7 if coding != "br" else 53]


@pytest.mark.parametrize(
    ("path", "body", "usage", "reserved"),
    [
        ("/v1/embeddings", {"input": ["a b", "c"]}, {"prompt_tokens": 4, "total_tokens": 4}, 3),
        ("/v1/completions", {"prompt": "a b c", "max_tokens": 5}, {"prompt_tokens": 3, "completion_tokens": 1}, 8),
    ],
)
def test_embeddings_and_completions(
    libraries: Libraries, path: str, body: dict[str, Any], usage: dict[str, int], reserved: int
) -> None:
    def answer(request: Any) -> Any:
        return httpx2.Response(200, stream=httpx2.ByteStream(json.dumps({"usage": usage}).encode()))

    client = libraries.http(library=httpx2, transport=httpx2.MockTransport(answer))
    assert client.post(f"http://x{path}", json={"model": "m", **body}).json() == {"usage": usage}
    assert libraries.charged() == [4]
    assert libraries.world.reservations()[0].amounts[0].reserved == reserved
