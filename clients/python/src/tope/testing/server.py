"""A real server for tests: the program `tope`, with a database of its own in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from tope import errors
from tope._target import Target
from tope._transport import GrpcTransport
from tope.testing._books import as_limits
from tope.v1 import admin_service_pb2 as admin_pb
from tope.v1 import policy_pb2

_START_SECONDS = 30.0


def find_binary() -> str | None:
    """Returns the program: of TOPE_BIN, beside this Python (as pip installs it), or in the PATH."""
    named = os.environ.get("TOPE_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise FileNotFoundError(f"TOPE_BIN names {named}, which is no program")
        return named
    beside = Path(sys.prefix) / "bin" / "tope"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("tope")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A running server. `target` is for `tope.Client`. `kill` and `start` restart it with its data."""

    def __init__(self, binary: str | None = None, *, options: Iterable[str] = ()) -> None:
        found = binary or find_binary()
        if found is None:
            raise FileNotFoundError("there is no program `tope`: set TOPE_BIN, or install the server")
        self._binary, self._options = found, list(options)
        self._folder = tempfile.TemporaryDirectory(prefix="tope-test-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        folder = Path(self._folder.name)
        address = f"127.0.0.1:{self.port}"
        command = [self._binary, "serve", "--listen", address, "--http", "off", "--database", "sqlite://tope.db"]
        # The settings of the developer's own server must not reach this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOPE_")}
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], cwd=folder, env=environment, stdout=log, stderr=log
            )
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with {self._process.returncode}:\n{self.log}")
            if time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"the server did not start in {_START_SECONDS:.0f} seconds:\n{self.log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Ends the server at once, as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends the server as an operator does. Open calls may end."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)

    def restart(self) -> None:
        """Kills the server, and starts it again with the same address and data."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Ends the server, and removes its data."""
        self._end(signal.SIGKILL)
        self._folder.cleanup()

    def add(self, tenant: str, limits: Iterable[policy_pb2.Limit] | Mapping[str, int]) -> None:
        """Adds a tenant with a plan of these limits. `{"tokens": 1000}` is a limit of 1,000 tokens a day."""
        plan = policy_pb2.Plan(id=f"plan-of-{tenant}", limits=as_limits(limits))
        for resource in {limit.resource for limit in plan.limits}:
            self.add_resource(resource)
        self._admin("CreatePlan", admin_pb.CreatePlanRequest(plan=plan))
        self._admin("CreateTenant", admin_pb.CreateTenantRequest(tenant=policy_pb2.Tenant(id=tenant, plan=plan.id)))

    def add_resource(self, id: str) -> None:
        """Declares a resource, unless it is declared."""
        try:
            self._admin("CreateResource", admin_pb.CreateResourceRequest(resource=policy_pb2.Resource(id=id)))
        except errors.NameTaken:
            pass

    def suspend(self, tenant: str, suspended: bool = True) -> None:
        state = policy_pb2.TENANT_STATE_SUSPENDED if suspended else policy_pb2.TENANT_STATE_ACTIVE
        request = admin_pb.UpdateTenantRequest(tenant=policy_pb2.Tenant(id=tenant, state=state))
        self._admin("UpdateTenant", request)

    def _admin(self, method: str, request: object) -> None:
        transport = GrpcTransport(Target.parse(self.target))
        try:
            transport.call(method, request, 10.0)  # type: ignore[arg-type]
        finally:
            transport.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
