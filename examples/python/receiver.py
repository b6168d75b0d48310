"""Receives webhooks and checks their signatures (standardwebhooks.com). docs/events.md shows how to try it.

    TOPE_WEBHOOK_SECRET=whsec_… python3 examples/python/receiver.py 8000
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["TOPE_WEBHOOK_SECRET"].removeprefix("whsec_"))
TOLERANCE_SECONDS = 300
LENGTH_MAX_BYTES = 1 << 20
seen = set()  # In a real receiver, use a table: an event may come again after a restart.


def is_genuine(headers, body: bytes) -> bool:
    """Whether the sender knows the secret, and sent the body just now."""
    event_id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (sent.isdecimal() and len(sent) < 16) or abs(time.time() - int(sent)) > TOLERANCE_SECONDS:
        return False
    signed = hmac.new(KEY, f"{event_id}.{sent}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(signed).decode()
    # While the secret is rotated, there are two signatures.
    signatures = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(expected.encode(), one.encode()) for one in signatures)


class Receiver(BaseHTTPRequestHandler):
    timeout = 10  # Seconds. A client that sends nothing blocks a thread for at most this time.

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not (length.isdecimal() and len(length) < 16) or int(length) > LENGTH_MAX_BYTES:
            return self.answer(400)
        body = self.rfile.read(int(length))
        if not is_genuine(self.headers, body):
            return self.answer(401)
        event_id = self.headers["webhook-id"]
        if event_id not in seen:
            event = json.loads(body)
            # Integers of 64 bits are strings, so that no JSON parser rounds them.
            spent = [int(balance["committed"]) for balance in event["data"].get("balances", [])]
            print(event["type"], json.dumps(event["data"]), *spent, flush=True)
            seen.add(event_id)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print("listening on port", sys.argv[1], file=sys.stderr, flush=True)
server.serve_forever()
