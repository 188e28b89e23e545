"""Calculate what a call cost, and add calls up in a `RoutingReport`.

genai-prices lists Bedrock's models by id and geography (``global.`` profiles are cheaper than all others), with the
prices of us-east-1 and the day from which each is valid. It has no prices for latency modes and service tiers other
than the standard ones, provisioned throughput, imported or custom models; those calls have the cost None. Give your own
`Prices` for them, for private offers, and for Regions with higher prices.

`prices` prices a call, `report` and `totals` add calls up, `report_tables`, `report_layout` and `plot` show a report,
and `invocation_logs` reads the calls of a fleet from Bedrock's own logs.
"""

from __future__ import annotations

from .prices import EXACT, MODES, STANDARD, Prices, costs, priced, uncached_cost

__all__ = ["EXACT", "MODES", "STANDARD", "Prices", "costs", "priced", "uncached_cost"]
