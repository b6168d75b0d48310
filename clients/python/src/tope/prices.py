"""What a model call costs, by the prices of the package genai-prices: `pip install tope[prices]`.

    client = tope.Client(price=tope.prices.nanos)

Each hold then also reserves the resource `cost_nanos`, in billionths of a dollar: a token can cost less than a
millionth. The price list is a part of that package, and nothing is downloaded.
"""

from __future__ import annotations

import functools
import math
from decimal import Decimal
from typing import Any

from tope.usage import Usage

_NANOS = Decimal(10**9)


@functools.cache
def _prices() -> Any:
    try:
        import genai_prices
    except ImportError:
        raise ImportError("tope.prices needs the package genai-prices: pip install 'tope[prices]'") from None
    return genai_prices


def nanos(usage: Usage, model: str, provider: str | None = None) -> int | None:
    """Returns billionths of a dollar, rounded up. None if the price of the model is not known."""
    prices = _prices()
    tokens = prices.Usage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
    )
    try:
        price: Decimal = prices.calc_price(tokens, model_ref=model, provider_id=provider).total_price
    except LookupError:
        return None
    return math.ceil(price * _NANOS)
