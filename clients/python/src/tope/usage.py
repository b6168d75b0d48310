"""What a model call used, in one form for all providers.

`Usage.of(reply)` reads the replies of OpenAI (Chat and Responses), Anthropic, Gemini and Bedrock, as objects of their
libraries or as dictionaries. `StreamUsage` reads the chunks of a stream, and knows at each instant what was used so
far. Figures that are missing, null, negative or no numbers count as unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

#: Counts the tokens of a text.
Tokenizer = Callable[[str], int]


@dataclass(frozen=True)
class Usage:
    """Tokens. `input` includes `cache_read` and `cache_write`, and `output` includes `reasoning`."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.reasoning + other.reasoning,
        )

    @staticmethod
    def of(reply: object) -> Usage | None:
        """Reads the usage of a whole reply. Returns None if the reply has no usage, or no figures."""
        if isinstance(reply, Usage):
            return reply
        usage = _find(reply)
        found = None if usage is None else _read(usage)
        # No call uses nothing. Providers report zeros when they do not know.
        return found if found is not None and found.total > 0 else None


def _get(value: object, *names: str) -> Any:
    """Returns the first field that is there and not null, of an object or a mapping."""
    for name in names:
        try:
            found = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        except Exception:  # A property of an unknown object failed.
            continue
        if found is not None:
            return found
    return None


def _has(value: object, name: str) -> bool:
    return name in value if isinstance(value, Mapping) else hasattr(value, name)


def _find(reply: object) -> object | None:
    """Finds the usage of a reply, or of an event of a stream."""
    for name in ("usage", "usage_metadata", "usageMetadata"):
        found = _get(reply, name)
        if found is not None and not callable(found):
            return found  # type: ignore[no-any-return]
    for name in ("response", "message", "metadata"):
        inner = _get(reply, name)
        if inner is not None and not isinstance(inner, str) and not callable(inner):
            found = _get(inner, "usage", "usage_metadata")
            if found is not None and not callable(found):
                return found  # type: ignore[no-any-return]
    names = ("prompt_tokens", "input_tokens", "output_tokens", "prompt_token_count", "promptTokenCount", "inputTokens")
    return reply if any(_has(reply, name) for name in names) else None


