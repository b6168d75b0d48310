"""The usage of each provider's replies and streams, in one form."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from conftest import words

from tope.estimate import weigh
from tope.usage import StreamUsage, Usage

CHAT = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
RESPONSES = {
    "input_tokens": 10,
    "output_tokens": 5,
    "total_tokens": 15,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 2},
}
ANTHROPIC = {
    "input_tokens": 3,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 3,
    "output_tokens": 5,
}
GEMINI = {
    "promptTokenCount": 8,
    "toolUsePromptTokenCount": 2,
    "candidatesTokenCount": 3,
    "thoughtsTokenCount": 2,
    "cachedContentTokenCount": 4,
}
BEDROCK = {"inputTokens": 3, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 3, "outputTokens": 5}


def as_object(value: Any) -> Any:
    """Makes an object with attributes, as the libraries of providers have."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(item) for key, item in value.items()})
    return value


@pytest.mark.parametrize("make", [lambda value: value, as_object])
@pytest.mark.parametrize(
    ("reply", "want"),
    [
        ({"usage": CHAT}, Usage(10, 5, 4, 0, 2)),
        ({"usage": RESPONSES}, Usage(10, 5, 4, 0, 2)),
        ({"usage": ANTHROPIC}, Usage(10, 5, 4, 3)),
        ({"usageMetadata": GEMINI}, Usage(10, 5, 4, 0, 2)),
        ({"usage": BEDROCK}, Usage(10, 5, 4, 3)),
        ({"response": {"usage": RESPONSES}, "type": "response.completed"}, Usage(10, 5, 4, 0, 2)),
        ({"message": {"usage": ANTHROPIC}, "type": "message_start"}, Usage(10, 5, 4, 3)),
        (CHAT, Usage(10, 5, 4, 0, 2)),
        # A model that was free of charge for its cache, and a proxy that leaves the parts out.
        ({"usage": {**ANTHROPIC, "cache_read_input_tokens": None, "cache_creation_input_tokens": None}}, Usage(3, 5)),
        ({"usage": {"prompt_tokens": 10.0, "completion_tokens": 4.2}}, Usage(10, 5)),
        ({"usage": {"prompt_tokens": 10, "completion_tokens": None}}, Usage(10, 0)),
    ],
)
def test_a_reply(reply: Any, want: Usage, make: Any) -> None:
    assert Usage.of(make(reply)) == want


def test_snake_case_of_google_genai() -> None:
    metadata = {
        "prompt_token_count": 8,
        "tool_use_prompt_token_count": None,
        "candidates_token_count": 3,
        "thoughts_token_count": None,
        "cached_content_token_count": None,
    }
    assert Usage.of(as_object({"usage_metadata": metadata})) == Usage(8, 3)


