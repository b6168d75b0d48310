"""The scenarios of clients/scenarios, against the fake and the real server, with threads and with asyncio."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from conftest import ROOT, World
from play import Async, Sync
from provider import Provider

SCENARIOS = json.loads((ROOT / "clients/scenarios/scenarios.json").read_text())["scenarios"]


def cases() -> list[Any]:
    found = []
    for scenario in SCENARIOS:
        for api in scenario.get("apis", [""]):
            played = json.loads(json.dumps(scenario).replace("$api", api))
            found.append(pytest.param(played, id=f"{scenario['name']}-{api}".rstrip("-")))
    return found


def test_each_scenario_has_a_name_of_its_own() -> None:
    names = [scenario["name"] for scenario in SCENARIOS]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.parametrize("scenario", cases())
def test_with_threads(scenario: dict[str, Any], world: World, provider: Provider) -> None:
    Sync(world, provider, scenario).play()


@pytest.mark.parametrize("scenario", cases())
def test_with_asyncio(scenario: dict[str, Any], world: World, provider: Provider) -> None:
    asyncio.run(Async(world, provider, scenario).play())
