"""What the demo does, as data: sections of steps, each one prompt on one kind of target."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["SECTIONS", "Framework", "Mode", "Offer", "Section", "Step", "Wanted"]


class Wanted(str, Enum):
    """The kinds of targets that steps run on; each place (the emulator, an account) offers what it has of them."""

    DEFAULT_ROUTER = "default router"
    CUSTOM_ROUTER = "custom router"
    APPLICATION_PROFILE = "application profile"
    LATENCY_OPTIMIZED = "system profile"
    LAUNCH_ROUTER = "launch router"


class Framework(str, Enum):
    """The frameworks, by their names."""

    LANGCHAIN = "LangChain"
    LLAMA_INDEX = "LlamaIndex"


class Mode(str, Enum):
    """How a prompt is sent."""

    INVOKE = "invoke"
    STREAM = "stream"
    QUERY = "query"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A target that exists.

    Attributes:
        kind: What it is, in words.
        name: Its short name.
        model_id: Its id or ARN.
    """

    kind: str
    name: str
    model_id: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row of the demo.

    Attributes:
        on: The kind of target.
        prompt: What is sent.
        mode: How it is sent.
        latency: ``performanceConfig.latency`` to ask for.
    """

    on: Wanted
    prompt: str
    mode: Mode = Mode.INVOKE
    latency: str | None = None


@dataclass(frozen=True)
class Section:
    """A part of the demo, with a table of its own."""

    framework: Framework
    steps: tuple[Step, ...]


# The prompts of the routers' launch: the first went to the large model, the second to the small one.
_LARGE = "Alice has N brothers and she also has M sisters. How many sisters does Alice's brothers have?"
_SMALL = "Describe the purpose of a 'hello world' program in one line."

_ROUTING = (
    Step(on=Wanted.DEFAULT_ROUTER, prompt=_LARGE),
    Step(on=Wanted.DEFAULT_ROUTER, prompt=_SMALL),
    Step(on=Wanted.CUSTOM_ROUTER, prompt="Compare a queue and a stack, and explain why one is fairer than the other."),
    Step(on=Wanted.APPLICATION_PROFILE, prompt="What is an inference profile?"),
    Step(on=Wanted.DEFAULT_ROUTER, prompt="Translate 'good morning' into French.", mode=Mode.STREAM),
    Step(on=Wanted.LATENCY_OPTIMIZED, prompt="Name three uses of a fast answer.", latency="optimized"),
    # As AWS showed it; its models are at or near their end of life, so that only the emulator has it for certain.
    Step(on=Wanted.LAUNCH_ROUTER, prompt=_LARGE),
    Step(on=Wanted.LAUNCH_ROUTER, prompt=_SMALL),
)

_ENGINES = (
    Step(on=Wanted.DEFAULT_ROUTER, prompt="What is 17 * 23, step by step?"),
    Step(on=Wanted.CUSTOM_ROUTER, prompt="Say good morning.", mode=Mode.STREAM),
    Step(on=Wanted.DEFAULT_ROUTER, prompt="What does a prompt router predict?", mode=Mode.QUERY),
)

SECTIONS = (Section(Framework.LANGCHAIN, _ROUTING), Section(Framework.LLAMA_INDEX, _ENGINES))
