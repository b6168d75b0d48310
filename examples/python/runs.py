"""Agents share the budget of a run. Start `tope serve --demo` first; docs/guide.md shows how to make the stubs."""

import sys
import uuid

import grpc

from tope.v1 import admin_service_pb2 as admin
from tope.v1 import admin_service_pb2_grpc
from tope.v1 import policy_pb2 as policy
from tope.v1 import quota_service_pb2 as tope
from tope.v1 import quota_service_pb2_grpc

# Each value of the label `run` has a counter of its own. Besides, each agent has a limit of its own.
PER_RUN = policy.Limit(
    id="tokens-per-run", resource="tokens", quantity=90, period=policy.PERIOD_LIFETIME, per_labels=["run"])
PER_AGENT = policy.Limit(
    id="tokens-per-agent", resource="tokens", quantity=100_000, period=policy.PERIOD_DAY, per=[policy.DIMENSION_AGENT])


def create(call, request):
    """Creates something, unless an earlier start of this program has created it."""
    try:
        call(request)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise


with grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051") as channel:
    operator = admin_service_pb2_grpc.AdminServiceStub(channel)
    plan = policy.Plan(id="per-run", limits=[PER_RUN, PER_AGENT])
    create(operator.CreatePlan, admin.CreatePlanRequest(plan=plan))
    create(operator.CreateTenant, admin.CreateTenantRequest(tenant=policy.Tenant(id="wayne", plan=plan.id)))
    quota = quota_service_pb2_grpc.QuotaServiceStub(channel)

    def reserve(agent, run):
        tokens = tope.ReserveAmount(resource="tokens", quantity=50)
        request = tope.ReserveRequest(
            tenant="wayne", agent=agent, labels={"run": run}, amounts=[tokens], allow_partial=True)
        return quota.Reserve(request).reservation

    # The planner has spent 30 tokens of its run. Its three sub-agents ask for 50 tokens each, under their own names.
    run, other_run = uuid.uuid4().hex, uuid.uuid4().hex
    used = tope.Amount(resource="tokens", quantity=30)
    quota.Record(tope.RecordRequest(tenant="wayne", agent="planner", labels={"run": run}, amounts=[used]))
    for agent in ["searcher", "reader", "writer"]:
        try:
            print(agent, "may spend", reserve(agent, run).amounts[0].reserved)
        except grpc.RpcError as refusal:
            print(agent, refusal.code().name, refusal.details())
    print("writer may spend", reserve("writer", other_run).amounts[0].reserved, "in another run")
