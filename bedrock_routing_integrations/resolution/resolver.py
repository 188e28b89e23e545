"""Which base models can answer for a target, asked once and remembered: `Target` → `ResolvedTarget`.

What an id says by itself is used without asking. For opaque targets the control plane is asked, at the first use: once
per process and target however many threads ask at once, kept for an hour. Where the look-up is refused, everything
still works with what is known, and the first trace seen teaches the rest.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .advice import warn_of_unknown_id
from .candidates import Candidate, ResolvedTarget, base_model_of_id, hinted, resolve_by_id
from .look_up import LookUp

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from bedrock_routing_integrations.targets import Target

    from .look_up import ControlPlane

KEEP_SECONDS = 3600.0
KEEP_REFUSED_SECONDS = 300.0
KEEP_FAILED_SECONDS = 30.0
_MOST_KEPT = 10_000


@dataclass
class _Kept:
    resolved: Future[ResolvedTarget]
    expires: float = 0.0
    complete: bool = False
    before: ResolvedTarget | None = None


class Resolver:
    """Resolves targets and remembers the answers. Safe under threads.

    Args:
        clock: Seconds, only ever rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._learned: OrderedDict[Hashable, tuple[Candidate, ...]] = OrderedDict()

    def forget(self) -> None:
        """Forget what was looked up and learned, so that the next call asks again (after an IAM policy was mended)."""
        with self._lock:
            self._kept.clear()
            self._learned.clear()

    def start_afresh(self) -> None:
        """Forget everything in a process that was just forked: the thread that was looking something up is not here."""
        self._lock = threading.Lock()
        self.forget()

    def peek(self, target: Target, control_plane: ControlPlane) -> ResolvedTarget:
        """What is known now, without asking anybody."""
        named = resolve_by_id(target)
        if named is not None:
            return named
        key = (control_plane.identity(target), target.model_id)
        kept = self._kept.get(key)
        if kept is not None and kept.resolved.done() and kept.expires > self._clock():
            return self._with_learned(kept.resolved.result(), key)
        return self._with_learned(ResolvedTarget(target, hinted(target), complete=False), key)

    def recall(self, target: Target, control_plane: ControlPlane) -> ResolvedTarget:
        """What was last found out, however long ago and even if it was nothing; looked up only where nobody ever did.

        For those who want facts and not the latest candidates, and must not wait for a look-up again and again.
        """
        key = (control_plane.identity(target), target.model_id)
        kept = self._kept.get(key)
        if kept is not None and kept.resolved.done():
            return self._with_learned(kept.resolved.result(), key)
        if kept is not None and kept.before is not None:
            return self._with_learned(kept.before, key)  # somebody is looking it up anew
        return self.resolve(target, control_plane)

    def resolve(self, target: Target, control_plane: ControlPlane) -> ResolvedTarget:
        """What is known of the target, after asking the control plane where its id does not say it.

        Never raises for what the control plane answers: what could not be looked up is left out. Warns once of an id
        that is not a known one.
        """
        named = resolve_by_id(target)
        if named is not None:
            warn_of_unknown_id(target)
            return named
        key = (control_plane.identity(target), target.model_id)
        kept = self._kept.get(key)
        if kept is not None and kept.complete and kept.expires > self._clock():
            return kept.resolved.result()
        with self._lock:
            kept = self._kept.get(key)
            before = kept
            mine = kept is None or (kept.resolved.done() and kept.expires <= self._clock())
            if mine or kept is None:
                kept = self._kept[key] = _Kept(Future(), before=before.resolved.result() if before else None)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        if mine:
            self._fill(kept, target, control_plane)
        return self._with_learned(kept.resolved.result(), key)

    def _fill(self, kept: _Kept, target: Target, control_plane: ControlPlane) -> None:
        try:
            look_up = LookUp(control_plane)
            resolved, passing = look_up.resolve(target), look_up.passing
        except BaseException:
            # An interrupt, or a mistake of ours. Those who wait go on without; the next caller asks again.
            kept.resolved.set_result(ResolvedTarget(target, complete=False))
            raise
        if resolved.complete:
            lasts = KEEP_SECONDS
        else:
            # What was known once is still the best that is known.
            resolved = kept.before if kept.before is not None and kept.before.complete else resolved
            lasts = KEEP_FAILED_SECONDS if passing else KEEP_REFUSED_SECONDS
        kept.expires = self._clock() + lasts
        kept.resolved.set_result(resolved)
        kept.complete = resolved.complete

    def learn(self, resolved: ResolvedTarget, invoked_model_id: str, control_plane: ControlPlane) -> None:
        """Remember a model that a trace has shown, where the control plane did not tell."""
        if resolved.complete or any(c.model_id == invoked_model_id for c in resolved.candidates):
            return
        seen = Candidate(invoked_model_id, base_model_of_id(invoked_model_id), "trace")
        key = (control_plane.identity(resolved.target), resolved.target.model_id)
        with self._lock:
            before = self._learned.get(key, ())
            if seen not in before:
                self._learned[key] = (*before, seen)
                while len(self._learned) > _MOST_KEPT:
                    self._learned.popitem(last=False)

    def _with_learned(self, resolved: ResolvedTarget, key: Hashable) -> ResolvedTarget:
        learned = () if resolved.complete else self._learned.get(key, ())
        known = {c.model_id for c in resolved.candidates}
        more = tuple(c for c in learned if c.model_id not in known)
        return replace(resolved, candidates=(*resolved.candidates, *more)) if more else resolved


shared_resolver = Resolver()
"""The resolver of this process: what one object has looked up, the others know."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared_resolver.start_afresh)
