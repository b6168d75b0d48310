"""Plays a scenario of clients/scenarios, with threads or with asyncio."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from conftest import World
from provider import Provider, has_token

import tope
from tope.testing import abandon
from tope.v1 import policy_pb2, usage_pb2


class CallerFailed(Exception):
    """An error of the program."""


class Cancelled(BaseException):
    """Stands for a cancellation in a program with threads."""


def hold_options(step: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    options = dict(step["hold"])
    if "ttl_ms" in options:
        options["ttl"] = options.pop("ttl_ms") / 1_000
    return options.pop("amounts"), options


def client_options(options: dict[str, Any]) -> dict[str, Any]:
    found = dict(options)
    if "timeout_ms" in found:
        found["timeout"] = found.pop("timeout_ms") / 1_000
    return found


class Player:
    """What both ways of playing have in common: the world, and what was seen."""

    def __init__(self, world: World, provider: Provider, scenario: dict[str, Any]) -> None:
        self.world, self.provider, self.scenario = world, provider, scenario
        period = {name.removeprefix("PERIOD_"): value for name, value in policy_pb2.Period.items()}
        limits = [policy_pb2.Limit(**{**one, "period": period[one["period"]]}) for one in scenario["limits"]]
        world.tenant_with(*limits)
        self.client = world.client(**client_options(scenario.get("client", {})))
        #: Holds whose settlement must have a basis.
        self.expected: list[tuple[Any, str]] = []

    def plain(self, step: dict[str, Any], hold: Any) -> None:
        """Runs a step that waits for nothing."""
        assert self.world.faulty is not None
        if "use" in step:
            hold.use(**step["use"])
        elif "sent" in step:
            hold.sent() if step["sent"] else hold.unsent()
        elif "crash" in step:
            abandon(hold)
        elif "restart" in step:
            self.world.restart()
        elif "suspend" in step:
            self.world.home.suspend(self.world.tenant)
        elif "heal" in step:
            self.world.faulty.heal()
        elif "fault" in step:
            fault = step["fault"]
            retry_after = fault["retry_after_ms"] / 1_000 if "retry_after_ms" in fault else None
            times = fault.get("times", 1)
            self.world.faulty.fail(fault["method"], fault["fault"], times=times, retry_after=retry_after)
        else:
            raise AssertionError(f"unknown step {step}")

    def entered(self, step: dict[str, Any], hold: Any) -> None:
        for resource, quantity in step.get("granted", {}).items():
            assert hold.granted[resource] == quantity
        if "allowed" in step:
            assert hold.allowed == step["allowed"]
        if "settled" in step:
            self.expected.append((hold, step["settled"]))

    def failed(self, step: dict[str, Any], error: tope.TopeError) -> None:
        """Compares an error with that of the step, if the step has one. Otherwise it goes on."""
        if "error" not in step:
            raise error
        for name, want in step["error"].items():
            if name == "retry_after":
                assert (error.retry_after is not None) == want, error.retry_after
            elif name == "field":
                assert isinstance(error, tope.InvalidArgument)
                assert error.faults[0].field == want
            else:
                assert getattr(error, name) == want, (name, getattr(error, name))

    def compare(self, step: dict[str, Any], outcomes: list[Any]) -> None:
        """Compares the bases and reasons of a crowd of holds, when all of them are settled."""
        assert self.client.flush(60)
        found = Counter(one if isinstance(one, str) else one.settlement.basis for one in outcomes)
        assert found == step["outcomes"]

    def took(self, step: dict[str, Any], began: float) -> None:
        assert (time.monotonic() - began) * 1_000 >= step.get("took_at_least_ms", 0)

    def judge(self) -> None:
        """Compares the books with what the scenario expects."""
        assert self.client.flush(20)
        expect, world = self.scenario["expect"], self.world
        for hold, basis in self.expected:
            assert hold.settlement is not None
            assert hold.settlement.basis == basis, (hold.settlement, basis)
            assert hold.settlement.error is None
        found = world.reservations()
        if "reservations" in expect:
            assert len(found) == len(expect["reservations"]), found
            for one, want in zip(found, expect["reservations"], strict=True):
                self._compare(one, want)
        if "states" in expect:
            states = Counter(_state(one) for one in found)
            assert states == expect["states"]
        balances = world.balances()
        for limit, want in expect.get("balances", {}).items():
            got = {name: getattr(balances[limit], name) for name in want}
            assert got == want
        totals = self.provider.totals(world.tenant)
        if expect.get("books") == "equal":
            assert world.committed() == totals["tokens"] > 0
        assert totals["calls"] == expect.get("provider_calls", totals["calls"])

    def _compare(self, one: Any, want: dict[str, Any]) -> None:
        assert _state(one) == want["state"], one
        if "late" in want:
            assert one.late == want["late"], one
        amounts = {amount.resource: [amount.reserved, amount.committed] for amount in one.amounts}
        assert amounts.keys() == want["amounts"].keys()
        for resource, figures in want["amounts"].items():
            got = [a if b is not None else None for a, b in zip(amounts[resource], figures, strict=True)]
            assert got == figures, one


def _state(one: Any) -> str:
    return usage_pb2.ReservationState.Name(one.state).removeprefix("RESERVATION_STATE_")


class Sync(Player):
    """Plays with threads."""

    def play(self) -> None:
        for step in self.scenario["steps"]:
            try:
                self.step(step, None)
            except (CallerFailed, Cancelled, OSError, ValueError):
                pass
            except Exception as error:
                # An error of the provider.
                if not type(error).__module__.startswith("httpx"):
                    raise
        self.judge()

    def step(self, step: dict[str, Any], hold: Any) -> None:
        if "hold" in step and "times" in step:
            self.crowd(step)
        elif "hold" in step:
            self.hold(step)
        elif "call" in step:
            self.call(step["call"], hold)
        elif "wait_ms" in step:
            for _ in range(step["wait_ms"] // 20):
                time.sleep(0.02)
                if self.world.fake is not None:
                    self.world.fake.clock.advance(0.02)
        elif step.get("raise") == "error":
            raise CallerFailed
        elif step.get("raise") == "cancel":
            raise Cancelled
        else:
            self.plain(step, hold)

    def hold(self, step: dict[str, Any]) -> None:
        amounts, options = hold_options(step)
        began = time.monotonic()
        try:
            with self.client.hold(amounts, **options) as hold:
                self.took(step, began)
                self.entered(step, hold)
                for inner in step["inside"]:
                    self.step(inner, hold)
        except tope.TopeError as error:
            self.failed(step, error)
        else:
            assert "error" not in step, "the hold did not fail"

    def crowd(self, step: dict[str, Any]) -> None:
        def one(_: int) -> Any:
            amounts, options = hold_options(step)
            try:
                with self.client.hold(amounts, **options) as hold:
                    for inner in step["inside"]:
                        self.step(inner, hold)
            except tope.TopeError as error:
                return error.reason
            return hold

        with ThreadPoolExecutor(100) as pool:
            self.compare(step, list(pool.map(one, range(step["times"]))))

    def call(self, call: dict[str, Any], hold: Any) -> None:
        api, model, label = call["api"], call["model"], self.world.tenant
        if not call.get("stream"):
            hold.use(self.provider.ask(api, model, label, timeout=call.get("timeout_ms", 30_000) / 1_000))
            return
        with self.provider.stream(api, model, label) as events:
            tokens = 0
            for event in hold.watch(events):
                tokens += has_token(event)
                if tokens == call.get("read"):
                    break


class Async(Player):
    """Plays with asyncio."""

    async def play(self) -> None:
        async with self.provider.aclient() as self.http:
            for step in self.scenario["steps"]:
                # A task of its own can be cancelled.
                task = asyncio.create_task(self.step(step, None))
                try:
                    await task
                except (CallerFailed, asyncio.CancelledError, OSError, ValueError):
                    pass
                except Exception as error:
                    if not type(error).__module__.startswith("httpx"):
                        raise
            await asyncio.get_running_loop().run_in_executor(None, self.judge)
            await self.client.aclose()

    async def step(self, step: dict[str, Any], hold: Any) -> None:
        if "hold" in step and "times" in step:
            await self.crowd(step)
        elif "hold" in step:
            await self.hold(step)
        elif "call" in step:
            await self.call(step["call"], hold)
        elif "wait_ms" in step:
            for _ in range(step["wait_ms"] // 20):
                await asyncio.sleep(0.02)
                if self.world.fake is not None:
                    self.world.fake.clock.advance(0.02)
        elif step.get("raise") == "error":
            raise CallerFailed
        elif step.get("raise") == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(10)
        else:
            self.plain(step, hold)

    async def hold(self, step: dict[str, Any]) -> None:
        amounts, options = hold_options(step)
        began = time.monotonic()
        try:
            async with self.client.hold(amounts, **options) as hold:
                self.took(step, began)
                self.entered(step, hold)
                for inner in step["inside"]:
                    await self.step(inner, hold)
        except tope.TopeError as error:
            self.failed(step, error)
        else:
            assert "error" not in step, "the hold did not fail"

    async def crowd(self, step: dict[str, Any]) -> None:
        async def one() -> Any:
            amounts, options = hold_options(step)
            try:
                async with self.client.hold(amounts, **options) as hold:
                    for inner in step["inside"]:
                        await self.step(inner, hold)
            except tope.TopeError as error:
                return error.reason
            return hold

        outcomes = await asyncio.gather(*(one() for _ in range(step["times"])))
        await asyncio.get_running_loop().run_in_executor(None, self.compare, step, outcomes)

    async def call(self, call: dict[str, Any], hold: Any) -> None:
        api, model, label = call["api"], call["model"], self.world.tenant
        if not call.get("stream"):
            seconds = call.get("timeout_ms", 30_000) / 1_000
            hold.use(await self.provider.aask(self.http, api, model, label, timeout=seconds))
            return
        async with self.provider.astream(self.http, api, model, label) as events:
            tokens = 0
            async for event in hold.watch(events):
                tokens += has_token(event)
                if tokens == call.get("read"):
                    break
