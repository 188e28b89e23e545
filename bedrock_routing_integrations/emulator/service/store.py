"""Store the resources of the emulated account: routers, profiles, models, prompts.

A resource is found by kind and id, in any Region: one emulator answers for every Region. The account in an ARN must be
the resource's. Ids are derived from names, so a test gets the same ARNs in every run.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .models import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .models import EmulatedModel


# --- ARNs ---


class Arn(NamedTuple):
    """The parts of `arn:partition:service:region:account:kind/resource`."""

    partition: str
    service: str
    region: str
    account: str
    kind: str
    resource: str


def read_arn(text: str) -> Arn | None:
    """Return the parts of an ARN, or None if `text` is not an ARN."""
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        return None
    kind, _, resource = parts[5].partition("/")
    return Arn(parts[1], parts[2], parts[3], parts[4], kind, resource)


def partition_of(region: str) -> str:
    """Return the partition of a Region."""
    for start, partition in (("us-gov-", "aws-us-gov"), ("cn-", "aws-cn")):
        if region.startswith(start):
            return partition
    return "aws"


def bedrock_arn(region: str, account: str, kind: str, resource: str) -> str:
    """Return a Bedrock ARN.

    Args:
        region: The Region, or "" for an ARN without a Region.
        account: The account, or "" for a foundation model.
        kind: The resource type, e.g. "prompt-router".
        resource: The resource's id.
    """
    return f"arn:{partition_of(region or 'us-east-1')}:bedrock:{region}:{account}:{kind}/{resource}"


# --- Regions, geographies and system inference profiles ---

_REGIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "us-gov": ("us-gov-west-1", "us-gov-east-1"),
        "us": ("us-east-1", "us-east-2", "us-west-2"),
        "eu": ("eu-central-1", "eu-west-1", "eu-west-3"),
        "jp": ("ap-northeast-1", "ap-northeast-3"),
        "au": ("ap-southeast-2", "ap-southeast-4"),
        "apac": ("ap-northeast-1", "ap-southeast-1", "ap-southeast-2", "ap-south-1"),
        "ca": ("ca-central-1", "ca-west-1"),
    }
)
_STARTS = (("us-gov-", "us-gov"), ("us-", "us"), ("eu-", "eu"), ("ap-", "apac"), ("ca-", "ca"), ("sa-", "us"))


@dataclass(frozen=True, kw_only=True)
class SystemProfile:
    """A system inference profile, e.g. `us.amazon.nova-lite-v1:0`, as seen from a Region.

    Attributes:
        prefix: The geography, e.g. "us".
        model: The profile's model.
        region: The Region of the ARN.
        account: The account of the ARN.
    """

    prefix: str
    model: EmulatedModel
    region: str
    account: str

    @property
    def profile_id(self) -> str:
        """The profile's id: geography and model id."""
        return f"{self.prefix}.{self.model.model_id}"

    @property
    def arn(self) -> str:
        """The profile's ARN in its Region."""
        return bedrock_arn(self.region, self.account, "inference-profile", self.profile_id)

    @property
    def name(self) -> str:
        """The profile's name, in the characters that the service model's pattern allows."""
        words = "".join(letter if letter.isalnum() else " " for letter in self.model.name).split()
        return " ".join([self.prefix.upper(), self.model.provider, *words])[:64].strip()

    @property
    def model_arns(self) -> tuple[str, ...]:
        """The model's ARN in each destination Region.

        A global profile has the ARN in its own Region and an ARN without a Region.
        """
        regions = (self.region, "") if self.prefix == "global" else _REGIONS[self.prefix]
        return tuple(foundation_model_arn(self.model.model_id, region) for region in regions)


def foundation_model_arn(model_id: str, region: str) -> str:
    """Return the ARN of a foundation model. The ARN has no account.

    Args:
        model_id: The foundation model's id.
        region: The Region, or "" for an ARN without a Region.
    """
    return bedrock_arn(region, "", "foundation-model", model_id)


