"""What the demo does, as data: sections of steps, each one prompt on one kind of target."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

from bedrock_routing_integrations.models.candidates import base_model_of_id
from bedrock_routing_integrations.models.families import model_facts

from .errors import explain, is_hopeless


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


# --- Where the demo runs ---

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.emulator import BedrockEmulator

    Finder = Callable[[Any], Offer | None]


# The newest user guide (autumn 2026) lists Nova and Llama routers only; the Claude router of the launch routes between
# models at or near their end of life.
_PREFERRED = ("amazon.nova", "meta.llama", "anthropic.claude")
_LAUNCH_ROUTER = "anthropic.claude:1"
_FASTEST_FIRST = ("nova-pro", "claude-3-5-haiku", "llama")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where steps run.

    Attributes:
        title: What it is, in words.
        offers: The targets that it has.
        lacking: Why it has no target of a kind.
        arguments: How it is reached: arguments that the classes of both frameworks take.
    """

    title: str
    offers: Mapping[Wanted, Offer]
    lacking: Mapping[Wanted, str]
    arguments: Mapping[str, Any]


@contextlib.contextmanager
def emulator(region: str | None) -> Iterator[Place]:
    """An emulator of its own, with a custom router and an application profile. Nothing leaves this machine.

    Raises:
        typer.BadParameter: What is given for the Region is none.
    """
    from bedrock_routing_integrations.emulator import BedrockEmulator

    try:
        emulated = BedrockEmulator(region=region or "us-east-1", time_scale=0)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--region") from error
    with emulated as bedrock:
        bedrock.create_prompt_router(
            name="demo-router",
            models=["amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"],
            fallback="amazon.nova-pro-v1:0",
        )
        bedrock.create_application_profile(
            name="demo-team", copy_from="anthropic.claude-haiku-4-5-20251001-v1:0", tags={"team": "demo"}
        )
        clients = {
            "client": isolated_client(bedrock, "bedrock-runtime"),
            "bedrock_client": isolated_client(bedrock, "bedrock"),
        }
        offers, lacking = _survey(clients["bedrock_client"])
        launch = bedrock.default_router(_LAUNCH_ROUTER)
        offers[Wanted.LAUNCH_ROUTER] = Offer(kind=Wanted.LAUNCH_ROUTER.value, name=_LAUNCH_ROUTER, model_id=launch)
        try:
            yield Place(
                title=f"Amazon Bedrock, emulated on this machine ({bedrock.region})",
                offers=offers,
                lacking=lacking,
                arguments=clients,
            )
        finally:
            for client in clients.values():
                client.close()


def isolated_client(bedrock: BedrockEmulator, service: str) -> Any:
    """A client in which nothing of the user's has a part: no key, no profile, no endpoint, no proxy."""
    import boto3
    from botocore.config import Config
    from botocore.session import Session

    # (configuration key, environment variable, default, conversion): AWS_PROFILE can name what does not exist.
    no_profile = {"profile": (None, None, None, None)}
    return boto3.Session(
        aws_access_key_id="emulated",
        aws_secret_access_key="emulated",  # noqa: S106 - means nothing
        region_name=bedrock.region,
        botocore_session=Session(session_vars=no_profile),
    ).client(
        service,
        endpoint_url=bedrock.endpoint_url,
        # Else boto3 would send the user's AWS_BEARER_TOKEN_BEDROCK, and go through HTTP_PROXY.
        config=Config(auth_scheme_preference="sigv4", proxies={}),
    )


@contextlib.contextmanager
def aws_account(region: str | None) -> Iterator[Place]:
    """The account that boto3 finds. Only what exists there is used; nothing is made.

    Raises:
        MissingRegionError: No Region is known.
        botocore.exceptions.BotoCoreError: No credentials, or nobody to talk to.
        botocore.exceptions.ClientError: Credentials that AWS does not accept.
    """
    from bedrock_routing_integrations.connections import Connection

    connection = Connection(region_name=region)
    found_region = connection.region_for()
    bedrock = connection.client("bedrock")
    offers, lacking = _survey(bedrock)
    yield Place(
        title=f"Amazon Bedrock in {found_region} ({bedrock.meta.endpoint_url})",
        offers=offers,
        lacking=lacking,
        arguments={"region_name": found_region},
    )


def _survey(bedrock: Any) -> tuple[dict[Wanted, Offer], dict[Wanted, str]]:
    """What an account has of each kind, and why not where it has nothing."""
    from botocore.exceptions import ClientError

    finders: dict[Wanted, Finder] = {
        Wanted.DEFAULT_ROUTER: _default_router,
        Wanted.CUSTOM_ROUTER: _custom_router,
        Wanted.APPLICATION_PROFILE: _application_profile,
        Wanted.LATENCY_OPTIMIZED: _fast_profile,
    }
    offers: dict[Wanted, Offer] = {}
    lacking: dict[Wanted, str] = {}
    for wanted, find in finders.items():
        try:
            found = find(bedrock)
        except ClientError as error:
            if is_hopeless(error):
                raise
            lacking[wanted] = explain(error) or str(error)
            continue
        if found is None:
            lacking[wanted] = f"there is none in {bedrock.meta.region_name}, and the demo makes none."
        else:
            offers[wanted] = found
    return offers, lacking


def _listed(client: Any, operation: str, member: str, **arguments: str) -> list[dict[str, Any]]:
    pages = client.get_paginator(operation).paginate(**arguments)
    return [summary for page in pages for summary in page[member]]


def _default_router(client: Any) -> Offer | None:
    arns = [
        r["promptRouterArn"] for r in _listed(client, "list_prompt_routers", "promptRouterSummaries", type="default")
    ]
    named = {arn.rpartition("/")[2]: arn for arn in arns}
    name = min(named, key=lambda each: _rank(each, _PREFERRED), default=None)
    return None if name is None else Offer(kind="default router", name=name, model_id=named[name])


def _custom_router(client: Any) -> Offer | None:
    found = _listed(client, "list_prompt_routers", "promptRouterSummaries", type="custom")
    if not found:
        return None
    return Offer(kind="custom router", name=found[0]["promptRouterName"], model_id=found[0]["promptRouterArn"])


def _application_profile(client: Any) -> Offer | None:
    for profile in _profiles(client, "APPLICATION"):
        # A profile can also stand before a model that makes images.
        if model_facts(_first_model(profile)).known:
            name, arn = profile["inferenceProfileName"], profile["inferenceProfileArn"]
            return Offer(kind="application profile", name=name, model_id=arn)
    return None


def _fast_profile(client: Any) -> Offer | None:
    profiles = _profiles(client, "SYSTEM_DEFINED")
    fast = [p["inferenceProfileId"] for p in profiles if model_facts(_first_model(p)).latency_optimized]
    profile_id = min(fast, key=lambda each: _rank(each, _FASTEST_FIRST), default=None)
    return None if profile_id is None else Offer(kind="system profile", name=profile_id, model_id=profile_id)


def _profiles(client: Any, kind: str) -> list[dict[str, Any]]:
    return _listed(client, "list_inference_profiles", "inferenceProfileSummaries", typeEquals=kind)


def _first_model(profile: Mapping[str, Any]) -> str:
    """The base model behind a profile; empty where its id does not say it."""
    arns = [model.get("modelArn", "") for model in profile.get("models", ())]
    return (base_model_of_id(arns[0]) if arns else None) or ""


def _rank(name: str, preferred: Sequence[str]) -> int:
    """The place of a name in an order of preference."""
    return next((place for place, part in enumerate(preferred) if part in name), len(preferred))