@pytest.mark.parametrize(
    "reply",
    [
        None, "text", b"bytes", 5, [], {}, {"usage": None}, {"usage": {}}, {"usage": "much"}, {"usage": 7},
        {"usage": {"prompt_tokens": None, "completion_tokens": None}},
        {"usage": {"prompt_tokens": "10", "completion_tokens": "5"}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": -5}},
        {"usage": {"prompt_tokens": True, "completion_tokens": False}},
        {"usage": {"prompt_tokens": float("nan"), "completion_tokens": float("inf")}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        {"usage": [1, 2]}, {"message": "text"}, {"response": [1]},
    ],
)  # fmt: skip
def test_a_reply_without_usage(reply: Any) -> None:
    assert Usage.of(reply) is None


def test_an_object_whose_properties_fail_has_no_usage() -> None:
    class Odd:
        @property
        def usage(self) -> Any:
            raise RuntimeError

    assert Usage.of(Odd()) is None


def stream(chunks: list[Any], prompt: int | None = 3) -> StreamUsage:
    found = StreamUsage(prompt, words, weigh)
    for chunk in chunks:
        found.observe(chunk)
    return found


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": None}], **more}


def test_a_stream_of_chat_is_counted_until_its_usage_comes() -> None:
    chunks = [chat("one "), chat("two "), {"choices": [{"delta": {}, "finish_reason": "stop"}]}]
    assert stream(chunks).so_far() == Usage(3, 2)
    assert not stream(chunks).complete
    last = {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 20}}
    assert stream([*chunks, last]).so_far() == Usage(30, 20)
    assert stream([*chunks, last, last]).so_far() == Usage(30, 20), "usage that comes twice counts once"
    assert stream([*chunks, last]).complete


def test_the_first_chunk_of_azure_has_no_choices_and_no_usage() -> None:
    assert not stream([{"choices": [], "prompt_filter_results": []}, chat("one ")]).complete


def test_usage_in_every_chunk_is_cumulative() -> None:
    chunks = [chat("one ", usage={"prompt_tokens": 9, "completion_tokens": n}) for n in (1, 2)]
    assert stream(chunks).so_far() == Usage(9, 2)
    assert stream([*chunks, chat("three ")]).so_far() == Usage(9, 3)
    assert not stream(chunks).complete


def test_a_stream_of_anthropic_begins_with_its_input() -> None:
    begin = {"type": "message_start", "message": {"usage": {**ANTHROPIC, "output_tokens": 0}}}
    text = [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": f"w{n} "}} for n in range(4)]
    think = {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "so "}}
    assert stream([begin]).so_far() == Usage(10, 0, 4, 3)
    assert stream([begin, think, *text]).so_far() == Usage(10, 5, 4, 3)
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 6}}
    assert stream([begin, think, *text, end]).so_far() == Usage(10, 6, 4, 3)
    assert stream([begin, *text, end]).complete


def test_a_stream_of_gemini_reports_in_each_chunk() -> None:
    def chunk(n: int, thoughts: int | None = None, finish: str | None = None) -> dict[str, Any]:
        metadata = {"promptTokenCount": 8, "candidatesTokenCount": n, "thoughtsTokenCount": thoughts}
        candidate = {"content": {"parts": [{"text": f"w{n} "}]}, "finishReason": finish}
        return {"candidates": [candidate], "usageMetadata": metadata}

    assert stream([chunk(1), chunk(2)]).so_far() == Usage(8, 2)
    found = stream([chunk(1), chunk(2), chunk(3, 40, "STOP")])
    assert found.so_far() == Usage(8, 43, reasoning=40)
    assert found.complete


def test_reasoning_that_was_reported_stays_when_the_stream_breaks() -> None:
    chunks = [chat("one ", usage={"prompt_tokens": 9, "completion_tokens": 100}), chat("two "), chat("three ")]
    assert stream(chunks).so_far() == Usage(9, 102)


def test_a_stream_of_responses_and_of_bedrock() -> None:
    delta = {"type": "response.output_text.delta", "delta": "w "}
    done = {"type": "response.completed", "response": {"usage": RESPONSES}}
    assert stream([{"type": "response.created", "response": {"usage": None}}, delta]).so_far() == Usage(3, 1)
    assert stream([delta, done]).so_far() == Usage(10, 5, 4, 0, 2)
    text = {"contentBlockDelta": {"delta": {"text": "w "}, "contentBlockIndex": 0}}
    end = {"metadata": {"usage": BEDROCK, "metrics": {"latencyMs": 1}}}
    assert stream([text]).so_far() == Usage(3, 1)
    assert stream([text, end]).so_far() == Usage(10, 5, 4, 3)
    assert stream([text, end]).complete


def test_arguments_of_tools_are_output() -> None:
    call = {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "a b c"}}]}}]}
    assert stream([call]).so_far() == Usage(3, 3)


def test_nothing_is_known_without_a_prompt_or_a_chunk() -> None:
    assert stream([chat("one ")], prompt=None).so_far() is None
    assert stream([]).so_far() is None
    garbage = stream([None, 5, b"x", object(), {"choices": None}, {"type": 7}, []])
    assert garbage.so_far() == Usage(3, 0)


def test_many_small_chunks_are_not_rounded_up_one_by_one() -> None:
    found = StreamUsage(0, None, weigh)
    text = "The quick brown fox jumps over the lazy dog. " * 50
    for at in range(0, len(text), 4):
        found.observe(text[at : at + 4])
    usage = found.so_far()
    assert usage is not None
    assert usage.output == -(-len(text) * 10 // 35)
