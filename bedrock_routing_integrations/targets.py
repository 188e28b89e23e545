"""Parse a model string: id or ARN → `Target`. Pure: no network, no boto3.

The forms are those of ``ConversationalModelId`` in botocore's ``bedrock-runtime`` service model (1.44) and of the
Bedrock user guide (autumn 2026). If the two disagree on detail (length and alphabet of opaque ids) the parser accepts
both: Bedrock refuses a wrong id with a clearer message than a pattern could.
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.model_ids import GEOGRAPHIES, did_you_mean


class TargetKind(str, Enum):
    """The kinds of ``modelId`` that Converse accepts."""

    FOUNDATION_MODEL = "foundation_model"
    SYSTEM_INFERENCE_PROFILE = "system_inference_profile"
    APPLICATION_INFERENCE_PROFILE = "application_inference_profile"
    DEFAULT_PROMPT_ROUTER = "default_prompt_router"
    CUSTOM_PROMPT_ROUTER = "custom_prompt_router"
    PROMPT = "prompt"
    PROVISIONED_THROUGHPUT = "provisioned_throughput"
    CUSTOM_MODEL_DEPLOYMENT = "custom_model_deployment"
    CUSTOM_MODEL = "custom_model"
    IMPORTED_MODEL = "imported_model"
    SAGEMAKER_ENDPOINT = "sagemaker_endpoint"

    def __str__(self) -> str:
        return self.value

    @property
    def is_router(self) -> bool:
        """Whether Bedrock chooses the model per request."""
        return self in (TargetKind.DEFAULT_PROMPT_ROUTER, TargetKind.CUSTOM_PROMPT_ROUTER)


@dataclass(frozen=True)
class Target:
    """A parsed model string.

    Attributes:
        kind: Its kind.
        partition: ``"aws"``, ``"aws-us-gov"``, ``"aws-cn"`` …; None for a bare id.
        region: The ARN's Region; None for a bare id and for a Region-less model ARN.
        account: The ARN's twelve-digit account; None if the ARN has none.
        resource_id: The part that names the resource, such as ``anthropic.claude:1`` of a default router.
        text: The string that was parsed.
    """

    kind: TargetKind
    partition: str | None
    region: str | None
    account: str | None
    resource_id: str
    text: str

    @functools.cached_property
    def model_id(self) -> str:
        """The ``modelId`` to send: the text without surrounding white space and percent-encoding."""
        return _normalise(self.text)

    @property
    def version(self) -> str | None:
        """The version in a managed prompt's ARN; None if it names none."""
        if self.kind is not TargetKind.PROMPT:
            return None
        return self.resource_id.partition(":")[2] or None

    def __str__(self) -> str:
        return self.model_id


# The first part of a foundation-model id. It distinguishes `us.anthropic.…` (a profile) from `deepseek.v3.2` (a model
# with a dot in its name) without a list of all geographies. Seen 2026-11 in the user guide.
PROVIDERS = frozenset([
    "ai21", "amazon", "anthropic", "arcee", "cohere", "deepseek", "google", "luma", "meta", "minimax", "mistral",
    "moonshot", "moonshotai", "nvidia", "openai", "perplexity", "qwen", "stability", "twelvelabs", "upstage", "writer",
    "xai", "zai",
])  # fmt: skip
# A geography that is not listed is recognised by the provider that follows, or by this form.
_COUNTRY = re.compile(r"[a-z]{2}(-[a-z]+)?")

_KINDS_BY_RESOURCE = {
    "foundation-model": TargetKind.FOUNDATION_MODEL,
    "inference-profile": TargetKind.SYSTEM_INFERENCE_PROFILE,
    "application-inference-profile": TargetKind.APPLICATION_INFERENCE_PROFILE,
    "default-prompt-router": TargetKind.DEFAULT_PROMPT_ROUTER,
    "prompt-router": TargetKind.CUSTOM_PROMPT_ROUTER,
    "prompt": TargetKind.PROMPT,
    "provisioned-model": TargetKind.PROVISIONED_THROUGHPUT,
    "custom-model-deployment": TargetKind.CUSTOM_MODEL_DEPLOYMENT,
    "custom-model": TargetKind.CUSTOM_MODEL,
    "imported-model": TargetKind.IMPORTED_MODEL,
}

ACCEPTED = """\
  a foundation model            anthropic.claude-3-haiku-20240307-v1:0  or  arn:aws:bedrock:REGION::foundation-model/ID
  a system inference profile    us.anthropic.claude-3-haiku-20240307-v1:0  or
                                arn:aws:bedrock:REGION:ACCOUNT:inference-profile/ID
  an application profile        arn:aws:bedrock:REGION:ACCOUNT:application-inference-profile/ID
  a default prompt router       arn:aws:bedrock:REGION:ACCOUNT:default-prompt-router/ID
  a custom prompt router        arn:aws:bedrock:REGION:ACCOUNT:prompt-router/ID
  a managed prompt              arn:aws:bedrock:REGION:ACCOUNT:prompt/ID[:VERSION]
  provisioned throughput        arn:aws:bedrock:REGION:ACCOUNT:provisioned-model/ID
  a custom model deployment     arn:aws:bedrock:REGION:ACCOUNT:custom-model-deployment/ID
  a custom model                arn:aws:bedrock:REGION:ACCOUNT:custom-model/BASE/ID
  an imported model             arn:aws:bedrock:REGION:ACCOUNT:imported-model/ID
  a SageMaker endpoint          arn:aws:sagemaker:REGION:ACCOUNT:endpoint/NAME"""

