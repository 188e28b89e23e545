"""Regions, geographies and the system inference profiles that span them.

A system profile's id is a geography prefix and a model id. The lists of Regions are shortened from the user
guide's (autumn 2026): enough that a profile has several destinations.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from .arns import bedrock_arn
from .models import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .models import EmulatedModel

__all__ = ["SystemProfile", "best_prefix", "foundation_model_arn", "profiles_of_region", "system_profile"]

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
