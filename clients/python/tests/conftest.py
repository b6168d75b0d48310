"""What all tests share: the stub, and the two servers behind a client."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from provider import Provider

import tope
from tope._target import Target
from tope._transport import GrpcTransport
from tope.testing import Fake, Faulty, Server
from tope.v1 import policy_pb2

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = itertools.count(1)


def words(text: str) -> int:
    """Counts tokens as the stub does."""
    return len(text.split())


def limit(quantity: int, resource: str = "tokens", period: int = policy_pb2.PERIOD_DAY) -> policy_pb2.Limit:
    return policy_pb2.Limit(id=f"{resource}-per-day", resource=resource, quantity=quantity, period=period)


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    process = subprocess.Popen([sys.executable, str(ROOT / "clients/stub/stub.py")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Provider(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()


class World:
    """A server, real or not, a tenant of this test, and clients with faults between them and the server."""

    def __init__(self, kind: str, server: Server | None) -> None:
        self.kind, self.server = kind, server
        self.fake = Fake() if server is None else None
        self.tenant = f"t{next(NUMBERS)}-{uuid.uuid4().hex[:8]}"
        self.clients: list[tope.Client] = []
        self.settlements: list[tope.Settlement] = []
        self.faulty: Faulty | None = None

    @property
    def home(self) -> Server | Fake:
        found = self.server or self.fake
        assert found is not None
        return found

    def tenant_with(self, *limits: policy_pb2.Limit) -> str:
        self.home.add(self.tenant, limits)
        return self.tenant

    def client(self, **options: Any) -> tope.Client:
        """Makes a client for the tenant, with a tokenizer that counts words."""
        if self.server is not None:
            inner: Any = GrpcTransport(Target.parse(self.server.target))
        else:
            inner = self.fake
        self.faulty = Faulty(inner)
        estimator = tope.Estimator(words, message_tokens=0)
        options = {"tenant": self.tenant, "estimator": estimator, "on_settled": self.settlements.append, **options}
        client = tope.Client(self.faulty, **options)
        self.clients.append(client)
        return client

    def restart(self) -> None:
        if self.server is not None:
            self.server.restart()
        elif self.faulty is not None:
            for method in ("Reserve", "Commit", "Batch"):
                self.faulty.fail(method, "lose-request")

    def reservations(self, tenant: str | None = None) -> list[Any]:
        """Returns the reservations in the order in which they were made."""
        found = list(self.judge().calls.reservations(tenant or self.tenant))
        return sorted(found, key=lambda one: (one.create_time.ToNanoseconds(), _number(one.name)))

    def balances(self) -> dict[str, Any]:
        return {one.limit_id: one for one in self.judge().calls.usage(self.tenant)}

    def judge(self) -> tope.Client:
        """Returns a client without faults, for the books."""
        if not hasattr(self, "_judge"):
            self._judge = tope.Client(self.server.target if self.server is not None else self.fake)
            self.clients.append(self._judge)
        return self._judge

    def committed(self, resource: str = "tokens") -> int:
        return sum(one.committed for found in self.reservations() for one in found.amounts if one.resource == resource)

    def close(self) -> None:
        if self.faulty is not None:
            self.faulty.heal()
        for client in self.clients:
            client.close(1.0)


def _number(name: str) -> int:
    return int(name.removeprefix("fake-")) if name.startswith("fake-") else 0


@pytest.fixture(params=["fake", "server"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Both servers, one after the other."""
    server = request.getfixturevalue("tope_server") if request.param == "server" else None
    found = World(request.param, server)
    yield found
    found.close()


@pytest.fixture
def real(tope_server: Server) -> Iterator[World]:
    """Only the real server."""
    found = World("server", tope_server)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TOPE_") and name != "TOPE_BIN"]:
        monkeypatch.delenv(name)
