"""ARNs as the emulator makes and reads them.

Written apart from the package's own parser on purpose: one mistake must not hide in both.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Arn", "bedrock_arn", "partition_of", "read_arn"]


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
