"""Simulates a year of many tenants, and prints what a server must do and must report.

    year.py TENANTS OPERATIONS SEED

The program has two parts. The model computes windows, counters and decisions from docs/rules.md alone (R4.6, R4.15,
R4.25 to R4.34, R4.41, R4.46, R4.47), with Python's zoneinfo, and shares nothing with the source of the server. The
story makes the operations: a seed decides which tenant spends at which hour, who moves to another zone, who changes
the plan.

The output has one JSON object a line. Each line has the instant `at` in milliseconds since 1970, and one of these:

- `plan`: a plan is created, or the limits of an existing plan are replaced
- `tenant`, `zone`, `anchor`: a tenant is created, gets another zone or another `anchor_time`
- `move`: a tenant gets another plan
- `agent`: an agent is declared, gets another plan, is suspended or active again, or is deleted
- `override`: an override is created or deleted
- `reset`: ResetUsage, with the expected sum of `adjusted`
- `batch`: operations, each with its expected outcome
- `check`: the balances that GetUsage of some tenants must return
- `closed`: the windows for which WINDOW_CLOSED must have been emitted since the line `closed` before
"""

import bisect
import collections
import datetime
import functools
import json
import random
import sys
import zoneinfo

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
FOREVER = 1 << 62

UTC = datetime.timezone.utc

# Every rule of these zones for 2011 is settled. In that year Samoa left out a day, Egypt gave up summer time, and
# Chile, Russia, Turkey and Morocco changed their rules.
ZONES = """UTC Europe/Lisbon Europe/Berlin America/New_York America/Havana America/Sao_Paulo America/Santiago
America/Asuncion America/St_Johns America/Caracas America/Los_Angeles America/Phoenix Atlantic/Azores Africa/Cairo
Africa/Casablanca Africa/Windhoek Asia/Beirut Asia/Amman Asia/Damascus Asia/Gaza Asia/Tehran Asia/Kabul Asia/Kolkata
Asia/Kathmandu Asia/Yangon Asia/Tokyo Asia/Yekaterinburg Asia/Kamchatka Europe/Moscow Europe/Istanbul
Australia/Lord_Howe Australia/Adelaide Australia/Eucla Pacific/Apia Pacific/Fakaofo Pacific/Chatham Pacific/Marquesas
Pacific/Kiritimati Pacific/Pago_Pago Pacific/Easter""".split()

BEGIN = datetime.datetime(2011, 1, 1, tzinfo=UTC)
HOURS = 365 * 24

AGENTS = ["", "planner", "coder"]
TEAMS = ["", "search", "ads"]


def millis(instant):
    """Converts an aware datetime to milliseconds since 1970."""
    return round(instant.timestamp() * SECOND)


# ----------------------------------------------------------------------------------------------------------------
# The calendar (R4.6, R4.29)


@functools.lru_cache(maxsize=None)
def zone_of(name):
    return zoneinfo.ZoneInfo(name)


def local(zone, instant):
    """The local time of an instant, without a zone."""
    moment = datetime.datetime.fromtimestamp(instant / SECOND, UTC)
    return moment.astimezone(zone_of(zone)).replace(tzinfo=None, fold=0)


def exists(zone, naive):
    return local(zone, millis(naive.replace(tzinfo=zone_of(zone)))) == naive


@functools.lru_cache(maxsize=1 << 20)
def reached(zone, naive):
    """The first instant at which local time has reached `naive`. In a gap: the first instant after the gap."""
    late = millis(naive.replace(tzinfo=zone_of(zone), fold=0))
    if local(zone, late) == naive:
        return late
    early = millis(naive.replace(tzinfo=zone_of(zone), fold=1))
    # The gap ends after `early`, and at `late` at the latest.
    assert local(zone, early) < naive < local(zone, late), (zone, naive)
    while late - early > 1:
        middle = (early + late) // 2
        if local(zone, middle) < naive:
            early = middle
        else:
            late = middle
    return late


@functools.lru_cache(maxsize=1 << 20)
def is_left_out(zone, date):
    """Whether a zone left out a whole day."""
    return not any(exists(zone, datetime.datetime.combine(date, datetime.time(hour))) for hour in range(24))


NOMINAL = {"MINUTE": MINUTE, "HOUR": HOUR, "DAY": DAY, "WEEK": 7 * DAY, "MONTH": 30 * DAY, "YEAR": 365 * DAY}

# The average length of a period whose nominal length is not exact.
AVERAGE = {"MONTH": 30.436875 * DAY, "YEAR": 365.2425 * DAY}

# The parts of a calendar. `zone` is empty for MINUTE and HOUR; `phase` is the instant from which these are counted.
Calendar = collections.namedtuple("Calendar", "period interval zone phase origin month day weekday minute")


