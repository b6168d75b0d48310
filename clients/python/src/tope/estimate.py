"""Estimates of what a model call will use, before the call.

Without a tokenizer, the characters of a text are counted by class, since a token is about four characters of English
but only one character of Chinese. What calls really used corrects the estimates for each model and kind of text.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tope.usage import Tokenizer, Usage

#: Tokens of an image.
IMAGE_TOKENS = 1_200
#: Tokens of the frame of each message: its role and its borders.
MESSAGE_TOKENS = 4
#: Estimated tokens of an answer, until enough calls of the model have ended.
OUTPUT_TOKENS = 1_024

# A text that is longer than this many characters is sampled in slices.
_TEXT_MAX = 1 << 18
_SLICES, _SLICE = 32, 1 << 13

# Runs without a blank, such as base64 and hashes, have short tokens.
_RUNS = re.compile(r"[!-~]{41,}")
_DIGITS = re.compile(r"[0-9]+")
# Characters per token of each class. The rest is Indic and other scripts.
_CLASSES: tuple[tuple[str, re.Pattern[str], float], ...] = (
    ("latin", re.compile(r"[\u0080-\u036f\u1e00-\u1eff\u2000-\u206f]+"), 1.5),
    ("alphabetic", re.compile(r"[\u0370-\u08ff]+"), 2.5),
    ("cjk", re.compile(r"[\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\ufe30-\uffef\U00020000-\U0003ffff]+"), 1.0),
)
_ASCII = re.compile(r"[\x00-\x7f]+")
_PER_ASCII, _PER_OTHER, _PER_DIGIT, _PER_RUN = 3.5, 1.5, 2.0, 1.4


class Estimate(NamedTuple):
    """Tokens that a call may use. `kind` is the class of most of the prompt."""

    input: int
    output: int
    kind: str
    #: The estimate of the prompt before the corrections.
    raw: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(self.input, self.output)


def _length(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


def count(text: str) -> int:
    """Estimates the tokens of a text by the classes of its characters."""
    return math.ceil(weigh(text))


def weigh(text: str) -> float:
    """Estimates the tokens of a part of a text, of which there are fractions."""
    return sum(_weights(text).values())


def _weights(text: str) -> dict[str, float]:
    """Returns the estimated tokens of a text, by class."""
    if len(text) > _TEXT_MAX:
        step = (len(text) - _SLICE) // (_SLICES - 1)
        sample = "".join(text[at : at + _SLICE] for at in range(0, step * _SLICES, step))
        scale = len(text) / len(sample)
        return {name: tokens * scale for name, tokens in _weights(sample).items()}
    ascii_, weights = len(text), {}
    if not text.isascii():
        ascii_ = _length(_ASCII, text)
        rest = len(text) - ascii_
        for name, pattern, per in _CLASSES:
            found = _length(pattern, text)
            rest -= found
            weights[name] = found / per
        weights["other"] = rest / _PER_OTHER
    runs = _RUNS.findall(text)
    in_runs, digits = sum(map(len, runs)), _length(_DIGITS, text) - sum(_length(_DIGITS, run) for run in runs)
    weights["runs"], weights["digits"] = in_runs / _PER_RUN, digits / _PER_DIGIT
    weights["ascii"] = (ascii_ - in_runs - digits) / _PER_ASCII
    return weights


def as_tokenizer(tokenizer: object) -> Tokenizer | None:
    """Makes a function that counts of what callers pass: an encoding of tiktoken, or a function of a text."""
    if tokenizer is None:
        return None
    encode = getattr(tokenizer, "encode", None)
    if callable(encode):
        return lambda text: len(_encode(encode, text))
    if callable(tokenizer):
        return lambda text: _size(tokenizer(text))
    raise TypeError("tokenizer must be a function of a text, or have a method `encode`")


def _encode(encode: Callable[..., Any], text: str) -> Any:
    try:
        # In tiktoken a text such as "<|endoftext|>" is an error unless this is given.
        return encode(text, disallowed_special=())
    except TypeError:
        return encode(text)


def _size(found: Any) -> int:
    return found if isinstance(found, int) else len(found)


def _pieces(prompt: object) -> Iterator[str | int]:
    """Yields the texts of a prompt, and the tokens of what is no text."""
    if isinstance(prompt, str):
        yield prompt
    elif isinstance(prompt, Mapping):
        kind = str(prompt.get("type", ""))
        if "image" in kind or any(key in prompt for key in ("inline_data", "inlineData", "image_url")):
            yield IMAGE_TOKENS
            return
        if "role" in prompt:
            yield 0  # A message. Its tokens are added by `prompt`.
        for key in ("system", "instructions", "systemInstruction", "messages", "contents", "prompt"):
            if key in prompt:
                yield from _pieces(prompt[key])
        for key in ("text", "content", "parts", "input", "arguments", "output"):
            if key in prompt:
                yield from _pieces(prompt[key])
        for call in prompt.get("tool_calls") or ():
            yield from _pieces(call.get("function") if isinstance(call, Mapping) else None)
        if prompt.get("tools"):
            yield _json(prompt["tools"])
    elif isinstance(prompt, Iterable) and not isinstance(prompt, (bytes, bytearray)):
        for item in prompt:
            yield from _pieces(item)
    else:
        # A message of a library that uses pydantic.
        dump = getattr(prompt, "model_dump", None)
        if callable(dump):
            yield from _pieces(dump(exclude_none=True))


def _json(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


class _Ratios:
    """The latest ratios of what was used to what was estimated. Later ones weigh more."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=256)
        self.count = 0
        self._cached: tuple[int, float] = (-1, 1.0)

    def add(self, value: float) -> None:
        self._values.append(value)
        self.count += 1

    def quantile(self, share: float) -> float:
        # Sorting for each call would cost more than the rest of the estimate.
        if self._cached[0] >= 0 and self.count - self._cached[0] < 8:
            return self._cached[1]
        weights = [0.98 ** (len(self._values) - 1 - index) for index in range(len(self._values))]
        pairs = sorted(zip(self._values, weights, strict=True))
        left, result = share * sum(weights), pairs[-1][0]
        for value, weight in pairs:
            left -= weight
            if left <= 0:
                result = value
                break
        self._cached = (self.count, result)
        return result


