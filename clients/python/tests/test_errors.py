"""Each error of the server has a class, and says what the server said."""

from __future__ import annotations

import datetime as dt
import pickle
import re

import pytest
from conftest import ROOT, World, limit
from google.protobuf import any_pb2

import tope
from tope import errors
from tope.rpc import error_details_pb2 as details_pb
from tope.rpc import status_pb2
from tope.v1 import quota_service_pb2 as pb


def trailers(*details: object, code: int = 9, text: str = "text") -> list[tuple[str, bytes]]:
    """Makes the trailing metadata of an error, as the server does."""
    packed = []
    for detail in details:
        url = f"type.googleapis.com/google.rpc.{detail.DESCRIPTOR.name}"  # type: ignore[attr-defined]
        packed.append(any_pb2.Any(type_url=url, value=detail.SerializeToString()))  # type: ignore[attr-defined]
    status = status_pb2.Status(code=code, message=text, details=packed)
    return [("grpc-status-details-bin", status.SerializeToString())]


def test_every_reason_of_the_reference_has_a_class_of_its_code() -> None:
    table = (ROOT / "docs/reference.md").read_text().split("## Errors")[1].split("## Bounds")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ") and "`" not in line[:20]]
    found = [(code.strip(), reason) for code, reasons in rows for reason in re.findall(r"\b[A-Z][A-Z_]+\b", reasons)]
    assert len(found) > 35
    for code, reason in found:
        info = details_pb.ErrorInfo(reason=reason, domain="tope", metadata={"k": "v"})
        error = errors.of_rpc(code, "text", trailers(info, code=errors.CODES.index(code)))
        assert type(error) is errors.REASONS[reason], reason
        assert (error.code, error.reason, error.metadata) == (code, reason, {"k": "v"})
        assert type(error).code == code, f"the class of {reason} has the code {type(error).code}"


def test_a_refusal_has_its_figures(world: World) -> None:
    world.tenant_with(limit(1_000))
    client = world.client()
    with (
        client.hold(900, on_expiry="release", ttl=60),
        pytest.raises(tope.QuotaExceeded) as caught,
        client.hold(200, reuse="alone"),
    ):
        pass
    error = caught.value
    assert (error.limit, error.resource, error.allowance) == ("tokens-per-day", "tokens", 1_000)
    assert (error.remaining, error.requested) == (100, 200)
    assert error.retry_after is not None
    assert 55 <= error.retry_after <= 60
    assert isinstance(error.window_end, dt.datetime)
    assert error.window_end.hour == error.window_end.minute == 0
    assert [one.limit for one in error.violations] == ["tokens-per-day"]
    assert error.violations[0].subject == f"tenant:{world.tenant}"
    assert 'limit "tokens-per-day" has 100 of 1000 left, and 200 were requested' in str(error)


def test_two_limits_that_refuse_are_two_violations(world: World) -> None:
    month = limit(50)
    month.id = "tokens-per-month"
    month.period = 5
    world.tenant_with(limit(100), month)
    with pytest.raises(tope.QuotaExceeded) as caught:
        world.client().calls.reserve(
            pb.ReserveRequest(tenant=world.tenant, amounts=[pb.ReserveAmount(resource="tokens", quantity=200)])
        )
    assert {one.limit for one in caught.value.violations} == {"tokens-per-day", "tokens-per-month"}
    assert caught.value.retry_after is None, "waiting never helps"


def test_wrong_fields_are_named(world: World) -> None:
    world.tenant_with(limit(100))
    client = world.client()
    with pytest.raises(tope.InvalidArgument) as caught, client.hold({"no-such-thing": 1}):
        pass
    assert caught.value.faults[0].field == "amounts[0].resource"


def test_an_unknown_reason_gets_the_class_of_its_code() -> None:
    info = details_pb.ErrorInfo(reason="OF_A_LATER_VERSION", domain="tope")
    error = errors.of_rpc("UNAVAILABLE", "text", trailers(info, code=14))
    assert type(error) is errors.Unavailable
    assert error.reason == "OF_A_LATER_VERSION"
    assert error.transient


def test_an_error_of_another_system_is_not_taken_for_one_of_tope() -> None:
    info = details_pb.ErrorInfo(reason="QUOTA_EXCEEDED", domain="example.com")
    error = errors.of_rpc("RESOURCE_EXHAUSTED", "too large", trailers(info, code=8))
    assert not isinstance(error, tope.QuotaExceeded)
    assert not isinstance(errors.of_rpc("RESOURCE_EXHAUSTED", "Received message larger", []), tope.QuotaExceeded)
    for code in ("UNAVAILABLE", "UNKNOWN", "CANCELLED", "INTERNAL"):
        assert type(errors.of_rpc(code, "Socket closed", [])) is errors.Unreachable
    ours = details_pb.ErrorInfo(reason="INTERNAL", domain="tope")
    assert type(errors.of_rpc("INTERNAL", "a defect", trailers(ours, code=13))) is errors.Internal


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"\x08\x01\x1a\x02\xff\xff", b"\x00" * 50])
def test_malformed_details_are_no_crash(content: bytes) -> None:
    error = errors.of_rpc("RESOURCE_EXHAUSTED", "text", [("grpc-status-details-bin", content)])
    assert (error.code, error.message) == ("RESOURCE_EXHAUSTED", "text")


def test_odd_figures_of_a_violation_are_no_crash() -> None:
    dimensions = {"requested": "x", "remaining": "", "window_end": "tomorrow"}
    violation = details_pb.QuotaFailure.Violation(quota_id="l", quota_dimensions=dimensions)
    failure = details_pb.QuotaFailure(violations=[violation])
    info = details_pb.ErrorInfo(reason="QUOTA_EXCEEDED", domain="tope")
    error = errors.of_rpc("RESOURCE_EXHAUSTED", "text", trailers(info, failure, code=8))
    assert isinstance(error, tope.QuotaExceeded)
    assert (error.limit, error.requested, error.remaining, error.window_end) == ("l", 0, None, None)


def test_an_error_survives_pickle(world: World) -> None:
    world.tenant_with(limit(1))
    with pytest.raises(tope.QuotaExceeded) as caught, world.client().hold(2):
        pass
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.limit, copy.code) == (
        tope.QuotaExceeded,
        str(caught.value),
        "tokens-per-day",
        "RESOURCE_EXHAUSTED",
    )


def test_a_status_is_the_same_after_a_round_trip() -> None:
    error = errors.Overloaded("busy", reason="OVERLOADED", metadata={"a": "b"}, retry_after=1.5)
    copy = errors.of_status(errors.to_status(error))
    assert (type(copy), copy.metadata, copy.retry_after) == (errors.Overloaded, {"a": "b"}, 1.5)