def whole(value: object) -> int | None:
    """Returns a figure as a whole number, rounded up. None if it is no figure."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return math.ceil(value) if value >= 0 else None


def _number(value: object, *names: str) -> int | None:
    for name in names:
        found = whole(_get(value, name))
        if found is not None:
            return found
    return None


def _read(usage: object) -> Usage | None:
    for reader in (_read_chat, _read_gemini, _read_bedrock, _read_tokens):
        found = reader(usage)
        if found is not None:
            return found
    return None


def _made(parts: tuple[int | None, ...], build: Callable[[], Usage]) -> Usage | None:
    return build() if any(part is not None for part in parts) else None


def _read_chat(usage: object) -> Usage | None:
    prompt, completion = _number(usage, "prompt_tokens"), _number(usage, "completion_tokens")
    inside = _get(usage, "prompt_tokens_details")
    reasoning = _number(_get(usage, "completion_tokens_details"), "reasoning_tokens")
    cached = _number(inside, "cached_tokens")
    return _made(
        (prompt, completion), lambda: Usage(prompt or 0, completion or 0, cached or 0, reasoning=reasoning or 0)
    )


def _read_gemini(usage: object) -> Usage | None:
    prompt = _number(usage, "prompt_token_count", "promptTokenCount")
    tools = _number(usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount") or 0
    shown = _number(usage, "candidates_token_count", "candidatesTokenCount")
    thoughts = _number(usage, "thoughts_token_count", "thoughtsTokenCount")
    cached = _number(usage, "cached_content_token_count", "cachedContentTokenCount") or 0
    output = (shown or 0) + (thoughts or 0)
    return _made(
        (prompt, shown, thoughts), lambda: Usage((prompt or 0) + tools, output, cached, reasoning=thoughts or 0)
    )


def _read_bedrock(usage: object) -> Usage | None:
    prompt, output = _number(usage, "inputTokens"), _number(usage, "outputTokens")
    read = _number(usage, "cacheReadInputTokens") or 0
    write = _number(usage, "cacheWriteInputTokens") or 0
    return _made((prompt, output), lambda: Usage((prompt or 0) + read + write, output or 0, read, write))


def _read_tokens(usage: object) -> Usage | None:
    """Reads the form of Anthropic, whose input excludes the cache, and that of OpenAI Responses."""
    prompt, output = _number(usage, "input_tokens"), _number(usage, "output_tokens")
    read, write = _number(usage, "cache_read_input_tokens"), _number(usage, "cache_creation_input_tokens")
    cached = _number(_get(usage, "input_tokens_details"), "cached_tokens") or 0
    reasoning = _number(_get(usage, "output_tokens_details"), "reasoning_tokens") or 0
    return _made(
        (prompt, output, read, write),
        lambda: Usage((prompt or 0) + (read or 0) + (write or 0), output or 0, read or cached, write or 0, reasoning),
    )


class StreamUsage:
    """Adds up one stream. `observe` takes each chunk, in order.

    The figures that the provider reports are cumulative: the last ones count. The text since the last report is counted
    by the tokenizer, or estimated. So a stream that breaks is known as well as it can be.
    """

    def __init__(self, prompt: int | None, tokenizer: Tokenizer | None, weigh: Callable[[str], float]) -> None:
        #: Estimated tokens of the prompt. None if the prompt is not known.
        self.prompt = prompt
        self._tokenizer = tokenizer
        self._weigh = weigh
        # With a tokenizer the whole text is kept, since tokens can cross the borders of chunks.
        self._texts: list[str] = []
        self._weight = 0.0
        # Tokens per unit of weight, as the tokenizer counted last.
        self._scale = 1.0
        self._reported: Usage | None = None
        #: The texts, and the weight of all text, that came before the latest report.
        self._before_report: tuple[int, float] = (0, 0.0)
        self._input_known = False
        #: Whether the provider has reported the final figures.
        self.complete = False
        #: Whether any chunk came.
        self.began = False
        #: Whether the stream was read to its end. None: nobody knows.
        self.finished: bool | None = None
        #: Whether the stream counts only if nothing else is known.
        self.fallback = False

    def observe(self, chunk: object) -> None:
        """Takes a chunk. A chunk that is nothing of a provider changes nothing but `began`."""
        self.began = True
        text = text_of(chunk)
        if text:
            self._add(text)
        usage = Usage.of(chunk)
        if usage is None:
            return
        kind = _get(chunk, "type")
        reported = self._reported or Usage()
        merged = Usage(*(max(old, new) for old, new in zip(_fields(reported), _fields(usage), strict=True)))
        if kind == "message_delta" and usage.input:
            # The figures of the end replace those of the beginning.
            merged = replace(usage, cache_read=usage.cache_read or reported.cache_read)
        self._reported = usage if kind not in ("message_start", "message_delta") else merged
        self._input_known = self._input_known or usage.input > 0
        self._before_report = (len(self._texts), self._weight)
        ends = ("response.completed", "response.incomplete", "response.failed", "message_delta")
        self.complete = self.complete or kind in ends or (kind is None and _ends(chunk))

    def _add(self, text: str) -> None:
        if self._tokenizer is not None:
            self._texts.append(text)
            self._weight += len(text) / 4
        else:
            self._weight += self._weigh(text)

    def _counted(self, texts: int, weight: float) -> int:
        """Counts the tokens of the first texts."""
        if self._tokenizer is None:
            return math.ceil(weight)
        return self._tokenizer("".join(self._texts[:texts])) if texts else 0

    def total(self, exact: bool) -> int:
        """Returns the tokens so far, prompt included. If not `exact`, cheap enough for each chunk of a stream."""
        if exact and self._tokenizer is not None and self._weight:
            self._scale = self._counted(len(self._texts), self._weight) / self._weight
        reported = self._reported or Usage()
        prompt = reported.input if self._input_known else (self.prompt or reported.input)
        since = (self._weight - self._before_report[1]) * self._scale
        return prompt + reported.output + math.ceil(max(0.0, since))

    def so_far(self) -> Usage | None:
        """Returns what was used so far. None if that is not known."""
        if self.complete:
            return self._reported
        reported = self._reported
        if reported is None and (self.prompt is None or not self.began):
            return None
        base = reported or Usage()
        prompt = base.input if self._input_known else (self.prompt or base.input)
        # The report contains the text before it, and what the text does not show, such as reasoning.
        counted = self._counted(len(self._texts), self._weight) - self._counted(*self._before_report)
        return replace(base, input=prompt, output=base.output + max(0, counted))


def _fields(usage: Usage) -> tuple[int, ...]:
    return (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning)


def _ends(chunk: object) -> bool:
    """Whether a chunk without a type has final figures."""
    choices = _get(chunk, "choices")
    if choices is not None:
        # OpenAI sends the figures in a chunk without choices. Others add them to the last choice.
        return len(choices) == 0 or any(_get(choice, "finish_reason") for choice in choices)
    candidates = _get(chunk, "candidates") or ()
    if candidates:
        return any(_get(one, "finish_reason", "finishReason") for one in candidates)
    # Bedrock sends the figures in an event of their own.
    return _get(chunk, "metadata") is not None


def text_of(chunk: object) -> str:
    """Returns the text that a chunk of a stream adds: answers, reasoning, refusals and arguments of tools."""
    if isinstance(chunk, str):
        return chunk
    if isinstance(chunk, (bytes, int, float)):
        return ""
    parts: list[object] = []
    for choice in _get(chunk, "choices") or ():
        delta = _get(choice, "delta")
        parts += [_get(choice, "text")]
        parts += [_get(delta, name) for name in ("content", "reasoning_content", "reasoning", "refusal")]
        for call in _get(delta, "tool_calls") or ():
            parts.append(_get(_get(call, "function"), "arguments"))
    for candidate in _get(chunk, "candidates") or ():
        for part in _get(_get(candidate, "content"), "parts") or ():
            parts.append(_get(part, "text"))
    kind = _get(chunk, "type")
    delta = _get(chunk, "delta")
    if isinstance(kind, str) and kind.endswith(".delta"):
        parts.append(delta)
    elif kind == "content_block_delta":
        parts += [_get(delta, name) for name in ("text", "thinking", "partial_json")]
    inner = _get(_get(chunk, "contentBlockDelta"), "delta")
    if inner is not None:
        parts.append(_get(inner, "text"))
    return "".join(part for part in parts if isinstance(part, str))
