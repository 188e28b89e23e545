"""Define the steps of the demo, and find the targets that they run on: on an emulator or in an AWS account."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

from bedrock_routing_integrations.models.candidates import base_model_of_id
from bedrock_routing_integrations.models.families import model_facts

from .errors import explain, is_hopeless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.emulator import BedrockEmulator

    Finder = Callable[[Any], "TargetFound | None"]


class DemoTarget(str, Enum):
    """The kinds of targets that steps run on."""

    DEFAULT_ROUTER = "default router"
    CUSTOM_ROUTER = "custom router"
    APPLICATION_PROFILE = "application profile"
    LATENCY_OPTIMIZED = "system profile"
    LAUNCH_ROUTER = "launch router"


class Framework(str, Enum):
    """The frameworks of the demo."""

    LANGCHAIN = "LangChain"
    LLAMA_INDEX = "LlamaIndex"


class Mode(str, Enum):
    """The way to send a prompt."""

    INVOKE = "invoke"
    STREAM = "stream"
    QUERY = "query"


@dataclass(frozen=True, kw_only=True)
class TargetFound:
    """A target that exists.

    Attributes:
        kind: Its kind in words.
        name: Its short name.
        model_id: Its id or ARN.
    """

    kind: str
    name: str
    model_id: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One prompt of the demo.

    Attributes:
        on: The kind of target.
        prompt: The prompt.
        mode: The way to send it.
        latency: The ``performanceConfig.latency`` to request.
    """

    on: DemoTarget
    prompt: str
    mode: Mode = Mode.INVOKE
    latency: str | None = None


# AWS's prompts at the launch of prompt routing: the large model answered the first, the small one the second.
_LARGE = "Alice has N brothers and she also has M sisters. How many sisters does Alice's brothers have?"
_SMALL = "Describe the purpose of a 'hello world' program in one line."

_ROUTING = (
    Step(on=DemoTarget.DEFAULT_ROUTER, prompt=_LARGE),
    Step(on=DemoTarget.DEFAULT_ROUTER, prompt=_SMALL),
    Step(
        on=DemoTarget.CUSTOM_ROUTER, prompt="Compare a queue and a stack, and explain why one is fairer than the other."
    ),
    Step(on=DemoTarget.APPLICATION_PROFILE, prompt="What is an inference profile?"),
    Step(on=DemoTarget.DEFAULT_ROUTER, prompt="Translate 'good morning' into French.", mode=Mode.STREAM),
    Step(on=DemoTarget.LATENCY_OPTIMIZED, prompt="Name three uses of a fast answer.", latency="optimized"),
    # The router of that launch. Its models are at or near their end of life, so an account may not have it.
    Step(on=DemoTarget.LAUNCH_ROUTER, prompt=_LARGE),
    Step(on=DemoTarget.LAUNCH_ROUTER, prompt=_SMALL),
)

_ENGINES = (
    Step(on=DemoTarget.DEFAULT_ROUTER, prompt="What is 17 * 23, step by step?"),
    Step(on=DemoTarget.CUSTOM_ROUTER, prompt="Say good morning.", mode=Mode.STREAM),
    Step(on=DemoTarget.DEFAULT_ROUTER, prompt="What does a prompt router predict?", mode=Mode.QUERY),
)

STEPS = {Framework.LANGCHAIN: _ROUTING, Framework.LLAMA_INDEX: _ENGINES}


# The newest user guide (autumn 2026) lists Nova and Llama routers only; the Claude router of the launch routes between
# models at or near their end of life.
_PREFERRED = ("amazon.nova", "meta.llama", "anthropic.claude")
_LAUNCH_ROUTER = "anthropic.claude:1"
_FASTEST_FIRST = ("nova-pro", "claude-3-5-haiku", "llama")


@dataclass(frozen=True, kw_only=True)
class DemoBedrock:
    """The Bedrock that the demo runs on: an emulator or an AWS account.

    Attributes:
        title: The line that describes it.
        targets: The targets that were found, by kind.
        missing: The kinds without a target, with the reason.
        arguments: The connection arguments, which the classes of both frameworks take.
    """

    title: str
    targets: Mapping[DemoTarget, TargetFound]
    missing: Mapping[DemoTarget, str]
    arguments: Mapping[str, Any]


