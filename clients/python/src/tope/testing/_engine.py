"""What the fake decides: the operations of QuotaService on the books of one tenant."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tope import errors
from tope.errors import Violation
from tope.testing._books import Counter, Held, Key, Subject, applies, balance, is_hard, key_of
from tope.v1 import policy_pb2, usage_pb2
from tope.v1 import quota_service_pb2 as pb

RESERVED, COMMITTED = usage_pb2.RESERVATION_STATE_RESERVED, usage_pb2.RESERVATION_STATE_COMMITTED
RELEASED, EXPIRED = usage_pb2.RESERVATION_STATE_RELEASED, usage_pb2.RESERVATION_STATE_EXPIRED

#: Violations, each with the seconds after which its limit has room. None: waiting never helps.
Refusals = list[tuple[Violation, float | None]]
Applying = list[tuple[policy_pb2.Limit | None, Key, Counter]]


@dataclass
class Books:
    """One tenant."""

    id: str
    plan: policy_pb2.Plan
    suspended: bool = False
    counters: dict[Key, Counter] = field(default_factory=dict)
    #: Limits that read a counter, by its key.
    readers: dict[Key, policy_pb2.Limit] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    open: dict[str, Held] = field(default_factory=dict)
    #: The call, the payload and the reservation of each request_id.
    requests: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def expire(self, now: dt.datetime) -> None:
        """Ends the holds whose deadline has passed."""
        for held in [one for one in self.open.values() if one.deadline is not None and one.deadline <= now]:
            charge = held.pb.on_expiry == usage_pb2.ON_EXPIRY_CHARGE
            self._free(held)
            held.pb.state = EXPIRED
            for amount in held.pb.amounts:
                if charge:
                    self._charge(held, amount.resource, amount.reserved)

    def _free(self, held: Held) -> None:
        """Takes a hold out of the counters."""
        del self.open[held.pb.name]
        for amount in held.pb.amounts:
            for key in held.keys.get(amount.resource, ()):
                self.counters[key].reserved -= amount.reserved

    def _charge(self, held: Held, resource: str, quantity: int) -> None:
        """Sets what a reservation was charged. A charge from before is replaced."""
        amount = held.amount(resource)
        for key in held.keys.get(resource, ()):
            counter = self.counters[key]
            counter.committed = max(0, counter.committed + quantity - amount.committed)
            counter.used = True
        amount.committed = quantity
        amount.overrun = max(0, quantity - amount.reserved) if held.deadline is not None else 0

    def applying(self, resource: str, subject: Subject, now: dt.datetime) -> Applying:
        """Lists the limits that apply to a resource, with their counters. Without a limit it is the meter."""
        found: Applying = []
        for limit in self.plan.limits:
            if limit.resource == resource and applies(limit, subject):
                key, fresh = key_of(limit, subject, now)
                found.append((limit, key, self.counters.setdefault(key, fresh)))
                self.readers[key] = limit
        if not found:
            key = ("meter", resource)
            found.append((None, key, self.counters.setdefault(key, Counter(resource, (None, None)))))
        return found

    def verdicts(
        self,
        wanted: Iterable[Any],
        subject: Subject,
        partial: bool,
        now: dt.datetime,
        extends: Held | None = None,
    ) -> tuple[dict[str, int], Refusals, list[Counter]]:
        """Decides quantities: what is granted, the violations, and the counters that count a refusal."""
        at = now if extends is None else extends.created
        granted: dict[str, int] = {}
        violations: Refusals = []
        refusing: list[Counter] = []
        observing: list[Counter] = []
        for amount in wanted:
            least = max(1, getattr(amount, "minimum", 0)) if partial else amount.quantity
            grant = amount.quantity
            for limit, _, counter in self.applying(amount.resource, subject, at) if amount.quantity else ():
                if limit is None:
                    if self.plan.uncovered == policy_pb2.UNCOVERED_REFUSE:
                        violations.append((self._violation(None, counter, amount.quantity), None))
                    continue
                left = max(0, limit.quantity - counter.committed - counter.reserved)
                if not is_hard(limit):
                    if left < least and limit.enforcement == policy_pb2.ENFORCEMENT_OBSERVE:
                        observing.append(counter)
                    continue
                if left < least:
                    refusing.append(counter)
                    wait = self._wait(limit, counter, least, now, extends)
                    violations.append((self._violation(limit, counter, amount.quantity), wait))
                grant = min(grant, left)
            granted[amount.resource] = grant
        # A limit that only observes counts what passes, and would not pass if it were HARD.
        return granted, violations, refusing if violations else observing

    def _violation(self, limit: policy_pb2.Limit | None, counter: Counter, requested: int) -> Violation:
        end = counter.window[1]
        who = "".join(f",{name}:{value}" for name, value in counter.values.items() if "." not in name)
        dimensions = {"requested": str(requested), **counter.values}
        if limit is None:
            text = f'no limit of the plan covers "{counter.resource}", of which {requested} were requested'
            subject = f"tenant:{self.id}"
            return Violation("", counter.resource, requested, None, None, end, subject, text, dimensions)
        left = max(0, limit.quantity - counter.committed - counter.reserved)
        dimensions |= {"remaining": str(left), "allowance": str(limit.quantity), "plan": self.plan.id}
        text = f'limit "{limit.id}" of "{limit.resource}" has {left} of {limit.quantity} left'
        text += f", and {requested} were requested"
        subject = f"tenant:{self.id}{who}"
        return Violation(limit.id, limit.resource, requested, left, limit.quantity, end, subject, text, dimensions)

    def _wait(
        self, limit: policy_pb2.Limit, counter: Counter, need: int, now: dt.datetime, extends: Held | None
    ) -> float | None:
        """Returns the seconds until a limit has room. None if waiting never helps."""
        left = limit.quantity - counter.committed - counter.reserved
        instants: list[dt.datetime] = []
        for deadline, held in sorted(
            ((one.deadline, one) for one in self.open.values() if one.deadline is not None), key=lambda pair: pair[0]
        ):
            # The end of a hold helps another hold only if that one lives longer.
            too_late = extends is not None and extends.deadline is not None and deadline >= extends.deadline
            keys = held.keys.get(counter.resource, ())
            charges = held.pb.on_expiry == usage_pb2.ON_EXPIRY_CHARGE
            if too_late or charges or not any(self.counters[key] is counter for key in keys):
                continue
            left += held.amount(counter.resource).reserved
            if left >= need:
                instants.append(deadline)
                break
        # An Extend counts in the window of its hold.
        if counter.window[1] is not None and need <= limit.quantity and extends is None:
            instants.append(counter.window[1])
        return max(1.0, math.ceil((min(instants) - now).total_seconds())) if instants else None

    def refuse(self, violations: Refusals) -> errors.QuotaExceeded:
        """Makes the refusal."""
        first = violations[0][0]
        waits = [wait for _, wait in violations]
        text = first.description.replace(f' of "{first.resource}"', "") if first.limit else first.description
        error = errors.QuotaExceeded(
            f"quota exceeded: {text}",
            reason="QUOTA_EXCEEDED",
            metadata={"tenant": self.id},
            retry_after=None if None in waits else max(wait for wait in waits if wait is not None),
        )
        error.violations = tuple(violation for violation, _ in violations)
        return error

    def hold(self, held: Held, granted: Mapping[str, int], now: dt.datetime) -> None:
        """Makes a hold of the quantities that were granted."""
        for resource, quantity in sorted(granted.items()):
            held.amount(resource).reserved = quantity
            held.reserved.add(resource)
            held.keys[resource] = []
            for _, key, counter in self.applying(resource, held.subject, now):
                counter.reserved += quantity
                counter.used = True
                held.keys[resource].append(key)
        held.pb.state = RESERVED
        self.held[held.pb.name] = self.open[held.pb.name] = held

    def commit(self, held: Held, usage: Mapping[str, int], now: dt.datetime) -> None:
        if held.pb.state == RELEASED:
            raise settled(held)
        amounts = held.amounts()
        final = {**{resource: amounts[resource].reserved for resource in sorted(held.reserved)}, **usage}
        if held.pb.state == COMMITTED:
            if {**dict.fromkeys(amounts, 0), **final} != {name: amount.committed for name, amount in amounts.items()}:
                raise settled(held)
            return
        held.pb.late = held.pb.state == EXPIRED
        if held.pb.state == RESERVED:
            self._free(held)
        for resource, quantity in final.items():
            if resource not in held.keys:
                held.keys[resource] = [key for _, key, _ in self.applying(resource, held.subject, held.created)]
            self._charge(held, resource, quantity)
        held.pb.state = COMMITTED
        held.pb.settle_time.FromDatetime(now)

    def release(self, held: Held, now: dt.datetime) -> None:
        if held.pb.state == COMMITTED:
            raise settled(held)
        if held.pb.state == RELEASED:
            return
        if held.pb.state == RESERVED:
            self._free(held)
        for amount in held.pb.amounts:
            self._charge(held, amount.resource, 0)
        held.pb.state = RELEASED
        held.pb.settle_time.FromDatetime(now)

    def extend(self, held: Held, request: pb.ExtendRequest, now: dt.datetime) -> None:
        if held.pb.state != RESERVED:
            kind = errors.ReservationExpired if held.pb.state == EXPIRED else errors.ReservationSettled
            raise in_state(held, kind)
        granted, violations, refusing = self.verdicts(request.amounts, held.subject, False, now, held)
        count(refusing)
        if violations:
            raise self.refuse(violations)
        for resource, quantity in granted.items():
            for _, key, counter in self.applying(resource, held.subject, held.created):
                counter.reserved += quantity
                counter.used = True
                if key not in held.keys.setdefault(resource, []):
                    held.keys[resource].append(key)
            held.amount(resource).reserved += quantity
            held.reserved.add(resource)
        if request.HasField("ttl") and held.deadline is not None:
            latest = held.created + dt.timedelta(hours=48)
            held.deadline = max(held.deadline, min(latest, now + request.ttl.ToTimedelta()))
            held.pb.expire_time.FromDatetime(held.deadline)

    def record(self, held: Held, amounts: Iterable[pb.Amount], now: dt.datetime) -> None:
        held.pb.state = COMMITTED
        for amount in amounts:
            held.keys[amount.resource] = [key for _, key, _ in self.applying(amount.resource, held.subject, now)]
            held.reserved.add(amount.resource)
            self._charge(held, amount.resource, amount.quantity)
        held.pb.settle_time.FromDatetime(now)
        self.held[held.pb.name] = held

    def balances(self, held: Held) -> list[usage_pb2.Balance]:
        keys = list(held.all_keys())
        return [balance(self.readers.get(key), self.counters[key], self.plan.id) for key in keys]

    def usage(self, now: dt.datetime) -> list[usage_pb2.Balance]:
        """Makes the balances of all running windows."""
        found: dict[Key, usage_pb2.Balance] = {}
        nobody = Subject("", "", "", {})
        for limit in self.plan.limits:
            if not limit.per and not limit.per_labels:
                key, fresh = key_of(limit, nobody, now)
                found[key] = balance(limit, self.counters.get(key, fresh), self.plan.id)
        limits = {limit.id for limit in self.plan.limits}
        for key, counter in self.counters.items():
            end = counter.window[1]
            reader = self.readers.get(key)
            if (
                key not in found
                and counter.used
                and (end is None or end > now)
                and (reader is None or reader.id in limits)
            ):
                found[key] = balance(reader, counter, self.plan.id)
        return list(found.values())


def count(refusing: list[Counter]) -> None:
    """Counts a refusal."""
    for counter in refusing:
        counter.refused += 1
        counter.used = True


def settled(held: Held) -> errors.TopeError:
    return in_state(held, errors.ReservationSettled)


def in_state(held: Held, kind: type[errors.TopeError]) -> errors.TopeError:
    state = usage_pb2.ReservationState.Name(held.pb.state).removeprefix("RESERVATION_STATE_")
    reason = next(reason for reason, one in errors.REASONS.items() if one is kind)
    return kind(f'reservation "{held.pb.name}" is {state}', reason=reason, metadata={"state": state})
