"""The calls of QuotaService, with their requests and replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

from tope.v1 import quota_service_pb2 as pb
from tope.v1 import usage_pb2

ALL_STATES = [value for value in usage_pb2.ReservationState.values() if value]


class Calls:
    """Each method makes one call, with repeats. An error is one of `tope.errors`."""

    def __init__(self, call: Callable[[str, Any], Any]) -> None:
        self._call = call

    def reserve(self, request: pb.ReserveRequest) -> pb.ReserveResponse:
        return self._call("Reserve", request)  # type: ignore[no-any-return]

    def commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        return self._call("Commit", request)  # type: ignore[no-any-return]

    def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        return self._call("Release", request)  # type: ignore[no-any-return]

    def extend(self, request: pb.ExtendRequest) -> pb.ExtendResponse:
        return self._call("Extend", request)  # type: ignore[no-any-return]

    def record(self, request: pb.RecordRequest) -> pb.RecordResponse:
        return self._call("Record", request)  # type: ignore[no-any-return]

    def amend(self, request: pb.AmendRequest) -> pb.AmendResponse:
        return self._call("Amend", request)  # type: ignore[no-any-return]

    def check(self, request: pb.CheckRequest) -> pb.CheckResponse:
        return self._call("Check", request)  # type: ignore[no-any-return]

    def batch(self, request: pb.BatchRequest) -> pb.BatchResponse:
        return self._call("Batch", request)  # type: ignore[no-any-return]

    def get_reservation(self, request: pb.GetReservationRequest) -> usage_pb2.Reservation:
        return self._call("GetReservation", request)  # type: ignore[no-any-return]

    def usage(self, tenant: str) -> Iterator[usage_pb2.Balance]:
        """Yields all balances of a tenant."""
        request = pb.GetUsageRequest(tenant=tenant, page_size=1_000)
        while True:
            reply: pb.GetUsageResponse = self._call("GetUsage", request)
            yield from reply.balances
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    def reservations(self, tenant: str, states: Iterable[Any] = ALL_STATES) -> Iterator[usage_pb2.Reservation]:
        """Yields the reservations of a tenant, the newest one first."""
        request = pb.ListReservationsRequest(tenant=tenant, states=list(states), page_size=1_000)
        while True:
            reply: pb.ListReservationsResponse = self._call("ListReservations", request)
            yield from reply.reservations
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token


class AsyncCalls:
    """The same calls, for a program with asyncio."""

    def __init__(self, call: Callable[[str, Any], Awaitable[Any]]) -> None:
        self._call = call

    async def reserve(self, request: pb.ReserveRequest) -> pb.ReserveResponse:
        return await self._call("Reserve", request)  # type: ignore[no-any-return]

    async def commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        return await self._call("Commit", request)  # type: ignore[no-any-return]

    async def release(self, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
        return await self._call("Release", request)  # type: ignore[no-any-return]

    async def extend(self, request: pb.ExtendRequest) -> pb.ExtendResponse:
        return await self._call("Extend", request)  # type: ignore[no-any-return]

    async def record(self, request: pb.RecordRequest) -> pb.RecordResponse:
        return await self._call("Record", request)  # type: ignore[no-any-return]

    async def amend(self, request: pb.AmendRequest) -> pb.AmendResponse:
        return await self._call("Amend", request)  # type: ignore[no-any-return]

    async def check(self, request: pb.CheckRequest) -> pb.CheckResponse:
        return await self._call("Check", request)  # type: ignore[no-any-return]

    async def batch(self, request: pb.BatchRequest) -> pb.BatchResponse:
        return await self._call("Batch", request)  # type: ignore[no-any-return]

    async def get_reservation(self, request: pb.GetReservationRequest) -> usage_pb2.Reservation:
        return await self._call("GetReservation", request)  # type: ignore[no-any-return]

    async def usage(self, tenant: str) -> AsyncIterator[usage_pb2.Balance]:
        """Yields all balances of a tenant."""
        request = pb.GetUsageRequest(tenant=tenant, page_size=1_000)
        while True:
            reply: pb.GetUsageResponse = await self._call("GetUsage", request)
            for balance in reply.balances:
                yield balance
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def reservations(
        self, tenant: str, states: Iterable[Any] = ALL_STATES
    ) -> AsyncIterator[usage_pb2.Reservation]:
        """Yields the reservations of a tenant, the newest one first."""
        request = pb.ListReservationsRequest(tenant=tenant, states=list(states), page_size=1_000)
        while True:
            reply: pb.ListReservationsResponse = await self._call("ListReservations", request)
            for reservation in reply.reservations:
                yield reservation
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token