@contextlib.contextmanager
def emulator(region: str | None) -> Iterator[DemoBedrock]:
    """Start an emulator with a custom router and an application profile. No request leaves this machine.

    Args:
        region: The Region to emulate; None for us-east-1.

    Raises:
        typer.BadParameter: The Region is not valid.
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
        targets, missing = _survey(clients["bedrock_client"])
        launch = bedrock.default_router(_LAUNCH_ROUTER)
        targets[DemoTarget.LAUNCH_ROUTER] = TargetFound(
            kind=DemoTarget.LAUNCH_ROUTER.value, name=_LAUNCH_ROUTER, model_id=launch
        )
        try:
            yield DemoBedrock(
                title=f"Amazon Bedrock, emulated on this machine ({bedrock.region}); models and times are simulated",
                targets=targets,
                missing=missing,
                arguments=clients,
            )
        finally:
            for client in clients.values():
                client.close()


def isolated_client(bedrock: BedrockEmulator, service: str) -> Any:
    """Return a client that uses no key, profile, endpoint or proxy of the user.

    Args:
        bedrock: The emulator.
        service: boto3's name of the service, such as ``"bedrock-runtime"``.
    """
    import boto3
    from botocore.config import Config
    from botocore.session import Session

    # (configuration key, environment variable, default, conversion): AWS_PROFILE may name a missing profile.
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
def aws_account(region: str | None) -> Iterator[DemoBedrock]:
    """Use the account that boto3 finds. Only existing targets are used, and nothing is created.

    Args:
        region: The Region; None for the one that boto3 finds.

    Raises:
        MissingRegionError: No Region is known.
        botocore.exceptions.BotoCoreError: There are no credentials, or the endpoint cannot be reached.
        botocore.exceptions.ClientError: AWS does not accept the credentials.
    """
    from bedrock_routing_integrations.connections import Connection

    connection = Connection(region_name=region)
    used_region = connection.region_for()
    bedrock = connection.client("bedrock")
    targets, missing = _survey(bedrock)
    yield DemoBedrock(
        title=f"Amazon Bedrock in {used_region} ({bedrock.meta.endpoint_url})",
        targets=targets,
        missing=missing,
        arguments={"region_name": used_region},
    )


def _survey(bedrock: Any) -> tuple[dict[DemoTarget, TargetFound], dict[DemoTarget, str]]:
    """Return one target of each kind that an account has, and the reasons for the kinds without one."""
    from botocore.exceptions import ClientError

    finders: dict[DemoTarget, Finder] = {
        DemoTarget.DEFAULT_ROUTER: _default_router,
        DemoTarget.CUSTOM_ROUTER: _custom_router,
        DemoTarget.APPLICATION_PROFILE: _application_profile,
        DemoTarget.LATENCY_OPTIMIZED: _fast_profile,
    }
    targets: dict[DemoTarget, TargetFound] = {}
    missing: dict[DemoTarget, str] = {}
    for kind, find in finders.items():
        try:
            target = find(bedrock)
        except ClientError as error:
            if is_hopeless(error):
                raise
            missing[kind] = explain(error) or str(error)
            continue
        if target is None:
            missing[kind] = f"there is none in {bedrock.meta.region_name}, and the demo creates none."
        else:
            targets[kind] = target
    return targets, missing


def _listed(client: Any, operation: str, member: str, **arguments: str) -> list[dict[str, Any]]:
    pages = client.get_paginator(operation).paginate(**arguments)
    return [summary for page in pages for summary in page[member]]


def _default_router(client: Any) -> TargetFound | None:
    arns = [
        r["promptRouterArn"] for r in _listed(client, "list_prompt_routers", "promptRouterSummaries", type="default")
    ]
    named = {arn.rpartition("/")[2]: arn for arn in arns}
    name = min(named, key=lambda each: _rank(each, _PREFERRED), default=None)
    return None if name is None else TargetFound(kind="default router", name=name, model_id=named[name])


def _custom_router(client: Any) -> TargetFound | None:
    routers = _listed(client, "list_prompt_routers", "promptRouterSummaries", type="custom")
    if not routers:
        return None
    name, arn = routers[0]["promptRouterName"], routers[0]["promptRouterArn"]
    return TargetFound(kind="custom router", name=name, model_id=arn)


def _application_profile(client: Any) -> TargetFound | None:
    for profile in _profiles(client, "APPLICATION"):
        # Skip profiles of models that are not chat models.
        if model_facts(_first_model(profile)).known:
            name, arn = profile["inferenceProfileName"], profile["inferenceProfileArn"]
            return TargetFound(kind="application profile", name=name, model_id=arn)
    return None


def _fast_profile(client: Any) -> TargetFound | None:
    profiles = _profiles(client, "SYSTEM_DEFINED")
    fast = [p["inferenceProfileId"] for p in profiles if model_facts(_first_model(p)).latency_optimized]
    profile_id = min(fast, key=lambda each: _rank(each, _FASTEST_FIRST), default=None)
    return None if profile_id is None else TargetFound(kind="system profile", name=profile_id, model_id=profile_id)


def _profiles(client: Any, kind: str) -> list[dict[str, Any]]:
    return _listed(client, "list_inference_profiles", "inferenceProfileSummaries", typeEquals=kind)


def _first_model(profile: Mapping[str, Any]) -> str:
    """Return the base model of a profile; an empty string if its ARN does not name one."""
    arns = [model.get("modelArn", "") for model in profile.get("models", ())]
    return (base_model_of_id(arns[0]) if arns else None) or ""


def _rank(name: str, preferred: Sequence[str]) -> int:
    """Return the position of a name in an order of preference."""
    return next((position for position, part in enumerate(preferred) if part in name), len(preferred))
