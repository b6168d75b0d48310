"""The client: it makes holds, settles them, and calls the server."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from tope import _retry, errors
from tope._calls import AsyncCalls, Calls
from tope._core import (
    Ask,
    Charge,
    Core,
    Decision,
    Ending,
    Meter,
    Settlement,
    amounts_of,
    check_amounts,
    duration,
    new_id,
)
from tope._guard import Guard
from tope._hold import Scope
from tope._settle import KeepAlive, ReleaseUnknown, Settle, SettleAllowed, method_of
from tope._target import Target
from tope._transport import GrpcTransport, Transport
from tope._worker import Worker
from tope.estimate import Estimator
from tope.usage import Usage
from tope.v1 import quota_service_pb2 as quota_pb

log = logging.getLogger("tope")

#: What happens if no server can be reached. A function gets the error and the tenant, and returns True to allow.
OnUnavailable = Literal["refuse", "allow"] | Callable[[errors.TopeError, str], bool]

# Before a settlement is handed to the worker, the caller waits this long for the server.
_SETTLE_SECONDS = 1.0
_TTL_MAX = 86_400.0


def default_meter(usage: Usage, model: str) -> dict[str, int]:
    """Charges these resources, if they are reserved: all tokens, or tokens by kind."""
    return {
        "tokens": usage.total,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cached_tokens": usage.cache_read,
        "reasoning_tokens": usage.reasoning,
    }


class Client:
    """A client of a server of Tope. Threads, event loops and forked processes may share one.

    `target`: `HOST:PORT`, or a URL with `http` or `https` (default: TOPE_TARGET, then 127.0.0.1:50051).
    `tenant`, `agent`, `user`, `model`: the subject of holds that do not name their own (tenant: TOPE_TENANT).
    `key`, `key_file`: the key, or a file that contains it (TOPE_KEY_FILE); a file is read again when it changes.
    `ca`, `client_cert`, `client_key`: files for TLS (TOPE_CA_FILE).
    `timeout`: seconds for a decision, repeats included.
    `ttl`: seconds until a hold ends that nobody settles; holds that live longer are extended.
    `on_unavailable`, `on_unknown`, `on_expiry`: what happens if no server can be reached, if a call breaks and nobody
    knows what it used, and if the program dies.
    `tokenizer`: an encoding of tiktoken, or a function that counts the tokens of a text.
    `meter`: a function that makes quantities of resources of a Usage.
    `price`: a function that returns the cost of a Usage of a model, such as `tope.prices.nanos`, or None if it is not
    known. Each hold then also reserves the resource that `cost` names.
    `queue_max`: settlements that may wait for the server. `exit_timeout`: seconds that the program waits at its end.
    `on_settled`: is called with the Settlement of each hold, in any thread. It must not block.
    """

    def __init__(
        self,
        target: str | Transport | None = None,
        *,
        tenant: str | None = None,
        agent: str = "",
        user: str = "",
        model: str = "",
        key: str | None = None,
        key_file: str | None = None,
        ca: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        timeout: float = 2.0,
        ttl: float = 300.0,
        on_unavailable: OnUnavailable = "refuse",
        on_unknown: Charge = "charge",
        on_expiry: Charge = "charge",
        tokenizer: object = None,
        estimator: Estimator | None = None,
        meter: Meter | None = None,
        price: Callable[[Usage, str], int | None] | None = None,
        cost: str = "cost_nanos",
        queue_max: int = 10_000,
        exit_timeout: float = 5.0,
        on_settled: Callable[[Settlement], None] | None = None,
    ) -> None:
        if target is None or isinstance(target, str):
            files = {"key_file": key_file, "ca": ca, "client_cert": client_cert, "client_key": client_key}
            target = GrpcTransport(Target.parse(target, key=key, **files))
        self._transport: Transport = target
        self.estimator = estimator or Estimator(tokenizer)
        self.meter: Meter = meter or default_meter
        self.meter_is_default = meter is None
        self._price, self.cost = price, cost
        self.on_settled = on_settled
        self._timeout = _positive("timeout", timeout)
        self._on_unavailable = _unavailable(on_unavailable)
        self._defaults = Ask(
            tenant=tenant if tenant is not None else os.environ.get("TOPE_TENANT", ""),
            amounts={},
            agent=agent,
            user=user,
            model=model,
            ttl=_ttl(ttl),
            on_expiry=_charge("on_expiry", on_expiry),
            on_unknown=_charge("on_unknown", on_unknown),
        )
        self._worker = Worker(target, queue_max, exit_timeout)
        self._warned: set[tuple[str, str]] = set()
        #: Each call of the server, with its request and its reply.
        self.calls = Calls(self.call)
        self.acalls = AsyncCalls(self.acall)
        weakref.finalize(self, Worker.retire, self._worker).atexit = False

    # What callers use.

    def hold(
        self,
        amounts: int | Mapping[str, int] | None = None,
        *,
        tenant: str | None = None,
        agent: str | None = None,
        user: str | None = None,
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        prompt: object = None,
        tools: object = None,
        max_tokens: int | None = None,
        n: int = 1,
        allow_partial: bool = False,
        minimum: int | Mapping[str, int] = 0,
        ttl: float | None = None,
        on_expiry: Charge | None = None,
        on_unknown: Charge | None = None,
        on_unavailable: OnUnavailable | None = None,
        reuse: Literal["join", "alone"] = "join",
        extend: bool = True,
        request_id: str | None = None,
    ) -> Scope:
        """Makes a hold for a `with` or `async with` block.

        `amounts`: quantities by resource; a number means tokens. Without it, `prompt` and `max_tokens` are estimated.
        `reuse`: whether a hold inside another hold of this tenant becomes a part of it (`join`) or stands alone.
        `extend`: whether the hold is extended if a stream outgrows it, or if it lives longer than half of its ttl.
        """
        name = model if model is not None else self._defaults.model
        call = self.estimator.call(prompt, model=name, max_tokens=max_tokens, n=n, tools=tools)
        if amounts is None and prompt is None and max_tokens is None:
            raise ValueError("hold needs amounts, or a prompt or max_tokens of which it can estimate them")
        wanted = _amounts(amounts if amounts is not None else call.input + call.output, "amounts")
        if self._price is not None and self.cost not in wanted:
            # Without an estimate, all tokens might be of the dearer kind.
            cost = self.cost_of(call.usage if amounts is None else Usage(0, wanted.get("tokens", 0)), name)
            wanted |= {} if cost is None else {self.cost: cost}
        defaults = self._defaults
        ask = Ask(
            tenant=defaults.tenant if tenant is None else tenant,
            agent=defaults.agent if agent is None else agent,
            user=defaults.user if user is None else user,
            model=name,
            labels=dict(labels or {}),
            amounts=wanted,
            minimum=_amounts(minimum, "minimum") if minimum else {},
            allow_partial=allow_partial,
            ttl=defaults.ttl if ttl is None else _ttl(ttl),
            on_expiry=_charge("on_expiry", on_expiry or defaults.on_expiry),
            on_unknown=_charge("on_unknown", on_unknown or defaults.on_unknown),
            request_id=request_id or new_id(),
            extend=extend,
            join=_choice("reuse", reuse, ("join", "alone")) == "join",
            estimate=call if prompt is not None or max_tokens is not None else None,
            prompt_known=prompt is not None,
        )
        if not ask.tenant:
            raise ValueError("hold needs a tenant: as an argument, of the client, or in TOPE_TENANT")
        return Scope(self, ask, _unavailable(on_unavailable) if on_unavailable is not None else self._on_unavailable)

    def guard(self, amounts: Any = None, **options: Any) -> Guard:
        """Makes a decorator that runs each call of a function inside a hold. See `tope.guard`."""
        return Guard(lambda: self, amounts, options)

    def call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """Calls the server, with repeats. A request without a `request_id` gets one for all repeats."""
        return _retry.call(self._transport, method, _with_id(method, request), timeout or self._timeout)

    async def acall(self, method: str, request: Any, timeout: float | None = None) -> Any:
        return await _retry.acall(self._transport, method, _with_id(method, request), timeout or self._timeout)

    @property
    def pending(self) -> int:
        """Settlements that wait for the server, about."""
        return self._worker.pending

    @property
    def lost(self) -> int:
        """Settlements that were given up. The server ends such holds at their deadlines, by their `on_expiry`."""
        return self._worker.lost

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until everything is settled. Returns whether it is."""
        return self._worker.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Settles what waits, and ends the thread and the connection. Returns whether everything is settled."""
        done = self._worker.stop(timeout)
        self._transport.close()
        return done

    async def aclose(self, timeout: float = 5.0) -> bool:
        """Does what `close` does, for a program with asyncio."""
        import asyncio

        done = await asyncio.get_running_loop().run_in_executor(None, self._worker.stop, timeout)
        await self._transport.aclose()
        self._transport.close()
        return done

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # What holds use.

    def begin(self, core: Core, on_unavailable: Any) -> None:
        self._worker.start()
        if core.parent is not None:
            lacks = core.outgrown(core.ask.amounts)
            if lacks:
                self.extend(core.root, lacks, None)
            core.open_joined()
            return
        try:
            reply = self.call("Reserve", core.ask.reserve_request())
        except errors.TopeError as error:
            self._not_begun(core, error, on_unavailable)
        except BaseException:
            self._worker.put(ReleaseUnknown(core.ask.tenant, core.ask.request_id))
            raise
        else:
            self._begun(core, reply)

    async def abegin(self, core: Core, on_unavailable: Any) -> None:
        self._worker.start()
        if core.parent is not None:
            lacks = core.outgrown(core.ask.amounts)
            if lacks:
                await self.aextend(core.root, lacks, None)
            core.open_joined()
            return
        try:
            reply = await self.acall("Reserve", core.ask.reserve_request())
        except errors.TopeError as error:
            self._not_begun(core, error, on_unavailable)
        except BaseException:
            self._worker.put(ReleaseUnknown(core.ask.tenant, core.ask.request_id))
            raise
        else:
            self._begun(core, reply)

    def _begun(self, core: Core, reply: quota_pb.ReserveResponse) -> None:
        core.open(reply.reservation)
        self._worker.open.add(core)
        if core.ask.extend:
            keep = KeepAlive(core)
            self._worker.put(keep, keep.delay)

    def _not_begun(self, core: Core, error: errors.TopeError, on_unavailable: Any) -> None:
        """Lets a call pass although no server answered, or raises the error. A refusal never passes."""
        if not error.transient:
            raise error
        allowed = False
        try:
            allowed = on_unavailable == "allow"
            if callable(on_unavailable):
                allowed = bool(on_unavailable(error, core.ask.tenant))
        finally:
            if not allowed:
                # A Reserve whose reply was lost may have taken effect.
                self._worker.put(ReleaseUnknown(core.ask.tenant, core.ask.request_id))
        if not allowed:
            raise error
        log.warning("no server answered, and a call of tenant %s is allowed: %s", core.ask.tenant, error)
        core.open_allowed(error)
        self._worker.open.add(core)

    def settle(self, core: Core, ending: Ending, error: BaseException | None) -> None:
        """Ends a hold, and waits for the server unless the caller is being stopped."""
        decision = self._decide(core, ending, error)
        if decision is None:
            return
        method, request = method_of(core, decision)
        try:
            reply = self._transport.call(method, request, _SETTLE_SECONDS)
        except errors.TopeError as failure:
            self._not_settled(core, decision, failure)
        except BaseException:
            self._worker.put(Settle(core, decision))
            raise
        else:
            core.ended(decision, reply.reservation, None)

    async def asettle(self, core: Core, ending: Ending, error: BaseException | None) -> None:
        """Does the same for a program with asyncio. If the task is cancelled meanwhile, the worker settles the hold."""
        decision = self._decide(core, ending, error)
        if decision is None:
            return
        method, request = method_of(core, decision)
        try:
            reply = await self._transport.acall(method, request, _SETTLE_SECONDS)
        except errors.TopeError as failure:
            self._not_settled(core, decision, failure)
        except BaseException:
            self._worker.put(Settle(core, decision))
            raise
        else:
            core.ended(decision, reply.reservation, None)

    def settle_later(self, core: Core, ending: Ending, error: BaseException | None) -> None:
        """Ends a hold in the background. It can be called by a finalizer."""
        decision = self._decide(core, ending, error, wait=False)
        assert decision is None

    def _decide(self, core: Core, ending: Ending, error: BaseException | None, wait: bool = True) -> Decision | None:
        """Decides how a hold ends. Returns None if nothing is left to do for the caller."""
        if not core.begin_settling():
            return None
        decision = core.decide(ending, error)
        if core.parent is not None:
            if not core.settle_joined(decision) and not decision.release:
                # The outer hold has ended before: the usage of this one is recorded.
                self._worker.put(SettleAllowed(core, decision))
            return None
        if core.allowed is not None:
            self._worker.put(SettleAllowed(core, decision))
            return None
        # A caller that is cancelled, or a generator that is closed, must not wait.
        if not wait or not (error is None or isinstance(error, Exception)):
            self._worker.put(Settle(core, decision))
            return None
        return decision

    def _not_settled(self, core: Core, decision: Decision, error: errors.TopeError) -> None:
        smaller = core.without_foreign(decision, error)
        if error.transient or isinstance(error, errors.Unauthenticated):
            self._worker.put(Settle(core, decision))
        elif smaller is not None:
            self._worker.put(Settle(core, smaller))
        else:
            core.ended(decision, None, error)

    def extend(self, core: Core, amounts: Mapping[str, int], ttl: float | None) -> None:
        request = _extension(core, amounts, ttl)
        if request is not None:
            core.granted.update(_granted(self.call("Extend", request)))

    async def aextend(self, core: Core, amounts: Mapping[str, int], ttl: float | None) -> None:
        request = _extension(core, amounts, ttl)
        if request is not None:
            core.granted.update(_granted(await self.acall("Extend", request)))

    def grow(self, core: Core) -> None:
        """Extends the hold of a stream that outgrows it."""
        lacks = core.outgrown()
        if lacks:
            try:
                self.extend(core.root, lacks, None)
            except errors.TopeError as error:
                _stop_or_go_on(core.root, error)

    async def agrow(self, core: Core) -> None:
        lacks = core.outgrown()
        if lacks:
            try:
                await self.aextend(core.root, lacks, None)
            except errors.TopeError as error:
                _stop_or_go_on(core.root, error)

    def cost_of(self, usage: Usage, model: str) -> int | None:
        """Returns what a usage costs. None if there are no prices, or none of the model."""
        if self._price is None:
            return None
        try:
            return self._price(usage, model)
        except Exception:
            log.exception("the cost of a call of model %r is not known", model)
            return None

    def warn_of_estimate(self, ask: Ask) -> None:
        """Warns once for each tenant and model of calls whose usage nobody reports."""
        if (ask.tenant, ask.model) not in self._warned and len(self._warned) < 1_000:
            self._warned.add((ask.tenant, ask.model))
            log.warning(
                "a hold of tenant %s was charged as reserved: nobody reported what the call used (model %r)",
                ask.tenant,
                ask.model,
            )


def _stop_or_go_on(core: Core, error: errors.TopeError) -> None:
    """Stops a stream for which the quota does not suffice. Otherwise the Commit charges what the hold lacks."""
    if isinstance(error, (errors.QuotaExceeded, errors.PermissionDenied)):
        raise error
    # Ask no more: each chunk would wait again.
    core.ask = replace(core.ask, extend=False)
    log.warning("hold %s is not extended, and its stream goes on: %s", core.ask.request_id, error)


def _extension(core: Core, amounts: Mapping[str, int], ttl: float | None) -> quota_pb.ExtendRequest | None:
    check_amounts(amounts, "an amount of extend")
    if not amounts and ttl is None:
        raise ValueError("extend needs amounts or ttl")
    if core.state != "open":
        raise RuntimeError("the hold is settled")
    if core.allowed is not None:
        return None
    return quota_pb.ExtendRequest(
        reservation=core.name,
        request_id=new_id(),
        amounts=amounts_of(amounts),
        ttl=duration(_ttl(ttl)) if ttl is not None else None,
    )


def _granted(reply: quota_pb.ExtendResponse) -> dict[str, int]:
    return {amount.resource: amount.reserved for amount in reply.reservation.amounts}


def _with_id(method: str, request: Any) -> Any:
    if method in ("Reserve", "Extend", "Record", "ResetUsage") and not request.request_id:
        copy = type(request)()
        copy.CopyFrom(request)
        copy.request_id = new_id()
        return copy
    return request


def _amounts(amounts: int | Mapping[str, int], what: str) -> dict[str, int]:
    found = dict(amounts) if isinstance(amounts, Mapping) else {"tokens": amounts}
    check_amounts(found, what)
    return found


def _positive(setting: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(f"{setting} must be a number of seconds above 0, and not {value!r}")
    return float(value)


def _ttl(value: float) -> float:
    if not 0.001 <= _positive("ttl", value) <= _TTL_MAX:
        raise ValueError(f"ttl must be 0.001 to {_TTL_MAX:.0f} seconds, and not {value!r}")
    return float(value)


def _choice(setting: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise ValueError(f"{setting} must be {' or '.join(map(repr, choices))}, and not {value!r}")
    return value


def _charge(setting: str, value: Charge) -> Charge:
    found: Charge = _choice(setting, value, ("charge", "release"))
    return found


def _unavailable(value: Any) -> Any:
    return value if callable(value) else _choice("on_unavailable", value, ("refuse", "allow"))
