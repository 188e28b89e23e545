"""How Bedrock is reached.

`connection` says how, `shared` makes the boto3 clients and keeps them, `given` stands for clients that the user made,
`endpoints` knows where the control plane is.
"""

from __future__ import annotations

from .connection import DEFAULT_MAX_CONCURRENCY, Connection
from .endpoints import control_plane_endpoint
from .given import GivenClient, GivenControlPlane, extra_headers

__all__ = [
    "DEFAULT_MAX_CONCURRENCY",
    "Connection",
    "GivenClient",
    "GivenControlPlane",
    "control_plane_endpoint",
    "extra_headers",
]