class Estimator:
    """Estimates calls, and learns from their usage. Any number of threads may use one."""

    #: Calls of a model and kind after which their usage corrects the estimates.
    CALLS_MIN = 20
    #: Models and kinds that are remembered.
    KEYS_MAX = 1_000

    def __init__(self, tokenizer: object = None, *, message_tokens: int = MESSAGE_TOKENS) -> None:
        self._lock = threading.Lock()
        self._message_tokens = message_tokens
        self._ratios: dict[tuple[str, str], _Ratios] = {}
        self._outputs: dict[str, _Ratios] = {}
        self.tokenizer = as_tokenizer(tokenizer)

    def text(self, text: str) -> int:
        """Counts the tokens of a text by the tokenizer, or estimates them."""
        return self.tokenizer(text) if self.tokenizer is not None else count(text)

    def prompt(self, prompt: object, tools: object = None) -> tuple[int, str]:
        """Estimates a prompt without the corrections: a text, messages, or a whole request. Also returns its kind."""
        total, weights = 0, {"ascii": 0.0}
        for piece in [*_pieces(prompt), *([_json(tools)] if tools else [])]:
            if piece == 0:
                total += self._message_tokens
            elif isinstance(piece, int):
                total += piece
            elif self.tokenizer is not None:
                total += self.tokenizer(piece)
            else:
                found = _weights(piece)
                total += math.ceil(sum(found.values()))
                for name, tokens in found.items():
                    weights[name] = weights.get(name, 0) + tokens
        return total, max(weights, key=lambda name: weights[name])

    def call(
        self, prompt: object, *, model: str = "", max_tokens: int | None = None, n: int = 1, tools: object = None
    ) -> Estimate:
        """Estimates a call: its prompt, and the longest answer that is to be expected."""
        raw, kind = self.prompt(prompt, tools)
        factor = 1.0 if self.tokenizer is not None else self.factor(model, kind)
        output = max_tokens if max_tokens is not None else self.output(model)
        return Estimate(math.ceil(raw * factor), output * max(1, n), kind, raw)

    def factor(self, model: str, kind: str) -> float:
        """Returns the correction for prompts: the 90th percentile of used ÷ estimated, between 0.5 and 4."""
        with self._lock:
            ratios = self._ratios.get((model, kind))
            if ratios is None or ratios.count < self.CALLS_MIN:
                return 1.0
            return min(4.0, max(0.5, ratios.quantile(0.9)))

    def output(self, model: str) -> int:
        """Returns the 95th percentile of the answers of a model; 1,024 until enough calls have ended."""
        with self._lock:
            outputs = self._outputs.get(model)
            if outputs is None or outputs.count < self.CALLS_MIN:
                return OUTPUT_TOKENS
            return math.ceil(outputs.quantile(0.95))

    def learn(self, model: str, kind: str, estimated: int, used: Usage) -> None:
        """Learns from a call: `estimated` is what `prompt` returned for it."""
        with self._lock:
            if estimated > 0 and used.input > 0 and self.tokenizer is None:
                self._entry(self._ratios, (model, kind)).add(used.input / estimated)
            if used.output > 0:
                self._entry(self._outputs, model).add(used.output)

    def _entry(self, table: dict[Any, _Ratios], key: Any) -> _Ratios:
        entry = table.pop(key, None) or _Ratios()
        if len(table) >= self.KEYS_MAX:
            # The key that was used longest ago.
            del table[next(iter(table))]
        table[key] = entry
        return entry
