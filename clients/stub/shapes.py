"""The bodies of the four APIs: what a request says, and what a reply looks like.

Each API is one `Api`. The figures of a reply are a `Figures`; each API writes them in its own form.
"""

import json
from typing import NamedTuple


class Figures(NamedTuple):
    """Tokens of one call. `input` includes `cached`, and `output` includes `reasoning`."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


class Chunk(NamedTuple):
    """One event of a stream. `tokens` is the number of output tokens that the event contains."""

    event: str
    body: object
    tokens: int = 0


def texts_of(value):
    """Lists the texts of a prompt, which is a text, or lists and objects with the keys that hold texts."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    if isinstance(value, dict):
        keys = ("text", "content", "parts", "input", "messages", "contents", "instructions", "system",
                "systemInstruction")
        return [text for key in keys if key in value for text in texts_of(value[key])]
    return []


def count(text):
    """Counts the tokens of a text: one token for each word."""
    return len(text.split())


class Api:
    """One API. `show` makes what stands for the usage of figures in a reply, or None if the reply has no usage."""

    name = ""

    def model(self, path, body):
        return body.get("model", "")

    def streams(self, path, body):
        return body.get("stream") is True

    def wanted(self, body):
        """Returns the most output tokens that the request allows, or None."""
        return body.get("max_tokens")

    def usage(self, figures):
        raise NotImplementedError

    def reply(self, model, words, usage):
        raise NotImplementedError

    def chunks(self, model, words, figures, show, body):
        raise NotImplementedError

    def error(self, status, text):
        return {"error": {"message": text, "type": "stub_error", "code": str(status)}}


class Chat(Api):
    name = "openai-chat"

    def wanted(self, body):
        return body.get("max_completion_tokens", body.get("max_tokens"))

    def usage(self, figures):
        return {
            "prompt_tokens": figures.input,
            "completion_tokens": figures.output,
            "total_tokens": figures.input + figures.output,
            "prompt_tokens_details": {"cached_tokens": figures.cached},
            "completion_tokens_details": {"reasoning_tokens": figures.reasoning},
        }

    def _object(self, kind, model, choices, usage, with_usage):
        body = {"id": "chatcmpl-stub", "object": kind, "created": 1, "model": model, "choices": choices}
        return {**body, "usage": usage} if with_usage else body

    def reply(self, model, words, usage):
        message = {"role": "assistant", "content": "".join(words)}
        choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
        return self._object("chat.completion", model, choices, usage, usage is not None)

    def chunks(self, model, words, figures, show, body):
        kind = "chat.completion.chunk"
        for word in words:
            choices = [{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}]
            yield Chunk("", self._object(kind, model, choices, None, False), 1)
        choices = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
        yield Chunk("", self._object(kind, model, choices, None, False))
        usage, asked = show(figures), (body.get("stream_options") or {}).get("include_usage")
        if usage is not None and asked:
            yield Chunk("", self._object(kind, model, [], usage, True))
        yield Chunk("", "[DONE]")


class Responses(Api):
    name = "openai-responses"

    def wanted(self, body):
        return body.get("max_output_tokens")

    def usage(self, figures):
        return {
            "input_tokens": figures.input,
            "input_tokens_details": {"cached_tokens": figures.cached},
            "output_tokens": figures.output,
            "output_tokens_details": {"reasoning_tokens": figures.reasoning},
            "total_tokens": figures.input + figures.output,
        }

    def _response(self, model, words, usage, status):
        content = [{"type": "output_text", "text": "".join(words), "annotations": []}]
        message = {"type": "message", "id": "msg_stub", "role": "assistant", "status": status, "content": content}
        return {
            "id": "resp_stub", "object": "response", "created_at": 1, "model": model, "status": status,
            "output": [message] if words else [], "usage": usage, "error": None, "incomplete_details": None,
            "instructions": None, "metadata": {}, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            "temperature": 1, "top_p": 1,
        }  # fmt: skip

    def reply(self, model, words, usage):
        return self._response(model, words, usage, "completed")

    def chunks(self, model, words, figures, show, body):
        def event(kind, number, **fields):
            return Chunk(kind, {"type": kind, "sequence_number": number, **fields}, int("delta" in fields))

        yield event("response.created", 0, response=self._response(model, [], None, "in_progress"))
        place = {"item_id": "msg_stub", "output_index": 0, "content_index": 0, "logprobs": []}
        for number, word in enumerate(words, 1):
            yield event("response.output_text.delta", number, delta=word, **place)
        done = self._response(model, words, show(figures), "completed")
        yield event("response.completed", len(words) + 1, response=done)


