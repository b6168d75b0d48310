"""The Python blocks of the page about the client work."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT

import tope
from tope.testing import Fake

PAGE = (ROOT / "docs/clients/python.md").read_text()
README = (ROOT / "clients/python/README.md").read_text()


def blocks(page: str) -> list[tuple[str, str]]:
    """Returns the kind and the text of each block."""
    return re.findall(r"```python ?(\w*)\n(.*?)```", page, re.DOTALL)


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}}], **more}


def names(fake: Fake, shown: list[Any]) -> dict[str, Any]:
    """Returns what a program around the blocks would have."""
    reply = {"usage": {"prompt_tokens": 5, "completion_tokens": 20}}

    def ask_model(messages: object, max_tokens: int = 0) -> dict[str, Any]:
        return reply

    async def ask_model_async(messages: object) -> dict[str, Any]:
        return reply

    def stream_model(messages: object, max_tokens: int) -> Iterator[dict[str, Any]]:
        yield chunk("one ")
        yield {"choices": [], "usage": reply["usage"]}

    found = {"ask_model": ask_model, "ask_model_async": ask_model_async, "stream_model": stream_model}
    return {**found, "messages": [{"role": "user", "content": "hi"}], "show": shown.append, "pytest": pytest}


def test_the_blocks_work(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    fake.add("acme", {"tokens": 1_000_000, "requests": 1_000, "cost_nanos": 10**12})
    real = tope.Client

    def client(target: object, **options: Any) -> tope.Client:
        return real(fake if isinstance(target, str) else target, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tope, "Client", client)
    shown: list[Any] = []
    space, tests = names(fake, shown), 0
    for kind, text in blocks(PAGE):
        if kind == "libraries":
            if importlib.util.find_spec("openai") is None:
                continue  # The libraries of providers need not be there with every version of Python.
            keys = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": "k"}
            for name, value in keys.items():
                monkeypatch.setenv(name, value)
            exec("from openai import OpenAI\nfrom anthropic import AsyncAnthropic\nfrom google import genai", space)
            exec("from google.genai.types import HttpOptions\n" + text, space)
        elif kind == "async":
            exec("async def main():\n" + textwrap.indent(text, "    "), space)
            asyncio.run(space["main"]())
        else:
            exec(text, space)
        tests += kind == "test"
    assert tests == 1
    assert len(shown) == 4
    space["test_the_second_summary_is_refused"](Fake())
    assert space["client"].flush(5)
    made = list(space["client"].calls.reservations("acme"))
    assert len(made) == 8, "each block with a hold made one"


def test_the_readme_has_the_same_lines() -> None:
    [(_, text)] = blocks(README)
    compile(text, "README.md", "exec")
    assert "tope.Client" in text
    assert "client.hold" in text


def test_the_page_has_the_table_of_the_specification() -> None:
    table = PAGE.split("## How a hold is settled")[1].split("\n\n")[1]
    for basis in ("exact", "estimate", "unused", "partial", "unknown"):
        assert f"`{basis}`" in table
