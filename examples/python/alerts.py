"""Prints alerts as they happen, and resumes after the stream breaks. docs/events.md shows how to make the stubs."""

import sys
import time

import grpc

from tope.v1 import event_pb2 as event
from tope.v1 import quota_service_pb2 as tope
from tope.v1 import quota_service_pb2_grpc

KINDS = [event.EVENT_KIND_THRESHOLD_REACHED, event.EVENT_KIND_LIMIT_REACHED, event.EVENT_KIND_RESERVE_REFUSED]

# If a watcher keeps its cursor in a file or a table, it misses no event while it does not run.
cursor = ""

# If the server disappears, keepalive pings break the connection. Without them the watcher would wait for ever.
OPTIONS = [("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000)]

target = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
with grpc.insecure_channel(target, OPTIONS) as channel:
    quota = quota_service_pb2_grpc.QuotaServiceStub(channel)
    while True:
        try:
            for update in quota.WatchUsage(tope.WatchUsageRequest(kinds=KINDS, cursor=cursor)):
                if update.HasField("event"):
                    alert = update.event
                    name = event.EventKind.Name(alert.kind).removeprefix("EVENT_KIND_")
                    for b in alert.balances:
                        print(alert.tenant, name, b.limit_id, b.committed, "of", b.allowance, flush=True)
                if not cursor:
                    print("watching", target, file=sys.stderr, flush=True)
                # Every message has a cursor, except the parts of a snapshot before the last part.
                cursor = update.cursor or cursor
        except grpc.RpcError as error:
            # After any other code, a new call would fail in the same way.
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN):
                raise
            time.sleep(1)
