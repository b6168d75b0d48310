"""The books equal what the provider sent: mixed calls, of which a fifth breaks, while the server is killed twice."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from conftest import World, limit
from provider import Provider, has_token

import tope
from tope.testing import Server

CALLS = int(os.environ.get("TOPE_TEST_CALLS", "1000"))
AT_ONCE = 64
APIS = ("openai-chat", "openai-responses", "anthropic", "gemini")


class CallerLeft(Exception):
    """The caller stops reading a stream."""


class Plan:
    """One call: what the provider does, and how its caller behaves."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.id = f"call-{number}-{chance.getrandbits(40):x}"
        self.api = chance.choice(APIS)
        self.tokens = chance.randint(1, 30)
        self.stream = chance.random() < 0.7
        self.read: int | None = None
        self.cancel = False
        self.model = f"tokens-{self.tokens}"
        if chance.random() < 0.2:
            self._break(chance)
        elif chance.random() < 0.2:
            self.model += f"+cached-2+reasoning-{chance.randint(0, 5)}" if self.api != "gemini" else "+cached-1"

    def _break(self, chance: random.Random) -> None:
        way = chance.choice(["cut", "left", "cancelled", "429", "500"])
        at = chance.randint(1, self.tokens)
        if way in ("429", "500"):
            self.model = way
            return
        self.stream = True
        if way == "cut":
            self.model += f"+cut-after-{at}"
        else:
            self.model += f"+hang-after-{at}"
            self.read, self.cancel = at, way == "cancelled"


def run(client: tope.Client, provider: Provider, plan: Plan) -> None:
    with client.hold(50, prompt="a b c", request_id=plan.id) as hold:
        if not plan.stream:
            hold.use(provider.ask(plan.api, plan.model, plan.id))
            return
        with provider.stream(plan.api, plan.model, plan.id) as events:
            tokens = 0
            for event in hold.watch(events):
                tokens += has_token(event)
                if tokens == plan.read:
                    raise CallerLeft


async def arun(client: tope.Client, provider: Provider, http: Any, plan: Plan) -> None:
    async with client.hold(50, prompt="a b c", request_id=plan.id) as hold:
        if not plan.stream:
            hold.use(await provider.aask(http, plan.api, plan.model, plan.id))
            return
        async with provider.astream(http, plan.api, plan.model, plan.id) as events:
            tokens = 0
            async for event in hold.watch(events):
                tokens += has_token(event)
                if tokens == plan.read:
                    if plan.cancel:
                        task = asyncio.current_task()
                        assert task is not None
                        task.cancel()
                        await asyncio.sleep(60)
                    raise CallerLeft


def expected(error: BaseException) -> bool:
    """Whether an error is one that the plan asked for, and not one of Tope."""
    return isinstance(error, CallerLeft) or type(error).__module__.startswith(("httpx", "httpcore"))


def with_threads(client: tope.Client, provider: Provider, plans: list[Plan], done: Counter[str]) -> None:
    def one(plan: Plan) -> None:
        try:
            run(client, provider, plan)
        except Exception as error:
            if not expected(error):
                raise
        done["calls"] += 1

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, plans))


async def with_asyncio(client: tope.Client, provider: Provider, plans: list[Plan], done: Counter[str]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(http: Any, plan: Plan) -> None:
        async with room:
            task = asyncio.create_task(arun(client, provider, http, plan))
            try:
                await task
            except asyncio.CancelledError:
                assert plan.cancel
            except Exception as error:
                if not expected(error):
                    raise
            done["calls"] += 1

    async with provider.aclient() as http:
        await asyncio.gather(*(one(http, plan) for plan in plans))
    await client.aclose(60)


def kill_twice(server: Server, done: Counter[str], calls: int) -> None:
    for share in (0.3, 0.7):
        end = time.monotonic() + 300
        while done["calls"] < share * calls and time.monotonic() < end:
            time.sleep(0.005)
        server.restart()


def check(world: World, provider: Provider, plans: list[Plan]) -> None:
    """Compares each reservation with the entry of its call in the provider's ledger."""
    sent: Counter[str] = Counter()
    mine = {plan.id for plan in plans}
    for entry in provider.http.get("/ledger").json()["entries"]:
        if entry["label"] in mine:
            sent[entry["label"]] += entry["input"] + entry["output"]
    found = world.reservations()
    charged = {one.request_id: one.amounts[0].committed for one in found}
    wrong = {
        plan.id: (plan.api, plan.model, plan.stream, plan.read, sent[plan.id], charged.get(plan.id))
        for plan in plans
        if charged.get(plan.id) != sent[plan.id]
    }
    assert not wrong, f"{len(wrong)} differ, such as {list(wrong.items())[:5]}"
    assert len(found) == len(plans)
    [balance] = [one for one in world.balances().values() if one.limit_id]
    assert (balance.committed, balance.reserved) == (sum(sent.values()), 0)


def play(server: Server, provider: Provider, seed: int, asynchronous: bool) -> None:
    chance = random.Random(seed)
    plans = [Plan(number, chance) for number in range(CALLS)]
    broken = sum("after" in plan.model or plan.model in ("429", "500") for plan in plans)
    assert 0.1 * CALLS < broken < 0.3 * CALLS
    world = World("server", server)
    world.tenant_with(limit(1_000_000_000))
    threads = set(threading.enumerate())
    client = world.client(timeout=20.0)
    done: Counter[str] = Counter()
    killer = threading.Thread(target=kill_twice, args=(server, done, CALLS))
    killer.start()
    try:
        if asynchronous:
            asyncio.run(with_asyncio(client, provider, plans, done))
        else:
            with_threads(client, provider, plans, done)
            assert client.flush(60)
    finally:
        killer.join()
    assert client.close(60)
    assert client.lost == 0
    check(world, provider, plans)
    left = [one.name for one in set(threading.enumerate()) - threads if one.name.startswith("tope")]
    assert not left
    world.close()


def test_the_books_equal_the_ledger_with_threads(tope_server: Server, provider: Provider) -> None:
    play(tope_server, provider, 1, asynchronous=False)


def test_the_books_equal_the_ledger_with_asyncio(tope_server: Server, provider: Provider) -> None:
    play(tope_server, provider, 2, asynchronous=True)
