"""Reserves, commits, and is refused. Start `tope serve --demo` first; README.md shows how to make the stubs."""

import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tope.v1 import quota_service_pb2 as tope
from tope.v1 import quota_service_pb2_grpc

with grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051") as channel:
    quota = quota_service_pb2_grpc.QuotaServiceStub(channel)

    # Before the model call, reserve the most that it may use. After the call, commit the real usage.
    tokens = tope.ReserveAmount(resource="tokens", quantity=1_000)
    hold = quota.Reserve(tope.ReserveRequest(tenant="acme", agent="planner", amounts=[tokens])).reservation
    used = tope.Amount(resource="tokens", quantity=800)
    done = quota.Commit(tope.CommitRequest(reservation=hold.name, amounts=[used]))
    print("committed", done.reservation.amounts[0].committed, "left", [b.remaining for b in done.balances])

    # Ask for more than the limits of the plan leave. The error names the limits that refused.
    try:
        tokens = tope.ReserveAmount(resource="tokens", quantity=99_500)
        quota.Reserve(tope.ReserveRequest(tenant="acme", agent="planner", amounts=[tokens]))
    except grpc.RpcError as refusal:
        print(refusal.code().name, refusal.details())
        for detail in rpc_status.from_call(refusal).details:
            failure = error_details_pb2.QuotaFailure()
            if detail.Unpack(failure):
                print(failure)
