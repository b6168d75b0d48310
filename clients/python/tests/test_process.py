"""What happens to holds when a process ends, is killed or is forked, and what a client leaves behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import World, limit

import tope
from tope.testing import Server
from tope.v1 import usage_pb2


def wait_until(met: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def program(server: Server, text: str, *, wait: bool = True) -> subprocess.Popen[str]:
    """Runs a program that has a client `c` for the tenant of the server."""
    head = f"import os, sys, time, tope\nc = tope.Client({server.target!r}, tenant=sys.argv[1])\n"
    command = [sys.executable, "-c", head + textwrap.dedent(text), sys.argv[0]]
    command[-1] = program.tenant  # type: ignore[attr-defined]
    found = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if wait:
        output, _ = found.communicate(timeout=60)
        assert found.returncode == 0, output
        found.output = output  # type: ignore[attr-defined]
    return found


@pytest.fixture
def alone(real: World) -> World:
    real.tenant_with(limit(100_000))
    program.tenant = real.tenant  # type: ignore[attr-defined]
    return real


def committed(world: World) -> list[tuple[str, int]]:
    found = world.reservations()
    return sorted((one.agent, one.amounts[0].committed) for one in found)


def test_what_is_left_at_exit_is_settled(alone: World, tope_server: Server) -> None:
    began = time.monotonic()
    program(
        tope_server,
        """
        @c.guard(100, agent="generator", prompt="one two three")
        def ask():
            yield "w0 "
            yield "w1 "
        stream = ask()
        next(stream)
        with c.hold(50, agent="exit") as hold:
            hold.use(tokens=5)
            sys.exit(0)
        """,
    )
    assert time.monotonic() - began < 10
    states = {one.agent: one.state for one in alone.reservations()}
    assert states == dict.fromkeys(["generator", "exit"], usage_pb2.RESERVATION_STATE_COMMITTED)
    assert dict(committed(alone))["exit"] == 5


def test_a_program_that_is_killed_is_charged_at_the_deadline(alone: World, tope_server: Server) -> None:
    process = program(
        tope_server,
        """
        with c.hold(100, ttl=2.0) as hold:
            print("open", flush=True)
            time.sleep(60)
        """,
        wait=False,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    time.sleep(3)
    [one] = alone.reservations()
    assert one.state == usage_pb2.RESERVATION_STATE_RESERVED, "it is extended as long as the program lives"
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: alone.balances()["tokens-per-day"].reserved == 0)
    wait_until(lambda: alone.reservations()[0].state == usage_pb2.RESERVATION_STATE_EXPIRED)
    assert committed(alone) == [("", 100)]


def test_forked_processes_settle_their_own_holds(alone: World, tope_server: Server) -> None:
    program(
        tope_server,
        """
        with c.hold(1, agent="before") as hold:
            hold.use(tokens=1)
        children = []
        with c.hold(100, agent="parent") as outer:
            for number in range(4):
                pid = os.fork()
                if pid == 0:
                    with c.hold(10, agent=f"child{number}") as hold:
                        hold.use(tokens=number + 1)
                    c.flush()
                    os._exit(0)
                children.append(pid)
            for pid in children:
                assert os.waitpid(pid, 0)[1] == 0
            outer.use(tokens=50)
        """,
    )
    children = [(f"child{number}", number + 1) for number in range(4)]
    assert committed(alone) == sorted([("before", 1), ("parent", 50), *children])


def test_a_child_that_leaves_the_block_of_its_parent_settles_nothing(alone: World, tope_server: Server) -> None:
    program(
        tope_server,
        """
        with c.hold(100) as outer:
            pid = os.fork()
            outer.use(tokens=50 if pid else 7)
            if pid:
                os.waitpid(pid, 0)
        """,
    )
    assert committed(alone) == [("", 50)]


def test_a_client_that_is_dropped_leaves_no_thread(alone: World, tope_server: Server) -> None:
    found = program(
        tope_server,
        """
        import gc, threading
        def work():
            client = tope.Client(sys.argv[2] if len(sys.argv) > 2 else c._transport.target.address, tenant=sys.argv[1])
            with client.hold(10) as hold:
                hold.use(tokens=1)
        for _ in range(5):
            work()
        gc.collect()
        for _ in range(100):
            names = [one.name for one in threading.enumerate() if one.name.startswith("tope")]
            if not names:
                break
            time.sleep(0.05)
        print(names)
        """,
    )
    assert found.output.strip().endswith("[]"), found.output  # type: ignore[attr-defined]


def test_a_settled_client_leaves_no_task(real: World) -> None:
    real.tenant_with(limit(1_000))
    client = real.client()

    async def main() -> list[Any]:
        async with client.hold(10) as hold:
            hold.use(tokens=1)
        task = asyncio.create_task(_cancelled(client))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        await client.aclose()
        return [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]

    assert asyncio.run(main()) == []


async def _cancelled(client: tope.Client) -> None:
    async with client.hold(10):
        await asyncio.sleep(30)


def test_the_client_reads_no_wall_clock() -> None:
    """So a clock that is off, or that is set, changes nothing."""
    folder = Path(tope.__file__).parent
    for path in folder.glob("*.py"):
        assert "time.time(" not in path.read_text(), path
    assert os.path.exists(folder / "py.typed")