_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?P<service>[a-z0-9-]+)"
    r":(?P<region>[a-z0-9-]*):(?P<account>[0-9]{12}|):(?P<resource>.+)"
)
_ID = re.compile(r"[A-Za-z0-9_.:/-]+")
_BARE_ID = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9_-]+)+(?::[A-Za-z0-9_.-]+)*")
# Foundation models belong to no account. A system profile's ARN has the caller's account, but some consoles omit it.
_ACCOUNTLESS = (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE)


def _normalise(text: str) -> str:
    text = text.strip()
    # boto3 percent-encodes ids. An id that was copied from a URL must not be encoded twice.
    return unquote(text) if "%" in text else text


def _refuse(text: object, why: str) -> InvalidTargetError:
    shown = repr(text)
    shown = shown if len(shown) <= 200 else f"{shown[:200]}…"  # it may be a prompt
    return InvalidTargetError(f"{shown} is not a Bedrock model target: {why}. Accepted are:\n{ACCEPTED}")


def parse_target(text: str) -> Target:
    """Return the target that a model string names.

    Args:
        text: Any form of ``modelId`` that Converse accepts: a bare id or an ARN, raw or percent-encoded. Surrounding
            white space is ignored.

    Returns:
        The `Target`; equal texts give the same object.

    Raises:
        InvalidTargetError: The text is not a valid target. The message lists the accepted forms and, for a misspelled
            id, the nearest one.
    """
    if not isinstance(text, str):
        raise _refuse(text, f"expected a string, got {type(text).__name__}")
    return _parse(text)


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> Target:
    normal = _normalise(text)
    if not normal:
        raise _refuse(text, "it is empty")
    if normal.lower().startswith("arn:"):
        return _parse_arn(text, normal)
    return _parse_bare_id(text, normal)


def split_geography(model: str) -> tuple[str | None, str]:
    """Split off the geography: ``"us.amazon.x"`` → ``("us", "amazon.x")``, ``"amazon.x"`` → ``(None, "amazon.x")``."""
    head, _, rest = model.partition(".")
    provider = rest.partition(".")[0]
    known = head in GEOGRAPHIES or provider in PROVIDERS or _COUNTRY.fullmatch(head)
    if "." in rest and head not in PROVIDERS and known:
        return head, rest
    return None, model


def _parse_bare_id(text: str, normal: str) -> Target:
    if not _BARE_ID.fullmatch(normal):
        raise _refuse(text, _bare_id_advice(normal))
    geography, _ = split_geography(normal)
    kind = TargetKind.SYSTEM_INFERENCE_PROFILE if geography else TargetKind.FOUNDATION_MODEL
    return Target(kind, None, None, None, normal, text)


def _bare_id_advice(normal: str) -> str:
    """Return what is wrong with an id, and the id to use instead if one is near."""
    meant = did_you_mean(normal)
    if re.search(r"\s", normal):
        return f"it contains white space; {meant}" if meant else "it contains white space"
    if meant:
        return meant
    if re.fullmatch(r"[a-z0-9]{10,12}", normal):
        return "an opaque id is ambiguous without its ARN; pass the whole ARN"
    return "a model id has the form provider.model"


def _parse_arn(text: str, normal: str) -> Target:
    match = _ARN.fullmatch(normal)
    if match is None:
        raise _refuse(text, _arn_advice(normal))
    partition, service, region, account, resource = match.groups()
    if service == "sagemaker":
        return _sagemaker_target(text, match)
    if service != "bedrock":
        raise _refuse(text, f"the service {service!r} should be 'bedrock'")
    resource_type, _, resource_id = resource.partition("/")
    kind = _KINDS_BY_RESOURCE.get(resource_type)
    if kind is None:
        raise _refuse(text, _resource_advice(resource_type))
    if not _ID.fullmatch(resource_id):
        raise _refuse(text, f"{resource_id!r} is not the id of a {resource_type}")
    if not account and kind not in _ACCOUNTLESS:
        raise _refuse(text, f"a {resource_type} ARN needs the twelve-digit account id")
    if not region and kind is not TargetKind.FOUNDATION_MODEL:
        raise _refuse(text, f"a {resource_type} ARN needs a Region")
    return Target(kind, partition, region or None, account or None, resource_id, text)


def _sagemaker_target(text: str, match: re.Match[str]) -> Target:
    partition, _, region, account, resource = match.groups()
    resource_type, _, name = resource.partition("/")
    if resource_type != "endpoint" or not _ID.fullmatch(name) or not account or not region:
        raise _refuse(text, "of SageMaker only endpoint ARNs are taken")
    return Target(TargetKind.SAGEMAKER_ENDPOINT, partition, region, account, name, text)


def _resource_advice(resource_type: str) -> str:
    near = difflib.get_close_matches(resource_type.lower(), _KINDS_BY_RESOURCE, n=1, cutoff=0.6)
    if near:
        return f"there is no resource type {resource_type!r}; did you mean '{near[0]}'"
    return f"there is no resource type {resource_type!r}"


def _arn_advice(normal: str) -> str:
    parts = normal.split(":", 5)
    if len(parts) < 6:
        return "an ARN has six parts, arn:PARTITION:bedrock:REGION:ACCOUNT:RESOURCE"
    if parts[0] != "arn" or not re.fullmatch(r"aws[a-z-]*", parts[1]):
        return f"{parts[0]}:{parts[1]} should be 'arn:aws' (or another partition such as 'arn:aws-us-gov')"
    if parts[4] and not re.fullmatch(r"[0-9]{12}", parts[4]):
        return f"the account {parts[4]!r} should be twelve digits"
    if not parts[5]:
        return "the resource after the account is missing"
    return f"the Region {parts[3]!r} or the service {parts[2]!r} is malformed"
