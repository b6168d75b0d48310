#!/usr/bin/env python3
"""A model server for tests. It speaks four APIs, and keeps a ledger of the tokens that it sent.

    python3 clients/stub/stub.py            listens on a free port of 127.0.0.1, and prints `http://127.0.0.1:PORT`
    python3 clients/stub/stub.py 8090       listens on this port

README.md beside this file lists the APIs, the names of models and the calls of the ledger. The standard library of
Python 3.10 is enough to run it.
"""

import json
import re
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shapes import Figures, api_of, count, sse, texts_of

BODY_MAX_BYTES = 64 << 20
HANG_MAX_SECONDS = 60
OUTPUT_TOKENS = 10


class Behaviour:
    """What a model does, by its name: words with `+` or `,` between them. Other words mean nothing."""

    def __init__(self, model):
        self.status, self.usage, self.output = 200, "once", OUTPUT_TOKENS
        self.cut_after = self.hang_after = None
        self.delay = 0.0
        self.cached = self.reasoning = 0
        self.garbage = False
        for word in re.split("[+,]", model):
            self._read(word)

    def _read(self, word):
        name, _, number = word.rpartition("-")
        if re.fullmatch("[45][0-9][0-9]", word):
            self.status = int(word)
        elif word in ("no-usage", "usage-twice", "usage-null", "usage-nulls", "usage-floats", "usage-zeros"):
            self.usage = word.removeprefix("usage-")
        elif word == "slow":
            self.delay = 0.05
        elif word == "huge":
            self.output = 100_000
        elif word == "garbage":
            self.garbage = True
        elif number.isdecimal() and name in ("cut-after", "hang-after", "tokens", "cached", "reasoning", "slow"):
            value = int(number)
            if name == "slow":
                self.delay = value / 1000
            else:
                setattr(self, {"tokens": "output"}.get(name, name.replace("-", "_")), value)

    def shown(self, usage):
        """Returns what stands in the place of the usage in a reply. None: there is no usage."""
        numbers = {key: value for key, value in usage.items() if isinstance(value, int)}
        if self.usage == "no-usage":
            return None
        if self.usage == "null":
            return NULL
        if self.usage == "nulls":
            return {**usage, **dict.fromkeys(numbers)}
        if self.usage == "floats":
            return {**usage, **{key: float(value) for key, value in numbers.items()}}
        if self.usage == "zeros":
            return {**usage, **dict.fromkeys(numbers, 0)}
        return usage


class _Null(dict):
    """A usage that is written as null."""


NULL = _Null()


def with_nulls(value):
    if value is NULL:
        return None
    if isinstance(value, dict):
        return {key: with_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_nulls(item) for item in value]
    return value


