"""Estimates, and how the usage of calls corrects them."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from tope import Estimator, Usage
from tope.estimate import IMAGE_TOKENS, MESSAGE_TOKENS, OUTPUT_TOKENS, count


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", 0),
        ("a" * 35, 10),
        ("ü" * 15, 10),
        ("я" * 25, 10),
        ("م" * 25, 10),
        ("你" * 10, 10),
        ("の" * 10, 10),
        ("한" * 10, 10),
        ("क" * 15, 10),
        ("7" * 20, 10),
        ("Zm9v" * 14, 40),  # 56 characters without a blank.
    ],
)
def test_each_class_of_characters(text: str, want: int) -> None:
    assert count(text) == want


def test_classes_are_added() -> None:
    assert count("a" * 35 + " " + "你" * 10 + " " + "7" * 20) == 31


def test_a_prompt_of_ten_megabytes_takes_little_time() -> None:
    text = ("The quick brown fox 123 你好 " * 400_000)[: 10 << 20]
    began = time.process_time()
    sampled = count(text)
    assert time.process_time() - began < 1.0
    whole = sum(count(text[at : at + 200_000]) for at in range(0, len(text), 200_000))
    assert abs(sampled - whole) < 0.05 * whole


def test_messages_tools_and_images() -> None:
    estimator = Estimator()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    messages = [
        {"role": "system", "content": "a" * 35},
        {"role": "user", "content": [{"type": "text", "text": "b" * 35}, image]},
    ]
    assert estimator.prompt(messages)[0] == 2 * MESSAGE_TOKENS + 20 + IMAGE_TOKENS
    # A whole request, in the form of each provider.
    assert estimator.prompt({"messages": messages})[0] == estimator.prompt(messages)[0]
    assert estimator.prompt({"system": "a" * 35, "messages": [{"role": "user", "content": "b" * 35}]})[0] == 24
    assert estimator.prompt({"contents": [{"role": "user", "parts": [{"text": "a" * 35}]}]})[0] == 14
    assert estimator.prompt({"instructions": "a" * 35, "input": "b" * 35})[0] == 20
    tools = [{"name": "search", "parameters": {"type": "object"}}]
    assert estimator.prompt("a" * 35, tools)[0] > 10
    assert estimator.prompt(None)[0] == 0


def test_the_output_is_the_maximum_of_the_request() -> None:
    estimator = Estimator()
    assert estimator.call("a" * 35, max_tokens=100, n=3)[:2] == (10, 300)
    assert estimator.call("a" * 35).output == OUTPUT_TOKENS


def test_after_twenty_calls_prompts_are_corrected() -> None:
    estimator = Estimator()
    text = "abcdef " * 50
    kind = estimator.call(text, model="m").kind
    for number in range(20):
        assert estimator.call(text, model="m").input == 100, number
        estimator.learn("m", kind, 100, Usage(150, 10))
    assert estimator.call(text, model="m").input == 150
    assert estimator.call(text, model="other").input == 100
    for _ in range(300):
        estimator.learn("m", kind, 100, Usage(10_000, 10))
    assert estimator.call(text, model="m").input == 400, "a correction is at most fourfold"
    for _ in range(600):
        estimator.learn("m", kind, 100, Usage(1, 10))
    assert estimator.call(text, model="m").input == 50


def test_answers_are_learned() -> None:
    estimator = Estimator()
    for length in range(1, 101):
        estimator.learn("m", "ascii", 10, Usage(10, length))
    assert 90 <= estimator.output("m") <= 100


def test_the_correction_covers_nine_calls_of_ten() -> None:
    estimator = Estimator()
    used = [100 + number * 37 % 100 for number in range(200)]
    for tokens in used:
        estimator.learn("m", "ascii", 100, Usage(tokens, 1))
    covered = sum(tokens <= 100 * estimator.factor("m", "ascii") for tokens in used)
    assert 0.88 * len(used) <= covered <= 0.96 * len(used)


def test_models_are_forgotten_beyond_a_bound() -> None:
    estimator = Estimator()
    for number in range(1_500):
        estimator.learn(f"model-{number}", "ascii", 10, Usage(10, 10))
    assert len(estimator._outputs) == estimator.KEYS_MAX


def test_a_tokenizer_is_a_function_or_an_encoding() -> None:
    def encode(text: str, disallowed_special: object = None) -> list[str]:
        assert disallowed_special == ()
        return text.split()

    for tokenizer in (lambda text: len(text.split()), str.split, SimpleNamespace(encode=encode)):
        assert Estimator(tokenizer).prompt("a b c")[0] == 3
    assert Estimator(SimpleNamespace(encode=str.split)).prompt("a b c")[0] == 3
    with pytest.raises(TypeError, match="tokenizer"):
        Estimator(5)