def calendar_of(limit, zone, anchor_time):
    """Makes the calendar of a limit for a tenant."""
    period, interval = limit["period"], limit.get("interval", 1)
    if period == "LIFETIME":
        return Calendar(period, 1, "", 0, None, 0, 0, 0, 0)
    of_tenant = limit.get("of_tenant", False)
    if period in ("MINUTE", "HOUR"):
        origin = limit.get("origin", "1970-01-01")
        phase = anchor_time if of_tenant else millis(datetime.datetime.fromisoformat(origin).replace(tzinfo=UTC))
        return Calendar(period, interval, "", phase, None, 0, 0, 0, 0)
    if of_tenant:
        began = local(zone, anchor_time)
        minute = began.hour * 60 + began.minute
        return Calendar(period, interval, zone, 0, began.date(), began.month, began.day, began.isoweekday(), minute)
    default = "1970-01-05" if period == "WEEK" else "1970-01-01"
    origin = datetime.date.fromisoformat(limit.get("origin", default))
    anchors = [limit.get("month", 1), limit.get("day", 1), limit.get("weekday", 1), limit.get("minute", 0)]
    return Calendar(period, interval, zone, 0, origin, *anchors)


def month_day(year, month, day):
    """The date of an anchor day, which is the last day of shorter months."""
    last = (datetime.date(year + month // 12, month % 12 + 1, 1) - datetime.timedelta(days=1)).day
    return datetime.date(year, month, min(day, last))


def first_day(calendar, index):
    """The first day of window `index`."""
    period, count = calendar.period, index * calendar.interval
    if period == "DAY":
        return calendar.origin + datetime.timedelta(days=count)
    if period == "WEEK":
        back = (calendar.origin.isoweekday() - calendar.weekday) % 7
        return calendar.origin + datetime.timedelta(days=7 * count - back)
    if period == "MONTH":
        months = calendar.origin.year * 12 + calendar.origin.month - 1 + count
        return month_day(months // 12, months % 12 + 1, calendar.day)
    return month_day(calendar.origin.year + count, calendar.month, calendar.day)


@functools.lru_cache(maxsize=1 << 20)
def boundary(calendar, index):
    """The start of window `index`."""
    date = first_day(calendar, index)
    if is_left_out(calendar.zone, date):
        date += datetime.timedelta(days=1)
    minute = datetime.timedelta(minutes=calendar.minute)
    return reached(calendar.zone, datetime.datetime.combine(date, datetime.time()) + minute)


def running(calendar, instant):
    """Start and end of the window of a calendar at an instant, without its history."""
    if calendar.period == "LIFETIME":
        return (-FOREVER, FOREVER)
    length = NOMINAL[calendar.period] * calendar.interval
    if not calendar.zone:
        start = instant - (instant - calendar.phase) % length
        return (start, start + length)
    began = datetime.datetime.combine(calendar.origin, datetime.time(), UTC)
    guess = int((instant - millis(began)) / AVERAGE.get(calendar.period, NOMINAL[calendar.period]) / calendar.interval)
    # Two starts are equal if a zone left out the day between them.
    starts = sorted({boundary(calendar, index) for index in range(guess - 3, guess + 4)})
    place = bisect.bisect_right(starts, instant)
    assert 0 < place < len(starts), (calendar, instant)
    return (starts[place - 1], starts[place])


def window(history, instant):
    """The window at an instant, with all changes of the calendar until then: pairs of instant and calendar (R4.30)."""
    stretch = (-FOREVER, -FOREVER, history[0][1])

    def at(moment):
        start, end, calendar = stretch
        return (start, end) if moment < end else running(calendar, moment)

    def begin(start, calendar):
        if calendar.period == "LIFETIME":
            return (-FOREVER, -FOREVER, calendar)
        half = NOMINAL[calendar.period] * calendar.interval // 2
        return (start, running(calendar, start + half - 1)[1], calendar)

    pending, end = None, None
    for moment, calendar in history[1:]:
        if moment > instant:
            break
        if pending and moment >= end:
            stretch, pending = begin(end, pending), None
        if not pending:
            end = at(moment)[1]
        pending = calendar
    if pending and instant >= end:
        stretch = begin(end, pending)
    return at(instant)


# ----------------------------------------------------------------------------------------------------------------
# Counters and decisions (R4.15, R4.25, R4.26, R4.31 to R4.34, R4.41, R4.46, R4.47)


class Counter:
    def __init__(self, start, end):
        self.start, self.end, self.committed, self.reported = start, end, 0, False
        # What limits have carried over to this window, by their ids.
        self.carried = {}


class Tenant:
    def __init__(self, name, plan, zone, anchor_time, now):
        self.name, self.plan, self.created = name, plan, now
        # All values of zone and anchor_time, with the instants from which they count.
        self.places = [(-FOREVER, zone, now if anchor_time is None else anchor_time)]
        # The plans of declared agents, which may be None, and the agents that are suspended.
        self.agents, self.suspended, self.overrides = {}, set(), []
        # Counters, by lineage of the limit and values of its dimensions, the newest window last.
        self.counters = collections.defaultdict(list)
        # Since when the plan of the tenant, or of an agent, counts a lineage.
        self.since = {}
        # Since when the tenant, or an agent, has its present plan.
        self.plan_since = {}
        self.subjects = set()
        self.before = None
        # The running window of each lineage.
        self.windows = {}


class Plan:
    def __init__(self, name, limits, now):
        self.name = name
        self.versions = [(-FOREVER, limits)]

    @property
    def limits(self):
        return self.versions[-1][1]


# What limits of one plan, or of several plans, must have in common to share counters: the agent whose plan it is, or
# the empty name, and the shape. A limit whose calendar changes during the year shares its counters with no other limit.
Lineage = collections.namedtuple("Lineage", "owner resource period interval shape")


def lineage(owner, plan, limit):
    shape = {key: value for key, value in limit.items() if key not in ("id", "quantity", "soft", "carry")}
    text = f"{plan.name}/{limit['id']}" if limit.get("changes") else json.dumps(shape, sort_keys=True)
    interval = 0 if limit.get("changes") else limit.get("length") or limit.get("interval", 1)
    return Lineage(owner, limit["resource"], limit["period"], interval, text)


def meter(resource):
    return Lineage("", resource, "METER", 1, "")


class Model:
    def __init__(self):
        self.now, self.plans, self.tenants = 0, {}, {}

    def history(self, tenant, plan, limit):
        """All calendars of a limit for a tenant, oldest first."""
        changes = {moment for moment, _, _ in tenant.places}
        if limit.get("changes"):
            changes |= {moment for moment, _ in plan.versions}
        pairs = []
        for moment in sorted(changes):
            _, zone, anchor_time = [place for place in tenant.places if place[0] <= moment][-1]
            limits = [limits for begun, limits in plan.versions if begun <= moment][-1]
            shown = next(shown for shown in limits if shown["id"] == limit["id"])
            pairs.append((moment, calendar_of(shown, zone, anchor_time)))
        return pairs

    def sources(self, tenant):
        """The plans that apply to a tenant: its own, and those of its agents."""
        agents = [(agent, self.plans[plan]) for agent, plan in tenant.agents.items() if plan]
        return [("", self.plans[tenant.plan]), *agents]

    def window(self, tenant, owner, plan, limit):
        key = lineage(owner, plan, limit)
        known = tenant.windows.get(key)
        # A change keeps the running window, so a window stays valid until its end.
        if known is None or not known[0] <= self.now < known[1]:
            known = window(self.history(tenant, plan, limit), self.now)
            tenant.windows[key] = known
        return known

    def counted_since(self, tenant, owner, plan, limit, start, end):
        return min(max(start, tenant.created, tenant.since[lineage(owner, plan, limit)]), end)

    def lineages(self, owner, name):
        return {lineage(owner, self.plans[name], limit) for limit in self.plans[name].limits} if name else set()

    def enter(self, tenant, owner, old, new):
        """The tenant or an agent has a plan from now on. A limit that returns starts at zero."""
        if old != new:
            tenant.plan_since[owner] = self.now
        before = self.lineages(owner, old)
        for key in self.lineages(owner, new) - before:
            tenant.since[key] = self.now
            for (counted, _), counters in tenant.counters.items():
                if counted == key and counters[-1].end > self.now:
                    counters[-1].committed = 0

    def counter(self, tenant, owner, plan, limit, values, use):
        """The counter of the running window. Without `use`, a counter that does not exist yet is not kept."""
        counters = tenant.counters.get((lineage(owner, plan, limit), values))
        last = counters[-1] if counters else None
        if limit["period"] == "ROLLING":
            start, end = self.now, self.now + limit["length"]
            known = last and self.now < last.end
        else:
            start, end = self.window(tenant, owner, plan, limit)
            known = last and last.start == start
        if known:
            return last
        made = Counter(start, end)
        for reader_owner, reader_plan in self.sources(tenant):
            for reader in reader_plan.limits:
                if reader.get("carry") and lineage(reader_owner, reader_plan, reader) == lineage(owner, plan, limit):
                    units = self.carry(tenant, reader_owner, reader_plan, reader, values, start, last)
                    made.carried[reader["id"]] = units
        if use:
            tenant.counters[(lineage(owner, plan, limit), values)].append(made)
        return made

    def carry(self, tenant, owner, plan, limit, values, start, last):
        """What a limit carries over to the window that begins at `start`. `last` is the last counter before it."""
        before = window(self.history(tenant, plan, limit), start - 1)
        if max(tenant.plan_since[owner], tenant.since[lineage(owner, plan, limit)]) >= before[1]:
            return 0
        quantity, _, _ = self.effective(tenant, owner, limit, values, before[1] - 1)
        used = last.committed if last and last.start == before[0] else 0
        percent, units = limit["carry"]
        caps = [quantity * percent // 100] * (percent > 0) + [units] * (units > 0)
        return min([max(quantity - used, 0), *caps])

    def effective(self, tenant, owner, limit, values, at=None):
        """Quantity, whether the limit is SOFT, and the id of the override that applies to a counter."""
        at = self.now if at is None else at
        counted = dict(values)
        best = None
        for number, override in enumerate(tenant.overrides):
            selected = override["selected"]
            fits = override["limit"] == limit["id"] and all(counted.get(key) == selected[key] for key in selected)
            if owner and selected.get("agent") != owner:
                fits = False
            if fits and override["start"] <= at < override["end"]:
                best = max(best or (-1, -1, None), (len(selected), number, override["id"]))
        if best is None:
            return limit["quantity"], limit.get("soft", False), ""
        override = tenant.overrides[best[1]]
        return override["quantity"], override["soft"] or limit.get("soft", False), override["id"]

    def found(self, tenant, resource, subject, use=True):
        """The limits that apply to a call: allowance, whether it is SOFT, counter, and how to find the counter. The
        meter if there is no limit."""
        found = []
        for owner, plan in self.sources(tenant):
            for limit in plan.limits:
                if limit["resource"] == resource and owner in ("", subject[0]) and applies(limit, subject):
                    values = values_of(owner, limit, subject)
                    quantity, soft, _ = self.effective(tenant, owner, limit, values)
                    counter = self.counter(tenant, owner, plan, limit, values, use)
                    carried = counter.carried.get(limit["id"], 0) if limit.get("carry") else 0
                    found.append((quantity + carried, soft, counter, (owner, plan, limit, values)))
        if not found:
            counters = tenant.counters[(meter(resource), ())]
            counters or counters.append(Counter(-FOREVER, FOREVER))
            found = [(FOREVER, True, counters[-1], None)]
        return found

    def record(self, name, amounts, subject):
        tenant = self.tenants[name]
        tenant.subjects.add(subject)
        for resource, quantity in amounts:
            found = self.found(tenant, resource, subject)
            for counter in {id(counter): counter for _, _, counter, _ in found}.values():
                counter.committed += quantity

    def refusal(self, name, amounts, subject):
        """The reason for which a Reserve is refused, or nothing. No other hold is open."""
        tenant, refused = self.tenants[name], ""
        if subject[0] in tenant.suspended:
            return "AGENT_SUSPENDED"
        for resource, quantity in amounts:
            for most, soft, counter, place in self.found(tenant, resource, subject, use=False):
                if not soft and counter.committed + quantity > most:
                    refused = "QUOTA_EXCEEDED"
                    # The refusal is counted, so the counter is used. It begins no window of ROLLING.
                    self.counter(tenant, *place, use=place[2]["period"] != "ROLLING")
        return refused

    def reset(self, name, limits, resources):
        """Resets what matches. Returns the sum of the adjustments, each as often as limits read its counter."""
        tenant = self.tenants[name]
        reading = [(lineage(owner, plan, limit), limit["id"])
                   for owner, plan in self.sources(tenant) for limit in plan.limits]
        readers = collections.Counter(key for key, _ in reading)
        named = {key for key, limit in reading if limit in limits}
        adjusted = 0
        for (key, values), counters in tenant.counters.items():
            last = counters[-1]
            if not last.start <= self.now < last.end:
                continue
            if limits:
                if key not in named:
                    continue
            elif last.end == FOREVER and not (key.period == "METER" and key.resource in resources):
                continue
            if resources and key.resource not in resources:
                continue
            adjusted -= last.committed * max(readers[key], 1)
            last.committed = 0
        return adjusted

    def balances(self, name):
        """What GetUsage must return: a balance for each limit and counter. Balances of single agents or teams that have
        nothing committed are left out."""
        tenant = self.tenants[name]
        balances = []
        for owner, plan in self.sources(tenant):
            for limit in plan.limits:
                of_limit = {}
                for (key, values), counters in list(tenant.counters.items()):
                    if key == lineage(owner, plan, limit):
                        counter = self.counter(tenant, owner, plan, limit, values, use=False)
                        if counter.committed:
                            of_limit[values] = counter
                if not values_of(owner, limit, ("", "")):
                    of_limit.setdefault((), self.counter(tenant, owner, plan, limit, (), use=False))
                for values, counter in of_limit.items():
                    subject = dict(values)
                    quantity, soft, override = self.effective(tenant, owner, limit, values)
                    carried = counter.carried.get(limit["id"], 0) if limit.get("carry") else 0
                    since = self.counted_since(tenant, owner, plan, limit, counter.start, counter.end)
                    bounds = instants(counter.start, counter.end)
                    kept = tenant.counters.get((lineage(owner, plan, limit), values), [])
                    if limit["period"] == "ROLLING" and counter not in kept:
                        # No window is running.
                        bounds, since = [None, None], self.now
                    balances.append([[limit["id"], owner, override], soft, subject.get("agent"), subject.get("team"),
                                     quantity, carried, counter.committed, [*bounds, since]])
        of_meter = tenant.counters.get((meter("images"), ()))
        if of_meter and of_meter[-1].committed:
            balances.append([["", "", ""], False, None, None, None, 0, of_meter[-1].committed, [None] * 3])
        return sorted(balances, key=json.dumps)

    def closed(self):
        """The windows that are over, were used, are nominally an hour long or longer, and were not returned before."""
        rows = []
        for tenant in self.tenants.values():
            for (key, values), counters in tenant.counters.items():
                # The limit of minutes that changes its interval, which has the interval 0 here, is short.
                if key.period in ("METER", "LIFETIME") or (key.period == "MINUTE" and key.interval < 60):
                    continue
                if key.period == "ROLLING" and key.interval < HOUR:
                    continue
                subject = dict(values)
                for counter in counters:
                    if counter.end <= self.now and counter.committed and not counter.reported:
                        counter.reported = True
                        rows.append([tenant.name, counter.start, counter.end, counter.committed,
                                     subject.get("agent"), subject.get("team")])
        return sorted(rows, key=json.dumps)


def instants(start, end):
    return [None, None] if end == FOREVER else [start, end]


def applies(limit, subject):
    agent, team = subject
    return limit.get("agent", agent) == agent and limit.get("team", team) == team


def values_of(owner, limit, subject):
    """The values that a limit counts separately. A limit of an agent's plan always counts this agent."""
    agent, team = subject
    counted = []
    if owner or "agent" in limit or "agent" in limit.get("per", []):
        counted.append(("agent", agent))
    if "team" in limit or "team" in limit.get("per", []):
        counted.append(("team", team))
    return tuple(counted)


# ----------------------------------------------------------------------------------------------------------------
# The story


def a_limit(name, quantity, period, **more):
    return {"id": name, "quantity": quantity, "resource": "tokens", "period": period, **more}


def of_tenant(name, quantity, period, **more):
    return a_limit(name, quantity, period, of_tenant=True, **more)


def rolling(name, quantity, length, **more):
    return a_limit(name, quantity, "ROLLING", length=length, **more)


# Tenants of these plans change their plans. Some of the limits have the same shape in several plans.
SWITCHED = {
    "days": [
        a_limit("day", 120, "DAY"),
        a_limit("warn", 60, "DAY", soft=True),
        a_limit("night", 150, "DAY", minute=150),
        a_limit("late", 150, "DAY", minute=1_410),
        a_limit("ten", 300, "DAY", interval=10, origin="2010-12-25"),
        a_limit("agent", 100, "DAY", per=["agent"]),
        a_limit("total", 5_000, "LIFETIME"),
        rolling("five", 140, 5 * HOUR),
    ],
    "weeks": [
        a_limit("week", 150, "WEEK", carry=(40, 0)),
        rolling("five", 130, 5 * HOUR),
        a_limit("sunday", 150, "WEEK", weekday=7, minute=30),
        a_limit("two", 200, "WEEK", interval=2, origin="2011-01-12"),
        a_limit("team", 150, "WEEK", per=["team"], weekday=4, carry=(0, 70)),
        a_limit("total", 5_000, "LIFETIME"),
    ],
    "months": [
        a_limit("month", 250, "MONTH"),
        a_limit("last", 250, "MONTH", day=31, carry=(100, 120)),
        rolling("fortnight", 400, 14 * DAY, per=["agent"]),
        a_limit("quarter", 500, "MONTH", interval=3, day=15, origin="2010-11-01"),
        a_limit("planner", 200, "MONTH", agent="planner", day=5),
        a_limit("both", 200, "MONTH", per=["agent", "team"], day=2),
        a_limit("daily", 130, "DAY"),
    ],
    "mixed": [
        a_limit("a-day", 110, "DAY", carry=(33, 0)),
        a_limit("a-month", 260, "MONTH"),
        a_limit("a-week", 160, "WEEK", carry=(0, 30)),
        a_limit("all", 4_000, "LIFETIME"),
        a_limit("search", 3_000, "LIFETIME", team="search"),
    ],
}

KEPT = {
    "short": [
        a_limit("minute", 90, "MINUTE"),
        rolling("half", 90, 30 * MINUTE),
        rolling("team", 95, 90 * MINUTE, per=["team"]),
        a_limit("quarter", 90, "MINUTE", interval=15),
        a_limit("ninety", 90, "MINUTE", interval=90, origin="2010-12-31"),
        a_limit("hour", 90, "HOUR"),
        a_limit("seven", 100, "HOUR", interval=7, origin="2011-01-02"),
        a_limit("agent", 100, "HOUR", interval=24, per=["agent"]),
    ],
    "years": [
        a_limit("year", 2_000, "YEAR"),
        a_limit("leap", 2_000, "YEAR", month=2, day=29),
        a_limit("july", 2_000, "YEAR", month=7, minute=60),
        a_limit("two", 3_000, "YEAR", interval=2, month=4, origin="2009-06-01"),
        a_limit("total", 6_000, "LIFETIME"),
        a_limit("team", 5_000, "LIFETIME", per=["team"]),
    ],
    "own": [
        of_tenant("minutes", 90, "MINUTE", interval=7),
        of_tenant("hours", 90, "HOUR", interval=5),
        of_tenant("day", 120, "DAY", carry=(100, 0)),
        of_tenant("three", 200, "DAY", interval=3),
        of_tenant("week", 160, "WEEK"),
        of_tenant("month", 260, "MONTH", carry=(50, 100)),
        of_tenant("quarter", 600, "MONTH", interval=3),
        of_tenant("year", 2_500, "YEAR"),
    ],
    "moving": [
        a_limit("minutes", 90, "MINUTE", interval=30, changes=True),
        a_limit("hours", 90, "HOUR", interval=4, changes=True),
        a_limit("day", 120, "DAY", minute=120, changes=True),
        a_limit("week", 160, "WEEK", weekday=2, changes=True, carry=(60, 0)),
        a_limit("month", 260, "MONTH", day=10, changes=True, per=["agent"]),
        a_limit("year", 2_500, "YEAR", month=3, changes=True),
        a_limit("total", 9_000, "LIFETIME"),
    ],
}

# Plans of agents.
OF_AGENTS = {
    "helper": [
        a_limit("own-day", 70, "DAY"),
        a_limit("own-month", 180, "MONTH", day=31, carry=(100, 0)),
        rolling("own-rolling", 100, 36 * HOUR),
        a_limit("own-team", 150, "MONTH", per=["team"], day=9),
        a_limit("own-total", 2_000, "LIFETIME"),
    ],
    "worker": [
        a_limit("own-day", 90, "DAY"),
        a_limit("own-hours", 80, "HOUR", interval=12, carry=(50, 0)),
        a_limit("own-week", 120, "WEEK", weekday=3),
        a_limit("own-total", 1_500, "LIFETIME"),
    ],
}

# What changes in the plan "moving": hours of the year, limits and their new fields.
CHANGES = [
    (700, {"day": {"minute": 600}, "month": {"day": 28}}),
    (702, {"day": {"minute": 1_200}, "minutes": {"interval": 45}}),
    (2_100, {"week": {"weekday": 6, "minute": 720}, "hours": {"interval": 6, "origin": "2011-03-01"}}),
    (2_930, {"month": {"day": 1, "interval": 2, "origin": "2011-02-01"}, "year": {"month": 8, "day": 15}}),
    (4_444, {"month": {"day": 31}, "day": {"minute": 0, "interval": 2, "origin": "2011-07-02"}}),
    (6_001, {"week": {"interval": 3, "origin": "2011-09-05"}, "year": {"month": 1, "day": 1}, "month": {"day": 20}}),
    (8_000, {"day": {"interval": 1, "origin": None}, "hours": {"interval": 24, "origin": None}}),
]


class Story:
    def __init__(self, tenants, operations, seed):
        self.random = random.Random(seed)
        self.model = Model()
        self.wanted, self.operations, self.number = tenants, operations, 0
        # What operators do: lists of actions, by hour.
        self.orders = collections.defaultdict(list)
        self.batch = []

    def say(self, **line):
        print(json.dumps({"at": self.model.now, **line}))

    def play(self):
        self.model.now = millis(BEGIN)
        for name, limits in {**SWITCHED, **KEPT, **OF_AGENTS}.items():
            self.model.plans[name] = Plan(name, limits, self.model.now)
            self.say(plan=name, limits=told(limits))
        for number in range(self.wanted):
            self.create(number)
        for hour, fields in CHANGES:
            self.orders[hour].append((self.change_plan, fields))
        checks = {HOURS * part // 12: part for part in range(1, 12)}
        # An active hour has five active tenants, with three operations on average.
        active = min(1.0, self.operations / 15 / HOURS)
        for hour in range(1, HOURS):
            acts = self.random.random() < active
            if not (acts or self.orders[hour] or hour in checks):
                continue
            offset = self.random.choice([0, 0, 0, 1, HOUR - 1, self.random.randrange(HOUR)])
            self.model.now = millis(BEGIN) + hour * HOUR + offset
            for order, *arguments in self.orders[hour]:
                order(*arguments)
            for _ in range(5 if acts else 0):
                self.spend(self.random.choice(list(self.model.tenants)))
            self.send()
            if hour in checks:
                sample = self.random.sample(sorted(self.model.tenants), max(self.wanted // 10, 10))
                self.check(sample, checks[hour] % 3 == 0)
        self.model.now = millis(BEGIN) + HOURS * HOUR
        self.check(sorted(self.model.tenants), True)

    def create(self, number):
        """Makes a tenant, and decides what operators do with it during the year."""
        plans = [*SWITCHED, *KEPT]
        name, plan, zone = f"t{number}", plans[number % len(plans)], ZONES[number * 7 % len(ZONES)]
        anchor_time = None
        if self.random.random() < 0.7:
            day = self.random.choice([28, 29, 30, 31, self.random.randint(1, 28)])
            began = datetime.datetime(2010, self.random.choice([1, 3, 5, 7, 8, 10, 12]), day, tzinfo=UTC)
            anchor_time = millis(began) + self.random.randrange(24 * 60) * MINUTE
        tenant = Tenant(name, plan, zone, anchor_time, self.model.now)
        self.model.tenants[name] = tenant
        self.model.enter(tenant, "", None, plan)
        self.say(tenant=name, plan=plan, zone=zone, anchor_time=anchor_time)
        chance, some = self.random.random, lambda count: [self.random.randrange(24, HOURS) for _ in range(count)]
        for hour in some(self.random.choice([1, 1, 2, 3])) if chance() < 0.4 else []:
            self.orders[hour].append((self.change_zone, name))
            if chance() < 0.3:
                # Of several changes within one window only the last one counts.
                self.orders[min(hour + self.random.randint(0, 6), HOURS - 1)].append((self.change_zone, name))
        for hour in some(self.random.choice([1, 2])) if plan == "own" and chance() < 0.6 else []:
            self.orders[hour].append((self.change_anchor_time, name))
        for hour in some(self.random.choice([1, 2, 4])) if plan in SWITCHED and chance() < 0.6 else []:
            self.orders[hour].append((self.change_tenant, name))
            if chance() < 0.5:
                self.orders[min(hour + self.random.choice([0, 1, 30]), HOURS - 1)].append((self.change_back, name))
        for hour in some(2) if chance() < 0.3 else []:
            self.orders[hour].append((self.reset, name))
        for hour in some(self.random.choice([2, 5, 8])) if chance() < 0.4 else []:
            self.orders[hour].append((self.change_agent, name))
        for hour in some(self.random.choice([2, 4, 8])) if chance() < 0.4 else []:
            self.orders[hour].append((self.change_override, name))

    def change_zone(self, name):
        tenant = self.model.tenants[name]
        zone = self.random.choice(ZONES)
        tenant.places.append((self.model.now, zone, tenant.places[-1][2]))
        self.say(zone=name, to=zone)

    def change_anchor_time(self, name):
        tenant = self.model.tenants[name]
        anchor_time = millis(BEGIN) - self.random.randrange(400 * 24 * 60) * MINUTE
        tenant.places.append((self.model.now, tenant.places[-1][1], anchor_time))
        self.say(anchor=name, to=anchor_time)

    def change_tenant(self, name):
        tenant = self.model.tenants[name]
        self.move(tenant, self.random.choice([plan for plan in SWITCHED if plan != tenant.plan]))

    def change_back(self, name):
        tenant = self.model.tenants[name]
        if tenant.before and tenant.before != tenant.plan:
            self.move(tenant, tenant.before)

    def move(self, tenant, plan):
        self.send()
        tenant.before, tenant.plan = tenant.plan, plan
        self.model.enter(tenant, "", tenant.before, plan)
        self.say(move=tenant.name, to=plan)
        self.touch(tenant)

    def change_agent(self, name):
        """Declares an agent, gives it another plan, suspends it, makes it active again, or deletes it."""
        self.send()
        tenant = self.model.tenants[name]
        agent = self.random.choice(AGENTS[1:])
        old = tenant.agents.get(agent)
        if agent not in tenant.agents or self.random.random() < 0.5:
            what = "update" if agent in tenant.agents else "create"
            tenant.agents[agent] = new = self.random.choice(["helper", "worker", "helper", "worker", ""])
            self.say(agent=agent, of=name, do=what, plan=new)
            self.model.enter(tenant, agent, old, new)
        elif agent in tenant.suspended or self.random.random() < 0.5:
            tenant.suspended ^= {agent}
            self.say(agent=agent, of=name, do="suspend" if agent in tenant.suspended else "resume")
        else:
            del tenant.agents[agent]
            self.say(agent=agent, of=name, do="delete")
        self.touch(tenant)

    def change_override(self, name):
        """Creates an override of a limit, or deletes one."""
        self.send()
        tenant = self.model.tenants[name]
        if tenant.overrides and self.random.random() < 0.25:
            gone = tenant.overrides.pop(self.random.randrange(len(tenant.overrides)))
            self.say(override=gone["id"], of=name, do="delete")
            return
        owner, plan = self.random.choice(self.model.sources(tenant))
        limit = self.random.choice(plan.limits)
        agent = owner or limit.get("agent") or self.random.choice(AGENTS)
        subject = (agent, limit.get("team") or self.random.choice(TEAMS))
        counted = values_of(owner, limit, subject)
        selected = dict(value for value in counted if (owner and value[0] == "agent") or self.random.random() < 0.6)
        start, end = self.model.now, FOREVER
        if self.random.random() < 0.5:
            start += self.random.randint(1, 900) * HOUR
        if self.random.random() < 0.6:
            end = start + self.random.randint(1, 1_200) * HOUR + self.random.randint(0, 1)
        self.number += 1
        made = {"id": f"o{self.number}", "limit": limit["id"], "selected": selected, "start": start, "end": end,
                # A counter that refused a call, but never committed anything, would be closed by an event, too.
                "quantity": max(50, limit["quantity"] * self.random.choice([50, 80, 130, 200]) // 100),
                "soft": self.random.random() < 0.2}
        tenant.overrides.append(made)
        self.say(override=made["id"], of=name, do="create", **{**made, "end": None if end == FOREVER else end})

    def reset(self, name):
        self.send()
        tenant = self.model.tenants[name]
        limits = sorted({limit["id"] for _, plan in self.model.sources(tenant) for limit in plan.limits})
        limits = self.random.sample(limits, 2) if self.random.random() < 0.6 else []
        resources = self.random.choice([[], ["tokens"], ["tokens", "images"]])
        adjusted = self.model.reset(name, limits, resources)
        self.say(reset=name, limits=limits, resources=resources, adjusted=adjusted)
        self.touch(tenant)

    def change_plan(self, changes):
        plan = self.model.plans["moving"]
        limits = [{**limit, **changes.get(limit["id"], {})} for limit in plan.limits]
        limits = [{key: value for key, value in limit.items() if value is not None} for limit in limits]
        plan.versions.append((self.model.now, limits))
        self.say(plan="moving", limits=told(limits))

    def touch(self, tenant):
        """Spends for every subject again. Whether a counter was "used" that was reset to zero is no rule."""
        for subject in sorted(tenant.subjects):
            self.record(tenant.name, self.random.randint(1, 5), 0, subject)
        self.send()

    def spend(self, name):
        for _ in range(self.random.randint(1, 5)):
            subject = (self.random.choice(AGENTS), self.random.choice(TEAMS))
            quantity = self.random.randint(1, 50)
            images = self.random.randint(1, 9) if self.random.random() < 0.1 else 0
            if self.random.random() < 0.5:
                self.record(name, quantity, images, subject)
            else:
                self.reserve(name, quantity, subject)

    def record(self, name, quantity, images, subject):
        amounts = [("tokens", quantity)] + [("images", images)] * (images > 0)
        self.model.record(name, amounts, subject)
        self.batch.append(["record", name, *subject, quantity, images])

    def reserve(self, name, quantity, subject):
        """A Reserve, and a Commit that uses less or more."""
        used = self.random.randint(0, quantity * 5 // 4)
        refusal = self.model.refusal(name, [("tokens", quantity)], subject)
        if not refusal:
            self.model.record(name, [("tokens", used)], subject)
        self.number += 1
        self.batch.append(["reserve", name, *subject, quantity, used, f"r{self.number}", refusal])

    def send(self):
        if self.batch:
            self.say(batch=self.batch)
            self.batch = []

    def check(self, tenants, closed):
        self.say(check={name: self.model.balances(name) for name in tenants})
        if closed:
            self.say(closed=self.model.closed())


def told(limits):
    """The limits, as a server gets them."""
    return [{key: value for key, value in limit.items() if key != "changes"} for limit in limits]


if __name__ == "__main__":
    Story(*(int(argument) for argument in sys.argv[1:4])).play()