class Ledger:
    """What the server sent. An entry is made when a call begins, and its figures grow as tokens are sent."""

    def __init__(self):
        self._lock = threading.Lock()
        self._entries = []

    def open(self, **fields):
        with self._lock:
            entry = {"id": len(self._entries) + 1, **fields, "input": 0, "output": 0, "chunks": 0, "outcome": "open"}
            self._entries.append(entry)
            return entry

    def add(self, entry, **more):
        with self._lock:
            for key, value in more.items():
                entry[key] += value

    def set(self, entry, **fields):
        with self._lock:
            entry.update(fields)

    def entries(self, label=None):
        with self._lock:
            return [dict(entry) for entry in self._entries if label in (None, entry["label"])]

    def totals(self, label=None):
        totals = {"calls": 0, "input": 0, "output": 0, "tokens": 0, "outcomes": {}}
        for entry in self.entries(label):
            totals["calls"] += 1
            totals["input"] += entry["input"]
            totals["output"] += entry["output"]
            totals["tokens"] += entry["input"] + entry["output"]
            totals["outcomes"][entry["outcome"]] = totals["outcomes"].get(entry["outcome"], 0) + 1
        return totals

    def clear(self):
        with self._lock:
            self._entries.clear()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without this, each small chunk of a stream waits for the acknowledgement of the chunk before.
    disable_nagle_algorithm = True
    timeout = HANG_MAX_SECONDS

    @property
    def ledger(self):
        return self.server.ledger

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        label = urllib.parse.parse_qs(url.query).get("label", [None])[0]
        if url.path == "/ledger":
            self.answer(200, {"entries": self.ledger.entries(label)})
        elif url.path == "/ledger/totals":
            self.answer(200, self.ledger.totals(label))
        else:
            self.answer(404, {"error": {"message": f"there is no {url.path}"}})

    def do_DELETE(self):
        if self.path != "/ledger":
            return self.answer(404, {"error": {"message": f"there is no {self.path}"}})
        self.ledger.clear()
        return self.answer(200, {})

    def do_POST(self):
        body = self.read_body()
        if body is None:
            return
        api = api_of(self.path)
        if api is None:
            self.answer(404, {"error": {"message": f"there is no {self.path}"}})
            return
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        model = str(api.model(path, body))
        behaviour, streams = Behaviour(model), api.streams(path, body)
        label = self.headers.get("x-stub-label") or str((body.get("metadata") or {}).get("label", ""))
        entry = self.ledger.open(label=label, api=api.name, model=model, stream=streams, status=behaviour.status)
        if behaviour.status != 200:
            self.ledger.set(entry, outcome="refused")
            self.answer(behaviour.status, api.error(behaviour.status, f"the model {model} answers so"))
            return
        wanted = api.wanted(body)
        output = behaviour.output if not isinstance(wanted, int) else min(behaviour.output, wanted)
        prompt = sum(count(text) for text in texts_of(body))
        reasoning = min(behaviour.reasoning, 1 << 30)
        figures = Figures(prompt, output + reasoning, min(behaviour.cached, prompt), reasoning)
        words = [f"w{number} " for number in range(output)]
        if streams:
            self.stream(api, model, behaviour, entry, figures, words, body)
        else:
            self.whole(api, model, behaviour, entry, figures, words)

    def read_body(self):
        length = self.headers.get("content-length", "")
        if not (length.isdecimal() and int(length) <= BODY_MAX_BYTES):
            self.close_connection = True
            self.answer(400, {"error": {"message": "content-length must be given, and at most 64 MiB"}})
            return None
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self.answer(400, {"error": {"message": "the body must be an object of JSON"}})
            return None
        return body

    def whole(self, api, model, behaviour, entry, figures, words):
        """Answers with one body. A cut ends the body in its middle: all tokens count, since they were generated."""
        time.sleep(behaviour.delay)
        self.ledger.add(entry, input=figures.input, output=figures.output)
        if behaviour.hang_after is not None:
            self.hang(entry)
            return
        usage = behaviour.shown(api.usage(figures))
        content = json.dumps(with_nulls(api.reply(model, words, usage))).encode()
        if behaviour.garbage:
            content = b"<html>" + content[: len(content) // 2]
        if behaviour.cut_after is not None:
            self.start(200, "application/json", len(content))
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            self.ledger.set(entry, outcome="cut")
            return
        self.ledger.set(entry, outcome="complete")
        self.answer(200, content)

    def stream(self, api, model, behaviour, entry, figures, words, body):
        self.ledger.add(entry, input=figures.input)
        self.start(200, "text/event-stream", None)

        def show(figures):
            return behaviour.shown(api.usage(figures))

        outcome, sent = "complete", 0
        try:
            for chunk in api.chunks(model, words, figures, show, body):
                if (chunk.tokens or sent) and sent in (behaviour.cut_after, behaviour.hang_after):
                    outcome = "cut" if sent == behaviour.cut_after else "hangs"
                    break
                if chunk.tokens:
                    time.sleep(behaviour.delay)
                sent += chunk.tokens
                # The last token comes with the tokens of reasoning, which were not shown before.
                tokens = chunk.tokens + (figures.reasoning if chunk.tokens and sent == len(words) else 0)
                # A client that has the chunk may read the ledger at once, so the ledger is first.
                self.ledger.add(entry, output=tokens, chunks=1)
                try:
                    for piece in self.pieces(chunk, behaviour):
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                except OSError:
                    self.ledger.add(entry, output=-tokens, chunks=-1)
                    raise
            if outcome == "hangs":
                self.hang(entry)
                return
            if outcome == "complete":
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            outcome = "left"
        if outcome != "complete":
            self.close_connection = True
        self.ledger.set(entry, outcome=outcome)

    def pieces(self, chunk, behaviour):
        text = sse(chunk._replace(body=with_nulls(chunk.body)))
        has_usage = isinstance(chunk.body, dict) and not chunk.tokens and "usage" in json.dumps(chunk.body)
        if behaviour.garbage and chunk.tokens:
            return [b"data: {not json\n\n", text]
        return [text, text] if behaviour.usage == "twice" and has_usage else [text]

    def hang(self, entry):
        """Sends no more, and waits until the client leaves."""
        self.close_connection = True
        self.ledger.set(entry, outcome="hangs")
        self.wfile.flush()
        self.connection.settimeout(HANG_MAX_SECONDS)
        try:
            self.connection.recv(1)
        except OSError:
            pass
        self.ledger.set(entry, outcome="left")

    def answer(self, status, body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.start(status, "application/json", len(content))
        self.wfile.write(content)

    def start(self, status, kind, length):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("x-request-id", f"stub-{time.monotonic_ns()}")
        if length is None:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(length))
        self.end_headers()

    def handle(self):
        try:
            super().handle()
        except OSError:
            # The client left.
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.ledger = Ledger()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


def main():
    server = Server(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(server.url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
