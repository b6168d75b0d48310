"""The state of a hold, and the rules for how it is settled. Nothing here waits or calls a server."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from google.protobuf import duration_pb2

from tope import errors
from tope._evidence import was_called
from tope.estimate import Estimate, weigh
from tope.usage import StreamUsage, Usage
from tope.v1 import quota_service_pb2 as quota_pb
from tope.v1 import usage_pb2

if TYPE_CHECKING:
    from tope._client import Client

log = logging.getLogger("tope")

#: How the figures of a settlement came to be.
#: `exact`: the provider reported them, or the caller gave them. `partial`: the call broke, and they are what is known.
#: `estimate`: the call ended, nobody reported its usage, and the hold was charged as reserved.
#: `unknown`: the call broke, nothing is known, and `on_unknown` decided. `unused`: no provider was called.
Basis = Literal["exact", "partial", "estimate", "unknown", "unused"]
#: How a scope ended. `left`: a stream was not read to its end.
Ending = Literal["end", "left", "raise"]
Charge = Literal["charge", "release"]
#: Makes quantities of resources of the usage of a model call. The text is the model.
Meter = Callable[[Usage, str], Mapping[str, int]]


@dataclass(frozen=True)
class Ask:
    """What a hold asks for, with the defaults of its client applied."""

    tenant: str
    amounts: Mapping[str, int]
    agent: str = ""
    user: str = ""
    model: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    minimum: Mapping[str, int] = field(default_factory=dict)
    allow_partial: bool = False
    ttl: float = 300.0
    on_expiry: Charge = "charge"
    on_unknown: Charge = "charge"
    request_id: str = ""
    extend: bool = True
    join: bool = True
    estimate: Estimate | None = None
    prompt_known: bool = False

    def reserve_request(self) -> quota_pb.ReserveRequest:
        request = quota_pb.ReserveRequest(
            request_id=self.request_id,
            tenant=self.tenant,
            agent=self.agent,
            user=self.user,
            model=self.model,
            ttl=duration(self.ttl),
            allow_partial=self.allow_partial,
            on_expiry=usage_pb2.ON_EXPIRY_CHARGE if self.on_expiry == "charge" else usage_pb2.ON_EXPIRY_RELEASE,
            labels=dict(self.labels),
        )
        for resource, quantity in self.amounts.items():
            request.amounts.add(resource=resource, quantity=quantity, minimum=self.minimum.get(resource, 0))
        return request


def duration(seconds: float) -> duration_pb2.Duration:
    millis = max(1, round(seconds * 1_000))
    return duration_pb2.Duration(seconds=millis // 1_000, nanos=millis % 1_000 * 1_000_000)


def new_id() -> str:
    return uuid.uuid4().hex


def amounts_of(amounts: Mapping[str, int]) -> list[quota_pb.Amount]:
    return [quota_pb.Amount(resource=resource, quantity=quantity) for resource, quantity in amounts.items()]


@dataclass(frozen=True)
class Decision:
    """How a hold is settled. `amounts` is None if it is charged as reserved, and `release` if nothing is charged."""

    basis: Basis
    amounts: Mapping[str, int] | None = None
    release: bool = False


@dataclass(frozen=True)
class Settlement:
    """The end of a hold. `reservation` is its last state; it is None if `error` says why the hold is not settled."""

    tenant: str
    request_id: str
    basis: Basis
    #: What was charged. None: as reserved. Empty: nothing, the hold was released.
    amounts: Mapping[str, int] | None
    reservation: usage_pb2.Reservation | None = None
    error: errors.TopeError | None = None


class Known:
    """What a hold knows about the usage inside it. Threads may add to it at the same time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.explicit: dict[str, int] = {}
        self.replies: list[Usage] = []
        self.streams: list[StreamUsage] = []
        #: Replies without usage.
        self.unknown = 0
        #: Whether a part of the quantities was estimated, since nobody knew the usage of a hold that joined.
        self.inexact = False

    def counting(self) -> list[StreamUsage]:
        """Returns the streams that count. The items of a decorated generator count if nothing else is known."""
        others = [stream for stream in self.streams if not stream.fallback]
        return others if others or self.explicit or self.replies or self.unknown else self.streams

    def usage(self) -> Usage | None:
        """Returns the sum of what is known of replies and streams. None if nothing is known."""
        parts = self.replies + [part for part in (stream.so_far() for stream in self.counting()) if part is not None]
        return sum(parts, Usage()) if parts else None

    def is_complete(self) -> bool:
        """Whether something is known, and nothing is unknown."""
        parts = bool(self.explicit or self.replies or self.streams)
        return parts and not self.unknown and all(stream.complete for stream in self.counting())

    def total(self, exact: bool) -> int:
        """Returns the tokens that were used so far."""
        total = self.explicit.get("tokens", 0) + sum(reply.total for reply in self.replies)
        return total + sum(stream.total(exact) for stream in self.counting())


