"""The targets of the requests: one model, or a router between two that chooses in one of four ways."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .world import Rules

SONNET_45 = "anthropic.claude-sonnet-4-5-20250929-v1:0"
SONNET_46 = "anthropic.claude-sonnet-4-6"
SONNET_37 = "anthropic.claude-3-7-sonnet-20250219-v1:0"
HAIKU_45 = "anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA_LITE = "amazon.nova-lite-v1:0"
NOVA_PRO = "amazon.nova-pro-v1:0"

_NOVA = {
    "least": 1_000,
    "most": 20_000,
    "ttls": ("5m",),
    "fields": ("system", "messages"),
    "after_tool_result": False,
    "read": 0.25,
    "write": {"5m": 1.0},
}
RULES = {
    SONNET_45: Rules(least=1_024),
    SONNET_46: Rules(least=1_024),
    SONNET_37: Rules(least=1_024, ttls=("5m",)),
    HAIKU_45: Rules(least=4_096, weight=1 / 3),
    NOVA_LITE: Rules(**_NOVA, weight=0.06 / 0.8),
    NOVA_PRO: Rules(**_NOVA),
}
_CUSTOM = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abc123def456"
_NOVA_ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1"


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """A target and its models.

    Attributes:
        name: Its name in the table.
        target: ``modelId`` of the requests.
        models: Its candidate models.
        choice: How a router chooses: ``"sticky"`` (by conversation), ``"random"``, ``"skewed"`` (nine of ten go to the
            first model) or ``"alternating"``.
        usual: Whether it also runs without ``--full``.
    """

    name: str
    target: str
    models: tuple[str, ...]
    choice: str = "sticky"
    usual: bool = False

    @property
    def rules(self):
        return {model: RULES[model] for model in self.models}

    @property
    def claude(self):
        return self.models[0].startswith("anthropic.")

    def answering(self, events, seed):
        """Yield the model that answers each event: the same for all contenders."""
        rng = random.Random(f"{self.name}/{seed}")
        stuck = {}
        for n, event in enumerate(events):
            if self.choice == "alternating":
                yield self.models[n % len(self.models)]
            elif self.choice == "skewed":
                yield self.models[0 if rng.random() < 0.9 else -1]
            elif self.choice == "random":
                yield rng.choice(self.models)
            else:
                yield stuck.setdefault(event.conversation, rng.choice(self.models))


FLAVOURS = (
    Flavour(name="claude", target=SONNET_45, models=(SONNET_45,), usual=True),
    Flavour(name="claude 5m only", target=SONNET_37, models=(SONNET_37,)),
    Flavour(name="nova", target=NOVA_PRO, models=(NOVA_PRO,), usual=True),
    Flavour(name="router, sticky", target=_CUSTOM, models=(SONNET_45, SONNET_46), usual=True),
    Flavour(name="router, random", target=_CUSTOM, models=(SONNET_45, SONNET_46), choice="random", usual=True),
    Flavour(name="router, 9 of 10", target=_CUSTOM, models=(SONNET_45, SONNET_46), choice="skewed"),
    Flavour(name="router, alternating", target=_CUSTOM, models=(SONNET_45, SONNET_46), choice="alternating"),
    Flavour(name="router, unlike", target=_CUSTOM, models=(HAIKU_45, SONNET_45), choice="random"),
    Flavour(name="nova router, sticky", target=_NOVA_ROUTER, models=(NOVA_LITE, NOVA_PRO)),
    Flavour(name="nova router, random", target=_NOVA_ROUTER, models=(NOVA_LITE, NOVA_PRO), choice="random"),
)