def system_profile(profile_id: str, region: str, account: str) -> SystemProfile | None:
    """Return the system profile of an id as seen from a Region, or None.

    Profiles of every geography are found in every Region, because one emulator serves every Region.

    Args:
        profile_id: The id, e.g. "us.amazon.nova-lite-v1:0".
        region: The Region of the profile's ARN.
        account: The account of the profile's ARN.
    """
    prefix, _, model_id = profile_id.partition(".")
    model = MODELS.get(model_id)
    if model is None or prefix not in model.profiles:
        return None
    return SystemProfile(prefix=prefix, model=model, region=region, account=account)


def _prefixes(region: str) -> list[str]:
    """Return the geographies that serve a Region, the narrowest first."""
    narrow = [name for name in ("jp", "au") if region in _REGIONS[name]]
    return [*narrow, *[name for start, name in _STARTS if region.startswith(start)][:1], "global"]


def best_prefix(model: EmulatedModel, region: str) -> str | None:
    """Return the geography of the profile that callers in a Region use for a model.

    Args:
        model: The model.
        region: The callers' Region.

    Returns:
        The narrowest geography with a profile of the model, or another geography with a profile if none serves the
        Region. None for a model without profiles.
    """
    return next((name for name in (*_prefixes(region), *model.profiles) if name in model.profiles), None)


def profiles_of_region(region: str, account: str) -> Iterator[SystemProfile]:
    """Yield the system profiles that ListInferenceProfiles lists in a Region.

    Args:
        region: The Region.
        account: The account of the profiles' ARNs.
    """
    for model in MODELS.values():
        for prefix in _prefixes(region):
            if prefix in model.profiles:
                yield SystemProfile(prefix=prefix, model=model, region=region, account=account)


# --- Resources ---

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_LAUNCH = datetime(2024, 11, 20, tzinfo=timezone.utc)


def now() -> datetime:
    """Return the current time in UTC, as the time of creation of a new resource."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource with an ARN.

    Attributes:
        arn: The resource's ARN.
        name: The resource's name.
        created: The time of creation.
        tags: The tags set at creation.
    """

    arn: str
    name: str
    created: datetime = field(default_factory=now)
    tags: tuple[Mapping[str, str], ...] = ()

    @property
    def resource_id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rpartition("/")[2]

    @property
    def region(self) -> str:
        """The Region in the ARN."""
        return self.arn.split(":")[3]

    @property
    def account(self) -> str:
        """The account in the ARN."""
        return self.arn.split(":")[4]


@dataclass(frozen=True, kw_only=True)
class PromptRouter(Resource):
    """A prompt router.

    Attributes:
        models: The targets of the candidate models.
        fallback: The target of the fallback model.
        difference: `responseQualityDifference` as Bedrock reports the value: percent, or a fraction for default
            routers.
        type: "default" or "custom".
        description: The description, if any.
    """

    models: tuple[str, ...]
    fallback: str
    difference: float
    type: str
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class ApplicationProfile(Resource):
    """An application inference profile.

    Attributes:
        copy_from: The model or system profile that the profile copies.
        models: The ARNs of the profile's models.
        description: The description, if any.
    """

    copy_from: str
    models: tuple[str, ...]
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class CustomModel(Resource):
    """A customized foundation model."""

    base_model_id: str


@dataclass(frozen=True, kw_only=True)
class ProvisionedModel(Resource):
    """Provisioned throughput for a foundation or custom model."""

    model_arn: str
    base_model_id: str


@dataclass(frozen=True, kw_only=True)
class Deployment(Resource):
    """An on-demand deployment of a custom model."""

    model_arn: str
    base_model_id: str


@dataclass(frozen=True, kw_only=True)
class ImportedModel(Resource):
    """An imported model. The canned model of `base_model_id` answers for the imported model."""

    architecture: str
    base_model_id: str


@dataclass(frozen=True, kw_only=True)
class SageMakerEndpoint(Resource):
    """A SageMaker endpoint with a marketplace model. The canned model of `base_model_id` answers for the endpoint."""

    base_model_id: str


@dataclass(frozen=True, kw_only=True)
class PromptVersion:
    """A version of a managed prompt.

    Attributes:
        version: "DRAFT", or the version's number.
        text: The template, with variables as `{{name}}`.
        model_id: The target that the prompt runs on.
        inference: The inference configuration.
    """

    version: str
    text: str
    model_id: str
    inference: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ManagedPrompt(Resource):
    """A prompt of Prompt management.

    Attributes:
        versions: The versions by name ("DRAFT", "1", …).
        description: The description, if any.
    """

    versions: Mapping[str, PromptVersion]
    description: str | None = None


