"""How calls reach a server: channels of gRPC, made when they are first used, in each process and each event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.message import Message

from tope import errors
from tope._target import Target
from tope.v1 import admin_service_pb2 as admin_pb
from tope.v1 import quota_service_pb2 as quota_pb

# A server that restarts is found again quickly. A dead connection is noticed while calls wait.
_OPTIONS: list[tuple[str, int]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name, this is also the time in which a connection must be made.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_retries", 0),
    # Clients do not share connections: a channel that is closed must not disturb another one.
    ("grpc.use_local_subchannel_pool", 1),
]


class Method(NamedTuple):
    path: str
    reply: type[Message]


def _methods() -> dict[str, Method]:
    """Reads the calls of both services from their descriptors."""
    known: dict[str, Method] = {}
    for module, service in ((quota_pb, "QuotaService"), (admin_pb, "AdminService")):
        descriptor = module.DESCRIPTOR.services_by_name[service]
        for method in descriptor.methods:
            path = f"/{descriptor.full_name}/{method.name}"
            known[method.name] = Method(path, message_factory.GetMessageClass(method.output_type))
    # A stream is no call of this kind.
    del known["WatchUsage"]
    return known


METHODS = _methods()


class Transport(Protocol):
    """What a client needs to reach a server. Errors are those of `tope.errors`."""

    def call(self, method: str, request: Message, timeout: float) -> Any:
        """Makes one call, and waits for the reply for `timeout` seconds."""
        ...

    async def acall(self, method: str, request: Message, timeout: float) -> Any:
        """Does the same for a program with asyncio."""
        ...

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class GrpcTransport:
    """The transport to a real server."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._channel: grpc.Channel | None = None
        self._calls: dict[str, Callable[..., Any]] = {}
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()
        # Channels of the process before a fork. Closing them here would wait for threads that do not exist.
        self._inherited: list[object] = []

    def call(self, method: str, request: Message, timeout: float) -> Any:
        self._after_fork()
        function = self._calls.get(method) or self._function(method)
        metadata = self.target.metadata()
        try:
            return function(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise self._error(error) from None
        except ValueError as error:
            # gRPC says so of a channel that is closed.
            raise errors.ClientClosed(str(error)) from None

    async def acall(self, method: str, request: Message, timeout: float) -> Any:
        self._after_fork()
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            here = self._loops[loop] = _Loop(self._open_aio())
        function = here.calls.get(method)
        if function is None:
            path, reply = METHODS[method]
            function = here.channel.unary_unary(
                path, request_serializer=_serialize, response_deserializer=reply.FromString
            )
            here.calls[method] = function
        metadata = self.target.metadata()
        try:
            return await function(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        except grpc.aio.UsageError as error:
            raise errors.ClientClosed(str(error)) from None

    def _function(self, method: str) -> Callable[..., Any]:
        with self._lock:
            if self._channel is None:
                self._channel = self._open()
            path, reply = METHODS[method]
            function: Callable[..., Any] = self._channel.unary_unary(
                path, request_serializer=_serialize, response_deserializer=reply.FromString
            )
            self._calls[method] = function
            return function

    def _open(self) -> grpc.Channel:
        credentials = self.target.credentials()
        if credentials is None:
            return grpc.insecure_channel(self.target.address, _OPTIONS)
        return grpc.secure_channel(self.target.address, credentials, _OPTIONS)

    def _open_aio(self) -> grpc.aio.Channel:
        credentials = self.target.credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.target.address, _OPTIONS)
        return grpc.aio.secure_channel(self.target.address, credentials, _OPTIONS)

    def _error(self, error: Any) -> errors.TopeError:
        trailers = error.trailing_metadata() or ()
        made = errors.of_rpc(error.code().name, error.details() or "", [(key, value) for key, value in trailers])
        if isinstance(made, errors.Unauthenticated) and self.target.key_file:
            # The key was exchanged. The caller sees this error, and the next call has the new key.
            try:
                made.key_changed = self.target.read_key()
            except ValueError:
                pass
        return made

    def _after_fork(self) -> None:
        """Leaves the channels to the process that made them."""
        if self._pid == os.getpid():
            return
        self._lock = threading.Lock()
        with self._lock:
            self._inherited += [self._channel, self._calls, dict(self._loops)]
            self._channel, self._calls = None, {}
            self._loops = weakref.WeakKeyDictionary()
            self._pid = os.getpid()

    def close(self) -> None:
        """Closes the channel of threads. Calls that are open fail."""
        if self._pid == os.getpid() and self._channel is not None:
            self._channel.close()

    async def aclose(self) -> None:
        """Closes the channel of this event loop."""
        here = self._loops.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.channel.close()


class _Loop:
    """The channel of an event loop."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls: dict[str, Callable[..., Any]] = {}


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