class Core:
    """One hold. Its handles, its scope and the worker share it."""

    def __init__(self, client: Client, ask: Ask, parent: Core | None = None) -> None:
        self.client = client
        self.ask = ask
        self.parent = parent
        self.known = Known()
        #: Whether a provider was called. None: not known.
        self.sent: bool | None = None
        self.state: Literal["new", "open", "settled"] = "new"
        self.name = ""
        self.granted: dict[str, int] = {}
        #: The error of an authority that could not be reached, if the call was allowed all the same.
        self.allowed: errors.TopeError | None = None
        self.settlement: Settlement | None = None
        self.pid = os.getpid()
        #: Holds that joined and are open: what they ask for.
        self.children: dict[int, Mapping[str, int]] = {}
        self._lock = threading.Lock()

    # The beginning.

    def open(self, reservation: usage_pb2.Reservation) -> None:
        self.name = reservation.name
        self.granted = {amount.resource: amount.reserved for amount in reservation.amounts}
        self.state = "open"

    def open_allowed(self, error: errors.TopeError) -> None:
        """Begins without a reservation: the usage is recorded afterwards."""
        self.allowed = error
        self.granted = dict(self.ask.amounts)
        self.state = "open"

    def open_joined(self) -> None:
        if self.parent is not None:
            self.parent.children[id(self)] = self.ask.amounts
        self.granted = dict(self.ask.amounts)
        self.state = "open"

    @property
    def root(self) -> Core:
        return self if self.parent is None else self.parent.root

    # The usage.

    def add_reply(self, reply: object) -> None:
        usage = Usage.of(reply)
        self.sent = True
        with self.known.lock:
            if usage is None:
                self.known.unknown += 1
            else:
                self.known.replies.append(usage)

    def add_amounts(self, amounts: Mapping[str, int]) -> None:
        check_amounts(amounts, "a quantity")
        with self.known.lock:
            for resource, quantity in amounts.items():
                self.known.explicit[resource] = self.known.explicit.get(resource, 0) + quantity

    def add_stream(self, prompt: object = None) -> StreamUsage:
        estimator = self.client.estimator
        tokens = self.ask.estimate.input if self.ask.estimate is not None and self.ask.prompt_known else None
        if prompt is not None:
            tokens = estimator.call(prompt, model=self.ask.model).input
        stream = StreamUsage(tokens, estimator.tokenizer, weigh)
        with self.known.lock:
            self.known.streams.append(stream)
        return stream

    def outgrown(self, asked: Mapping[str, int] | None = None) -> dict[str, int]:
        """Returns what the root hold lacks: for what was used so far, and for holds that joined. Empty if nothing."""
        root = self.root
        if not root.ask.extend or root.allowed is not None or root.state != "open":
            return {}
        lacks = root._lacks(asked, exact=False)
        # The tokenizer has the last word, but it is too slow for each chunk.
        return root._lacks(asked, exact=True) if lacks else lacks

    def _lacks(self, asked: Mapping[str, int] | None, exact: bool) -> dict[str, int]:
        needs: dict[str, int] = {"tokens": self.known.total(exact)}
        for child in [*self.children.values(), *([asked] if asked else [])]:
            for resource, quantity in child.items():
                needs[resource] = needs.get(resource, 0) + quantity
        lacks: dict[str, int] = {}
        for resource, need in needs.items():
            granted = self.granted.get(resource)
            if need > (granted or 0) and (granted is not None or asked):
                # A stream gets room for what comes next, so that not each chunk needs a call.
                step = 0 if asked else max(64, self.ask.amounts.get(resource, 0) // 4)
                lacks[resource] = need - (granted or 0) + step
        return lacks

    # The end.

    def decide(self, ending: Ending, error: BaseException | None = None) -> Decision:
        """Decides how the hold is settled, by the table in docs/clients/python.md."""
        known = self.known
        with known.lock:
            usage, complete = known.usage(), known.is_complete()
            unread = any(stream.finished is False and not stream.complete for stream in known.counting())
            began = any(stream.began for stream in known.streams)
        found = bool(known.explicit) or usage is not None
        if ending == "end" and unread:
            ending = "left"
        # After an error, figures that the caller gave may be a part of the whole.
        if complete and found and (ending == "end" or not known.explicit):
            return Decision("estimate" if known.inexact else "exact", self._metered(usage))
        if ending == "end":
            return self._decide_end(usage, found)
        if found:
            return Decision("partial", self._metered(usage))
        if not began and not self._was_called(error):
            return Decision("unused", {}, release=True)
        if self.ask.on_unknown == "release":
            return Decision("unknown", {}, release=True)
        return Decision("unknown")

    def _was_called(self, error: BaseException | None) -> bool:
        """Whether the provider may have been called."""
        if self.sent is None:
            return was_called(error) is not False
        # A hold inside this one that is refused says nothing about a call that was made before.
        return self.sent and (isinstance(error, errors.TopeError) or was_called(error) is not False)

    def _decide_end(self, usage: Usage | None, found: bool) -> Decision:
        if self.sent is False and not found:
            return Decision("unused", {}, release=True)
        if not found:
            return Decision("estimate")
        # A part of the usage is known. Charge at least what was reserved, since the rest is not known.
        metered = self._metered(usage)
        floor = {resource: max(metered.get(resource, 0), held) for resource, held in self.granted.items()}
        return Decision("estimate", {**metered, **floor})

    def _metered(self, usage: Usage | None) -> dict[str, int]:
        amounts = dict(self.known.explicit)
        if usage is not None:
            for resource, quantity in self.client.meter(usage, self.ask.model).items():
                # A resource that was not reserved is charged only if the meter is the caller's own.
                if resource in self.granted or not self.client.meter_is_default:
                    amounts[resource] = amounts.get(resource, 0) + quantity
            cost = self.client.cost_of(usage, self.ask.model) if self.client.cost in self.granted else None
            if cost is not None:
                amounts[self.client.cost] = amounts.get(self.client.cost, 0) + cost
        return amounts

    def without_foreign(self, decision: Decision, error: errors.TopeError) -> Decision | None:
        """Returns the decision without resources that were not reserved, if one of them is wrong. Else None.

        A resource that nobody has declared must not prevent that the others are charged.
        """
        amounts = decision.amounts or {}
        foreign = [resource for resource in amounts if resource not in self.granted]
        if not foreign or not isinstance(error, errors.InvalidArgument):
            return None
        log.error("hold %s: %s is not charged: %s", self.ask.request_id, ", ".join(foreign), error)
        kept = {resource: quantity for resource, quantity in amounts.items() if resource in self.granted}
        return Decision(decision.basis, kept)

    def begin_settling(self) -> bool:
        """Marks the hold as settled. Returns False if it was settled before, or belongs to another process."""
        with self._lock:
            if self.state != "open" or self.pid != os.getpid():
                return False
            self.state = "settled"
            return True

    def settle_joined(self, decision: Decision) -> bool:
        """Gives the usage of a hold that joined to the hold that it joined. Returns False if that one has ended."""
        parent = self.parent
        assert parent is not None
        with parent._lock:
            parent.children.pop(id(self), None)
            if parent.state != "open":
                return False
            if not decision.release:
                parent.add_amounts(self.ask.amounts if decision.amounts is None else decision.amounts)
                parent.known.inexact |= decision.basis in ("estimate", "unknown") or self.known.inexact
        self.settlement = Settlement(self.ask.tenant, self.ask.request_id, decision.basis, decision.amounts)
        return True

    def ended(
        self, decision: Decision, reservation: usage_pb2.Reservation | None, error: errors.TopeError | None
    ) -> None:
        """Notes the outcome, learns from it, and notifies the caller."""
        amounts = {} if decision.release else decision.amounts
        self.settlement = Settlement(self.ask.tenant, self.ask.request_id, decision.basis, amounts, reservation, error)
        if error is not None:
            log.error("hold %s of tenant %s is not settled: %s", self.ask.request_id, self.ask.tenant, error)
        elif decision.basis == "estimate":
            self.client.warn_of_estimate(self.ask)
        estimate = self.ask.estimate
        if decision.basis == "exact" and estimate is not None and not self.known.explicit:
            parts = [part for part in (self.known.usage(),) if part is not None]
            if parts and len(self.known.replies) + len(self.known.streams) == 1:
                self.client.estimator.learn(self.ask.model, estimate.kind, estimate.raw, parts[0])
        if self.client.on_settled is not None:
            try:
                self.client.on_settled(self.settlement)
            except Exception:
                log.exception("on_settled failed")

    def leave(self) -> None:
        """Settles the hold in the background by what is known, if it is open."""
        if self.state == "open" and self.pid == os.getpid():
            self.client.settle_later(self, "left", None)

    def __del__(self) -> None:
        # A hold that nobody settled: its scope was dropped, such as an async generator without an event loop.
        try:
            self.leave()
        except Exception:  # The interpreter may be ending.
            pass


def check_amounts(amounts: Mapping[str, int], what: str) -> None:
    for resource, quantity in amounts.items():
        if isinstance(quantity, bool) or not isinstance(quantity, int):
            raise TypeError(f"{what} must be a whole number, and {resource}={quantity!r} is not")
        if not 0 <= quantity < 1 << 63:
            raise ValueError(f"{what} must be 0 to {(1 << 63) - 1}, and {resource}={quantity} is not")