# The default routers at the launch: name, small model, large model (the fallback), reported difference.
_DEFAULT_ROUTERS = MappingProxyType(
    {
        "anthropic.claude:1": (
            "Anthropic Prompt Router",
            "anthropic.claude-3-haiku-20240307-v1:0",
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
            0.26,
        ),
        "meta.llama:1": (
            "Meta Prompt Router",
            "meta.llama3-1-8b-instruct-v1:0",
            "meta.llama3-1-70b-instruct-v1:0",
            0.0,
        ),
        "amazon.nova:1": ("Nova Prompt Router", "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0", 0.0),
    }
)

DEFAULT_ROUTER_IDS = tuple(_DEFAULT_ROUTERS)


def default_router(router_id: str, region: str, account: str) -> PromptRouter | None:
    """Return a default router as seen from a Region, or None if `router_id` is unknown.

    Args:
        router_id: The default router's id, e.g. "amazon.nova:1".
        region: The Region of the ARNs.
        account: The account of the ARNs.
    """
    if router_id not in _DEFAULT_ROUTERS:
        return None
    name, small, large, difference = _DEFAULT_ROUTERS[router_id]
    targets = tuple(_profile_arn(model_id, region, account) for model_id in (small, large))
    return PromptRouter(
        arn=bedrock_arn(region, account, "default-prompt-router", router_id),
        name=name,
        created=_LAUNCH,
        models=targets,
        fallback=targets[1],
        difference=difference,
        type="default",
        description=f"Routes requests among models in the {name.split()[0]} family",
    )


def _profile_arn(model_id: str, region: str, account: str) -> str:
    model = MODELS[model_id]
    prefix = best_prefix(model, region)
    if prefix is None:
        return foundation_model_arn(model_id, region)
    return SystemProfile(prefix=prefix, model=model, region=region, account=account).arn


def default_routers(region: str, account: str) -> Iterable[PromptRouter]:
    """Return the default routers as seen from a Region.

    Args:
        region: The Region of the ARNs.
        account: The account of the ARNs.
    """
    found = (default_router(router_id, region, account) for router_id in _DEFAULT_ROUTERS)
    return [router for router in found if router is not None]


_R = TypeVar("_R", bound=Resource)


class Store:
    """Store the resources of an emulator. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_kind: dict[type[Resource], dict[str, Resource]] = {}
        self._made = 0

    def new_id(self, name: str, length: int = 12) -> str:
        """Return a unique id of lower-case letters and digits.

        Args:
            name: The resource's name. The id derives from the name and from the number of ids made before.
            length: The id's length, 12 characters by default.
        """
        with self._lock:
            self._made += 1
            digest = hashlib.sha256(f"{self._made}/{name}".encode()).digest()
        return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:length])

    def add(self, resource: Resource) -> str:
        """Add or replace a resource, and return its ARN."""
        with self._lock:
            self._by_kind.setdefault(type(resource), {})[resource.resource_id] = resource
        return resource.arn

    def get(self, kind: type[_R], identifier: str) -> _R | None:
        """Return the resource with an ARN, id or name, or None. An ARN must name the resource's account.

        Args:
            kind: The class of the resource.
            identifier: The ARN, the id, or the name.
        """
        arn = read_arn(identifier)
        found = self._by_kind.get(kind, {}).get(identifier.rpartition("/")[2])
        if found is not None and arn is not None and arn.account != found.account:
            return None
        if found is None and arn is None:
            found = next((entry for entry in self.all(kind) if entry.name == identifier), None)
        return found if isinstance(found, kind) else None

    def all(self, kind: type[_R]) -> list[_R]:
        """Return every resource of a kind, oldest first."""
        with self._lock:
            return [entry for entry in self._by_kind.get(kind, {}).values() if isinstance(entry, kind)]

    def remove(self, resource: Resource) -> None:
        """Remove a resource."""
        with self._lock:
            self._by_kind.get(type(resource), {}).pop(resource.resource_id, None)
