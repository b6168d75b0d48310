"""Replays a trace of model calls against a server, one call at a time.

For each row of the CSV (columns TIMESTAMP, ContextTokens, GeneratedTokens), the script reserves context +
estimate tokens. If the Reserve is granted, it commits context + generated tokens. RESOURCE_EXHAUSTED is a
refusal; any other error ends the replay. The script creates nothing: the resource `tokens` and the tenant must
exist, and the tenant must not have used any tokens.

With --limit, the tenant's plan must have exactly one limit: HARD, LIFETIME, with this number of tokens. The
script compares every decision with a model that knows only the CSV. It prints one line of JSON. The exit code
is 1 if a decision differs from the model or a call fails.
"""

import argparse
import csv
import json
import sys
import uuid

import grpc

import stubs

with stubs.importable():
    from tope.v1 import quota_service_pb2 as pb
    from tope.v1 import quota_service_pb2_grpc
    from tope.v1 import usage_pb2

CALL_SECONDS_MAX = 30
CONNECT_SECONDS_MAX = 30


class Failed(Exception):
    """The replay cannot go on, or found a difference."""


class Model:
    """A model of a HARD LIFETIME limit and of calls that come one after the other, so that at most one hold is open."""

    def __init__(self, limit):
        self.limit = limit
        self.committed = 0

    def grants(self, reserve):
        return self.committed + reserve <= self.limit

    def commit(self, used):
        # Real usage is never refused, so the overrun of a granted hold may exceed the limit.
        self.committed += used


def main():
    arguments = parse_arguments()
    with open(arguments.csv, newline="", encoding="utf-8-sig") as file:
        calls = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)]
    model = None if arguments.limit is None else Model(arguments.limit)
    try:
        with grpc.insecure_channel(arguments.target.removeprefix("http://")) as channel:
            grpc.channel_ready_future(channel).result(timeout=CONNECT_SECONDS_MAX)
            quota = quota_service_pb2_grpc.QuotaServiceStub(channel)
            summary = replay(quota, calls, arguments, model)
    except grpc.FutureTimeoutError:
        sys.exit(f"replay: no server at {arguments.target} within {CONNECT_SECONDS_MAX} seconds")
    except Failed as failure:
        sys.exit(f"replay: {failure}")
    print(json.dumps(summary))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="127.0.0.1:50051", help="host:port of the server")
    parser.add_argument("--tenant", required=True, help="the tenant that is charged")
    parser.add_argument("--csv", required=True, help="the file of the trace")
    parser.add_argument("--estimate", type=int, default=1_000, help="tokens reserved for the answer")
    parser.add_argument("--limit", type=int, help="tokens of the plan's limit; each decision is compared with a model")
    return parser.parse_args()


def replay(quota, calls, arguments, model):
    """Plays all calls, and returns the summary. Raises Failed."""
    summary = {"granted": 0, "refused": 0, "committed_tokens": 0}
    # Each call of each replay has its own request_id.
    run = uuid.uuid4().hex
    for number, (context, generated) in enumerate(calls, start=1):
        asked, used = context + arguments.estimate, context + generated
        hold = reserve(quota, arguments.tenant, f"replay-{run}-{number}", asked)
        if model is not None and model.grants(asked) != (hold is not None):
            said, wanted = ("granted", "refused") if hold is not None else ("refused", "granted")
            raise Failed(f"row {number}: {asked} tokens were {said}, the model with {model.committed} of"
                         f" {model.limit} committed says {wanted}")
        if hold is None:
            summary["refused"] += 1
            continue
        commit(quota, hold, used)
        summary["granted"] += 1
        summary["committed_tokens"] += used
        if model is not None:
            model.commit(used)
    return summary


def reserve(quota, tenant, request_id, quantity):
    """Reserves tokens. Returns the name of the reservation, or None if the Reserve was refused."""
    amount = pb.ReserveAmount(resource="tokens", quantity=quantity)
    request = pb.ReserveRequest(request_id=request_id, tenant=tenant, amounts=[amount])
    try:
        hold = quota.Reserve(request, timeout=CALL_SECONDS_MAX).reservation
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return None
        raise Failed(f"Reserve {request_id}: {error.code().name}: {error.details()}") from error
    granted = {amount.resource: amount.reserved for amount in hold.amounts}
    if granted != {"tokens": quantity}:
        raise Failed(f"Reserve {request_id}: asked for {quantity} tokens and holds {granted}")
    return hold.name


def commit(quota, name, used):
    """Commits the tokens that were used."""
    amount = pb.Amount(resource="tokens", quantity=used)
    request = pb.CommitRequest(reservation=name, amounts=[amount])
    try:
        settled = quota.Commit(request, timeout=CALL_SECONDS_MAX).reservation
    except grpc.RpcError as error:
        raise Failed(f"Commit {name}: {error.code().name}: {error.details()}") from error
    charged = {amount.resource: amount.committed for amount in settled.amounts}
    if charged != {"tokens": used} or settled.state != usage_pb2.RESERVATION_STATE_COMMITTED:
        raise Failed(f"Commit {name}: used {used} tokens and was charged {charged}")


if __name__ == "__main__":
    main()
