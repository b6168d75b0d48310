"""Help for tests of programs that use Tope: a fake in memory, the real server, and faults between them.

The fixtures `tope_fake` and `tope_server` of pytest are in `tope.testing.plugin`.
"""

from tope.testing._books import Clock
from tope.testing.fake import Fake
from tope.testing.faults import Faulty, abandon
from tope.testing.server import Server, find_binary

__all__ = ["Clock", "Fake", "Faulty", "Server", "abandon", "find_binary"]
