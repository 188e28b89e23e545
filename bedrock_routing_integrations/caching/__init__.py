"""Add cache points to Converse requests where they are expected to save money.

The problem
-----------
Bedrock caches the beginning of a prompt (the *prefix*: tools, then system, then messages) up to a *cache point*, a
``cachePoint`` block in the request. For Claude, in units of a plain input token, a token costs 1.25 to write for five
minutes, 2.0 for an hour, and 0.1 to read. So a cache point saves 90% of a prefix that returns in time and costs 25% to
100% more for one that does not. A request may have four. Which prefixes will return, the request itself does not show:
a document in the first message may be followed by one question, by a conversation, or by the same question of sixty
users.

The idea
--------
Predict it from what this process has seen of the target, and choose the cache points with the greatest expected saving.
One request passes through these modules:

1. `rules` keeps the user's own cache points and repairs those that Bedrock would refuse.
2. `candidates` reads the request as a prefix and finds the few boundaries worth considering. `prefix_store` knows, by
   digest, which of these prefixes each model has seen, when, and whether its cache holds them now. No text is kept.
3. `sizes` estimates the tokens of each prefix without a tokenizer, corrected by the counts in earlier answers.
4. `reuse_statistics` estimates the probability that each prefix returns within five minutes, and within the hour: a
   prior, updated with how often prefixes of the same category returned, first in all applications, then in this one.
5. `planner` selects: starting from the user's cache points it adds the candidate that saves most, until none saves.
6. `savings_ledger` limits what the selection may spend.
7. The answer's usage shows what was read and written. It updates all of the above.

`explanation` gives a reason for every decision, and warns if the answers show that caching cannot work.

What a cache point is worth
---------------------------
A prefix that is not written now, and does return, would be written then. So a write now saves ``write - read`` later
with probability p, and costs ``write - 1`` now. It pays for Claude if p > 0.25 / 1.15 = 0.22 (five minutes) or
p > 1.0 / 1.9 = 0.53 (an hour). A prefix that is cached already is read for 0.1, which also renews it.

The prior for a prefix without evidence is p = 0.5, worth two observations. Each miss lowers it: 0.33, 0.25, 0.20. So a
kind of prompt that never repeats is written three times and then no more, and one that repeats is read from its second
occurrence on.

Five minutes or an hour
-----------------------
With ``ttl="auto"`` an hour is considered only where returns within the hour are clearly (a quarter) more likely than
within five minutes: after a gap longer than five minutes, or where the counts show such gaps. Three sets are compared:
five minutes everywhere, an hour everywhere, and an hour for tools and system only. An entry that exists for an hour is
renewed for an hour, and ttls never rise within a request, as Bedrock refuses that.

The ledger and its budgets
--------------------------
Statistics alone would overspend at first, when nothing is known, and when the habits of an application change. The
ledger keeps what caching cost and saved for each target. The *speculative* budget pays for prefixes without evidence of
reuse: about three requests' write premium at first, 1.5% of all input in the long run, plus what was saved. The *total*
budget pays for all writes: one average request, eight with 1-hour entries. Speculative writes in flight count as lost
until they are answered, so that a batch of sixty one-off prompts at the same time cannot spend the budget sixty times.

Routers with several candidate models
-------------------------------------
Each model has its own cache, and only the answer shows which one a router chose. A cache point must be valid for all
candidate models: the largest minimum, the smallest maximum, the sections and ttls that all support. The saving is the
mean over the models, weighted with their probability to answer: how often each answered lately, and how often a
conversation stayed with its model. A prefix must return to the *same* model: the less a router stays with one, the
lower its return probability. A prefix that only another model has seen is a category of its own.

What was tried and dropped
--------------------------
- *A fixed rule* (cache points after the system prompt and the last message), as langchain-aws 1.9.1 and Strands 1.62
  have it. It costs 25% more than no caching for prompts that never repeat, and caches nothing that is read where many
  users ask about one document, as the question ends the prefix. ``CachePolicy(memory="none")`` comes near it.
- *Counting every unseen prefix of a request as an observation.* One long prompt of several blocks counted as several
  misses. Now the shortest counts (the *leader*), and the longer ones only if it returns.
- *Counting a pending prefix as a quarter of a miss for five minutes, too*, where some had returned before. Waiting to
  see cost too much. It is kept for the hour, where counting at once would make the hour look hopeless.
- *One budget of 0.8 of a request.* That is three writes at Claude's five-minute price: too little for an hour, too much
  for models whose writes cost nothing extra. Nor did it limit writes with evidence, when habits change.
- *Priors worth four observations* for prefixes that were seen. Now two or three.

Trade-offs
----------
- The first prompts of a kind are a guess. A wrong guess costs a quarter of the prompt.
- What is learned stays in the process. Prefixes are remembered for an hour, the life of the longest entry.
- Boundaries are remembered where requests usually diverge, not after every block. A divergence elsewhere is noticed
  only as far as the longest remembered prefix before it.
- Selection is greedy, not exhaustive.

Where the numbers come from
---------------------------
Minimum sizes, ttls and prices: the catalog (`models.families`), which names AWS's guide on prompt caching and price
lists, with dates. Rules about positions: that guide, and refusals reported publicly (2026-11), see `rules`. Priors,
strengths and budgets: tuned in simulations of a cache with the published rules (``python -m tests.benchmarks
cache_cost``) on 17 workloads, for one model and for routers that choose in four ways, against fixed rules and an oracle
that knows the future; then checked on 21 workloads that were held out.

Result of that simulation (2026-12-01, two seeds, 152 combinations): 1.036 times the oracle's cost in the geometric
mean; at most 1.017 times the cost of no caching. The worst against the oracle, 3.75 times, is a PDF that many users ask
about, on Nova: it accepts no cache point directly after media (seen 2026-12), which the simulated cache does.
"""

from .explanation import CachePlan, PlannedPoint, explain
from .planner import PlannedRequest, Planner, plan_cache_points
from .policy import CachePolicy, policy_of
from .prefix_store import PrefixMemory
from .reuse_statistics import saved_tokens
from .rules import place_points, takes_system_point

__all__ = [
    "CachePlan", "CachePolicy", "PlannedPoint", "PlannedRequest", "Planner", "PrefixMemory", "explain", "place_points",
    "plan_cache_points", "policy_of", "saved_tokens", "takes_system_point",
]  # fmt: skip
