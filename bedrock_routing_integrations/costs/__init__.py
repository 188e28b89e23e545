"""What a call cost: an `Invocation` → the same with its price, by genai-prices' table or by the user's own.

The table lists Bedrock's models by id with the geography that prices depend on: ``global.`` profiles are cheaper than
all others. It has the prices of us-east-1, each from the day on which it holds. What it does not have has no price
here: a latency mode or service tier that is not the standard one, provisioned throughput, imported and custom models.
Prices of one's own (`Prices`) are for these, for private offers and for Regions that are dearer.
"""

from __future__ import annotations

from .prices import EXACT, MODES, STANDARD, Prices, costs, priced, uncached_cost

__all__ = ["EXACT", "MODES", "STANDARD", "Prices", "costs", "priced", "uncached_cost"]
