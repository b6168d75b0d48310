"""The client of Tope, a quota authority for AI tokens: reserve before a model call, and settle it afterwards.

import tope

client = tope.Client("127.0.0.1:50051", tenant="acme")
with client.hold(1_000) as hold:
    hold.use(openai.chat.completions.create(...))
"""

from tope._client import Client, default_meter
from tope._core import Decision, Settlement
from tope._default import client, configure, current_hold, guard, hold
from tope._hold import AsyncHold, Hold, Scope
from tope.errors import Fault, InvalidArgument, QuotaExceeded, TopeError, Unavailable, Violation
from tope.estimate import Estimate, Estimator
from tope.usage import Usage

__version__ = "0.1.0"

__all__ = [
    "AsyncHold", "Client", "Decision", "Estimate", "Estimator", "Fault", "Hold", "InvalidArgument", "QuotaExceeded",
    "Scope", "Settlement", "TopeError", "Unavailable", "Usage", "Violation", "client", "configure", "current_hold",
    "default_meter", "guard", "hold",
]  # fmt: skip