class Messages(Api):
    name = "anthropic"

    def usage(self, figures):
        return {
            "input_tokens": figures.input - figures.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": figures.cached,
            "output_tokens": figures.output,
        }

    def _message(self, model, content, stop, usage):
        return {
            "id": "msg_stub", "type": "message", "role": "assistant", "model": model, "content": content,
            "stop_reason": stop, "stop_sequence": None, "usage": usage,
        }  # fmt: skip

    def reply(self, model, words, usage):
        body = self._message(model, [{"type": "text", "text": "".join(words)}], "end_turn", usage)
        if usage is None:
            del body["usage"]
        return body

    def chunks(self, model, words, figures, show, body):
        def event(kind, tokens=0, **fields):
            return Chunk(kind, {"type": kind, **fields}, tokens)

        # The message begins with the input, and with no output yet.
        first = self._message(model, [], None, show(figures._replace(output=0)))
        yield event("message_start", message=first)
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for word in words:
            yield event("content_block_delta", 1, index=0, delta={"type": "text_delta", "text": word})
        yield event("content_block_stop", index=0)
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        # The last figures have no input. A usage of null has no figures.
        usage = show(figures)
        last = {key: usage[key] for key in usage if key == "output_tokens"} if usage else usage
        yield event("message_delta", delta=stop, **({} if usage is None else {"usage": last}))
        yield event("message_stop")

    def error(self, status, text):
        kind = "rate_limit_error" if status == 429 else "api_error"
        return {"type": "error", "error": {"type": kind, "message": text}}


class Gemini(Api):
    name = "gemini"

    def model(self, path, body):
        return path.rpartition("/")[2].partition(":")[0]

    def streams(self, path, body):
        return ":streamGenerateContent" in path

    def wanted(self, body):
        return (body.get("generationConfig") or {}).get("maxOutputTokens")

    def usage(self, figures):
        return {
            "promptTokenCount": figures.input,
            "cachedContentTokenCount": figures.cached,
            "candidatesTokenCount": figures.output - figures.reasoning,
            "thoughtsTokenCount": figures.reasoning,
            "totalTokenCount": figures.input + figures.output,
        }

    def _reply(self, model, text, finish, usage, with_usage):
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        body = {"candidates": [candidate], "modelVersion": model, "responseId": "stub"}
        return {**body, "usageMetadata": usage} if with_usage else body

    def reply(self, model, words, usage):
        return self._reply(model, "".join(words), "STOP", usage, usage is not None)

    def chunks(self, model, words, figures, show, body):
        for index, word in enumerate(words, 1):
            last = index == len(words)
            # Each chunk has the figures up to here. The reasoning comes with the last chunk.
            so_far = figures if last else Figures(figures.input, index, figures.cached)
            usage = show(so_far)
            yield Chunk("", self._reply(model, word, "STOP" if last else "", usage, usage is not None), 1)

    def error(self, status, text):
        name = "RESOURCE_EXHAUSTED" if status == 429 else "INTERNAL"
        return {"error": {"code": status, "message": text, "status": name}}


def api_of(path):
    """Returns the API of a path, or None."""
    path = path.partition("?")[0]
    if path.endswith("/chat/completions"):
        return Chat()
    if path.endswith("/responses"):
        return Responses()
    if path.endswith("/messages"):
        return Messages()
    if path.endswith((":generateContent", ":streamGenerateContent")):
        return Gemini()
    return None


def sse(chunk):
    """Writes one event of a stream of server-sent events."""
    text = chunk.body if isinstance(chunk.body, str) else json.dumps(chunk.body)
    head = f"event: {chunk.event}\n" if chunk.event else ""
    return f"{head}data: {text}\n\n".encode()
