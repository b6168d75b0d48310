"""Fixtures for pytest. They are there as soon as `tope` is installed.

`tope_fake`: a server in memory, new for each test, with `clock.advance(seconds)`.
`tope_server`: the real server, with a database of its own. One server runs for all tests that use it, so each test adds
a tenant of its own. Without the program `tope`, these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tope.testing.fake import Fake
    from tope.testing.server import Server


@pytest.fixture
def tope_fake() -> Fake:
    """A server in memory: `tope.Client(tope_fake)`."""
    from tope.testing.fake import Fake

    return Fake()


@pytest.fixture(scope="session")
def tope_server() -> Iterator[Server]:
    """The real server: `tope.Client(tope_server.target)`."""
    from tope.testing.server import Server, find_binary

    if find_binary() is None:
        pytest.skip("there is no program `tope`: set TOPE_BIN, or install the server")
    with Server() as server:
        yield server
