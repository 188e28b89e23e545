"""What exists in the emulated account: routers, profiles, models, prompts.

Resources are found by kind and id, whatever the Region of the ARN: one emulator answers for all. The account must be
theirs.
Ids are derived from names, so that a test sees the same ARNs in every run.
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


# --- ARNs as the emulator makes and reads them. ---


class Arn(NamedTuple):
    """The parts of `arn:partition:service:region:account:kind/resource`."""

    partition: str
    service: str
    region: str
    account: str
    kind: str
    resource: str


def read_arn(text: str) -> Arn | None:
    """The parts of an ARN; None when the text is none."""
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        return None
    kind, _, resource = parts[5].partition("/")
    return Arn(parts[1], parts[2], parts[3], parts[4], kind, resource)


def partition_of(region: str) -> str:
    """The partition that a Region is in."""
    for start, partition in (("us-gov-", "aws-us-gov"), ("cn-", "aws-cn")):
        if region.startswith(start):
            return partition
    return "aws"


def bedrock_arn(region: str, account: str, kind: str, resource: str) -> str:
    """A Bedrock ARN; foundation models have no account."""
    return f"arn:{partition_of(region or 'us-east-1')}:bedrock:{region}:{account}:{kind}/{resource}"


# --- Regions, geographies and the system inference profiles that span them. ---

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
    """A profile that the service itself defines, e.g. `us.amazon.nova-lite-v1:0`, seen from one Region."""

    prefix: str
    model: EmulatedModel
    region: str
    account: str

    @property
    def profile_id(self) -> str:
        """The geography and the model."""
        return f"{self.prefix}.{self.model.model_id}"

    @property
    def arn(self) -> str:
        """The profile's ARN in its Region."""
        return bedrock_arn(self.region, self.account, "inference-profile", self.profile_id)

    @property
    def name(self) -> str:
        """A name that the service model's pattern allows."""
        words = "".join(letter if letter.isalnum() else " " for letter in self.model.name).split()
        return " ".join([self.prefix.upper(), self.model.provider, *words])[:64].strip()

    @property
    def model_arns(self) -> tuple[str, ...]:
        """One ARN for each destination; a global profile lists a Region-less one besides its own Region's."""
        regions = (self.region, "") if self.prefix == "global" else _REGIONS[self.prefix]
        return tuple(foundation_model_arn(self.model.model_id, region) for region in regions)


def foundation_model_arn(model_id: str, region: str) -> str:
    """The ARN of a foundation model, which belongs to no account."""
    return bedrock_arn(region, "", "foundation-model", model_id)


def system_profile(profile_id: str, region: str, account: str) -> SystemProfile | None:
    """The system profile of that id in a Region, or None.

    Every geography answers in every Region: the emulator is all of them at once.
    """
    prefix, _, model_id = profile_id.partition(".")
    model = MODELS.get(model_id)
    if model is None or prefix not in model.profiles:
        return None
    return SystemProfile(prefix=prefix, model=model, region=region, account=account)


def _prefixes(region: str) -> list[str]:
    """The geographies that serve a Region, the most particular first."""
    narrow = [name for name in ("jp", "au") if region in _REGIONS[name]]
    return [*narrow, *[name for start, name in _STARTS if region.startswith(start)][:1], "global"]


def best_prefix(model: EmulatedModel, region: str) -> str | None:
    """The geography of the profile that a caller in a Region takes for a model; None without profiles."""
    return next((name for name in (*_prefixes(region), *model.profiles) if name in model.profiles), None)


def profiles_of_region(region: str, account: str) -> Iterator[SystemProfile]:
    """The system profiles that ListInferenceProfiles shows in a Region."""
    for model in MODELS.values():
        for prefix in _prefixes(region):
            if prefix in model.profiles:
                yield SystemProfile(prefix=prefix, model=model, region=region, account=account)


_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_LAUNCH = datetime(2024, 11, 20, tzinfo=timezone.utc)


def now() -> datetime:
    """The time of creation of what is created now."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Anything with an ARN.

    Attributes:
        arn: Its ARN.
        name: Its name.
        created: When it was created.
        tags: The tags given at creation.
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
    """A prompt router; `difference` as the service reports it: percent, a fraction for default routers."""

    models: tuple[str, ...]
    fallback: str
    difference: float
    type: str
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class ApplicationProfile(Resource):
    """An application inference profile over the model or system profile that `copy_from` names."""

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
    """A custom model deployed for on-demand use."""

    model_arn: str
    base_model_id: str


@dataclass(frozen=True, kw_only=True)
class ImportedModel(Resource):
    """A model imported from outside; `base_model_id` says which program plays it."""

    architecture: str
    base_model_id: str


@dataclass(frozen=True, kw_only=True)
class SageMakerEndpoint(Resource):
    """A marketplace model behind a SageMaker endpoint; `base_model_id` says which program plays it."""

    base_model_id: str


@dataclass(frozen=True, kw_only=True)
class PromptVersion:
    """One version of a managed prompt: a template with `{{variables}}` for a model."""

    version: str
    text: str
    model_id: str
    inference: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ManagedPrompt(Resource):
    """A prompt of Prompt management, with its versions by name ("DRAFT", "1", …)."""

    versions: Mapping[str, PromptVersion]
    description: str | None = None


# FACTS of the launch: small model, large model (the fallback), and the difference that they report.
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
    """One of the service's own routers as seen from a Region; None when there is none of that id."""
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
    """The service's own routers as seen from a Region."""
    found = (default_router(router_id, region, account) for router_id in _DEFAULT_ROUTERS)
    return [router for router in found if router is not None]


_R = TypeVar("_R", bound=Resource)


class Store:
    """The resources of one emulator. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_kind: dict[type[Resource], dict[str, Resource]] = {}
        self._made = 0

    def new_id(self, name: str, length: int = 12) -> str:
        """An id of lower-case letters and digits that no other resource has."""
        with self._lock:
            self._made += 1
            digest = hashlib.sha256(f"{self._made}/{name}".encode()).digest()
        return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:length])

    def add(self, resource: Resource) -> str:
        """Keep a resource; returns its ARN."""
        with self._lock:
            self._by_kind.setdefault(type(resource), {})[resource.resource_id] = resource
        return resource.arn

    def get(self, kind: type[_R], identifier: str) -> _R | None:
        """The resource that an ARN, an id or a name means, or None; an ARN of another account means nothing here."""
        arn = read_arn(identifier)
        found = self._by_kind.get(kind, {}).get(identifier.rpartition("/")[2])
        if found is not None and arn is not None and arn.account != found.account:
            return None
        if found is None and arn is None:
            found = next((entry for entry in self.all(kind) if entry.name == identifier), None)
        return found if isinstance(found, kind) else None

    def all(self, kind: type[_R]) -> list[_R]:
        """Every resource of a kind, oldest first."""
        with self._lock:
            return [entry for entry in self._by_kind.get(kind, {}).values() if isinstance(entry, kind)]

    def remove(self, resource: Resource) -> None:
        """Forget a resource."""
        with self._lock:
            self._by_kind.get(type(resource), {}).pop(resource.resource_id, None)
