"""Estimates and usage are the same numbers as those of the other clients: clients/scenarios/vectors.json."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import ROOT, words

from tope import Estimator, Usage
from tope.estimate import count, weigh
from tope.usage import StreamUsage

VECTORS = json.loads((ROOT / "clients/scenarios/vectors.json").read_text())
FIGURES = ("input", "output", "cache_read", "cache_write", "reasoning")


def shown(usage: Usage | None) -> dict[str, int] | None:
    return None if usage is None else {name: getattr(usage, name) for name in FIGURES}


@pytest.mark.parametrize("vector", VECTORS["texts"])
def test_texts(vector: dict[str, Any]) -> None:
    assert count(vector["text"] * vector.get("times", 1)) == vector["tokens"]


@pytest.mark.parametrize("vector", VECTORS["prompts"])
def test_prompts(vector: dict[str, Any]) -> None:
    assert Estimator().prompt(vector["prompt"], vector.get("tools")) == (vector["tokens"], vector["kind"])


@pytest.mark.parametrize("vector", VECTORS["usages"])
def test_usages(vector: dict[str, Any]) -> None:
    assert shown(Usage.of(vector["reply"])) == vector["usage"]


@pytest.mark.parametrize("vector", VECTORS["streams"])
def test_streams(vector: dict[str, Any]) -> None:
    stream = StreamUsage(vector["prompt"], words, weigh)
    for chunk in vector["chunks"]:
        stream.observe(chunk)
    assert shown(stream.so_far()) == vector["usage"]
    assert (stream.complete, stream.total(True)) == (vector["complete"], vector["total"])
