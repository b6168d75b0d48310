"""The books of the fake: windows, counters and the limits that apply to a call."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from google.protobuf import timestamp_pb2

from tope import errors
from tope.v1 import policy_pb2, usage_pb2

UTC = dt.timezone.utc
INT64_MAX = (1 << 63) - 1


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: dt.datetime | None = None) -> None:
        self.now = now or dt.datetime(2026, 1, 15, 12, tzinfo=UTC)
        if self.now.tzinfo is None:
            raise ValueError("now must have a time zone")

    def advance(self, seconds: float) -> None:
        """Moves the clock forward."""
        if seconds < 0:
            raise ValueError(f"a clock goes forward, and not by {seconds} seconds")
        self.now += dt.timedelta(seconds=seconds)


def timestamp(time: dt.datetime | None) -> timestamp_pb2.Timestamp | None:
    if time is None:
        return None
    found = timestamp_pb2.Timestamp()
    found.FromDatetime(time)
    return found


@dataclass(frozen=True)
class Subject:
    """Who spends."""

    agent: str
    user: str
    model: str
    labels: Mapping[str, str]

    def value(self, dimension: str) -> str:
        return str(getattr(self, dimension))


Window = tuple[dt.datetime | None, dt.datetime | None]


def window_of(period: int, interval: int, now: dt.datetime) -> Window:
    """Returns start and end of the window that contains `now`. A lifetime has neither."""
    epoch = dt.datetime(1970, 1, 1, tzinfo=UTC)
    kinds = policy_pb2.Period.Name(period).removeprefix("PERIOD_")
    if kinds == "LIFETIME":
        return None, None
    if kinds in ("MONTH", "YEAR"):
        months = interval * (12 if kinds == "YEAR" else 1)
        index = ((now.year - 1970) * 12 + now.month - 1) // months * months
        return _month(index), _month(index + months)
    days = {"MINUTE": 1 / 1_440, "HOUR": 1 / 24, "DAY": 1, "WEEK": 7}
    if kinds not in days:
        raise errors.Unimplemented(f"the fake has no windows of PERIOD_{kinds}")
    length = dt.timedelta(days=days[kinds] * interval)
    origin = epoch + dt.timedelta(days=4) if kinds == "WEEK" else epoch
    start = origin + (now - origin) // length * length
    return start, start + length


def _month(index: int) -> dt.datetime:
    return dt.datetime(1970 + index // 12, index % 12 + 1, 1, tzinfo=UTC)


@dataclass
class Counter:
    """What was spent and is held in one window."""

    resource: str
    window: Window
    committed: int = 0
    reserved: int = 0
    refused: int = 0
    #: Whether any operation used the counter. A refusal does, if it is counted.
    used: bool = False
    #: The dimensions and labels that are counted separately, with their values.
    values: Mapping[str, str] = field(default_factory=dict)


Key = tuple[object, ...]


def key_of(limit: policy_pb2.Limit, subject: Subject, now: dt.datetime) -> tuple[Key, Counter]:
    """Returns the key of a limit's counter, and an empty counter."""
    window = window_of(limit.period, limit.interval or 1, now)
    values = {name: getattr(limit, name) for name in ("agent", "user", "model") if getattr(limit, name)}
    for dimension in limit.per:
        name = policy_pb2.Dimension.Name(dimension).removeprefix("DIMENSION_").lower()
        values[name] = subject.value(name)
    for label, value in limit.labels.items():
        values[f"labels.{label}"] = value
    for label in limit.per_labels:
        values[f"labels.{label}"] = subject.labels.get(label, "")
    key = (limit.resource, limit.period, limit.interval or 1, window[0], tuple(sorted(values.items())))
    return key, Counter(limit.resource, window, values=values)


def applies(limit: policy_pb2.Limit, subject: Subject) -> bool:
    selected = all(
        not getattr(limit, name) or getattr(limit, name) == subject.value(name) for name in ("agent", "user", "model")
    )
    return selected and all(subject.labels.get(key, "") == value for key, value in limit.labels.items())


def check_limit(limit: policy_pb2.Limit) -> None:
    """Refuses what the fake does not know, instead of counting it in another way."""
    for name in ("anchor_day", "anchor_weekday", "anchor_month", "anchor_minute", "origin_date", "anchor"):
        if getattr(limit, name):
            raise errors.Unimplemented(f"the fake has no {name} of limits")
    if limit.HasField("carry") or limit.HasField("duration"):
        raise errors.Unimplemented("the fake has no carry and no duration of limits")


def as_limits(limits: Iterable[policy_pb2.Limit] | Mapping[str, int]) -> list[policy_pb2.Limit]:
    """Makes limits of quantities per day, unless they are limits."""
    if not isinstance(limits, Mapping):
        return list(limits)
    day = policy_pb2.PERIOD_DAY
    quantities = cast("Mapping[str, int]", limits)
    return [
        policy_pb2.Limit(id=f"{resource}-per-day", resource=resource, quantity=quantity, period=day)
        for resource, quantity in quantities.items()
    ]


def is_hard(limit: policy_pb2.Limit) -> bool:
    return limit.enforcement in (policy_pb2.ENFORCEMENT_UNSPECIFIED, policy_pb2.ENFORCEMENT_HARD)


def balance(limit: policy_pb2.Limit | None, counter: Counter, plan: str) -> usage_pb2.Balance:
    """Makes the balance of a counter, as the server does."""
    found = usage_pb2.Balance(
        resource=counter.resource,
        committed=counter.committed,
        reserved=counter.reserved,
        window_start=timestamp(counter.window[0]),
        window_end=timestamp(counter.window[1]),
        period=policy_pb2.PERIOD_LIFETIME if limit is None else limit.period,
    )
    for name, value in counter.values.items():
        if name.startswith("labels."):
            found.labels[name.removeprefix("labels.")] = value
        else:
            setattr(found, name, value)
    if limit is not None:
        found.limit_id = limit.id
        found.quantity = found.allowance = limit.quantity
        found.remaining = max(0, limit.quantity - counter.committed - counter.reserved)
        found.exceeded = counter.committed + counter.reserved > limit.quantity
        found.enforcement = limit.enforcement or policy_pb2.ENFORCEMENT_HARD
        found.refused = counter.refused
        found.source.plan = plan
    return found


@dataclass
class Held:
    """A reservation, with its counters."""

    pb: usage_pb2.Reservation
    subject: Subject
    deadline: dt.datetime | None
    created: dt.datetime
    #: Keys of the counters of each resource.
    keys: dict[str, list[Key]] = field(default_factory=dict)
    #: Resources that were reserved, also with 0 units.
    reserved: set[str] = field(default_factory=set)

    def amounts(self) -> dict[str, usage_pb2.ReservationAmount]:
        return {amount.resource: amount for amount in self.pb.amounts}

    def amount(self, resource: str) -> usage_pb2.ReservationAmount:
        """Returns the amount of a resource, which is added if it is not there. Amounts are sorted."""
        found = self.amounts().get(resource)
        if found is None:
            kept = sorted([*self.amounts(), resource])
            amounts = self.amounts()
            new = [amounts.get(name) or usage_pb2.ReservationAmount(resource=name) for name in kept]
            copies = [usage_pb2.ReservationAmount.FromString(one.SerializeToString()) for one in new]
            del self.pb.amounts[:]
            self.pb.amounts.extend(copies)
            found = self.amounts()[resource]
        return found

    def all_keys(self) -> Iterator[Key]:
        for resource in sorted(self.keys):
            yield from self.keys[resource]
