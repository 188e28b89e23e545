"""cachePoints in a Converse request."""

from .points import place_points

__all__ = ["place_points"]
