"""What one answer teaches: which prefixes came back, what is cached now, and whether what should have been read was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .habits import LATER, LEADER, NEW, SOON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedrock_routing_integrations.catalog import CacheRules

    from .candidates import Candidate
    from .draft import Weighing
    from .habits import Category
    from .memory import Record
    from .prefix import Place, Prefix

_SURELY = 1.3
_TURNS = 4
_LANDMARKS = 8  # places of the first message, and of the last two, that are remembered


def saved_tokens(usage: Mapping[str, Any], rules: CacheRules) -> float:
    """What caching saved in one call, in plain input tokens; negative where it cost more."""
    hour = sum(d.get("inputTokens") or 0 for d in usage.get("cacheDetails") or () if d.get("ttl") == "1h")
    prices = dict(rules.write_multipliers)
    short = (usage.get("cacheWriteInputTokens") or 0) - hour
    dearer = short * (prices["5m"] - 1.0) + hour * (prices.get("1h", prices["5m"]) - 1.0)
    return float((usage.get("cacheReadInputTokens") or 0) * (1.0 - rules.read_multiplier) - dearer)


class Lesson:
    """What the answer to one request teaches.

    Args:
        weighing: What was weighed for the request.
        prefix: The request.
        at: When it was sent.
        model: The model that answered: a base model, or what the trace said.
        usage: The answer's usage; without its cache members it says nothing about what is cached.
    """

    def __init__(self, weighing: Weighing, prefix: Prefix, at: float, model: str, usage: Mapping[str, Any]) -> None:
        self._weighing, self._prefix, self._at, self._model = weighing, prefix, at, model
        self._shelf = weighing.shelf
        self._read, self._written = usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")
        self._number = weighing.models.index(model) if model in weighing.models else None
        self._hit = weighing.hits[self._number] if self._number is not None else 0.0

    def learn(self) -> None:
        """Write it down."""
        self._check_read()
        self._diagnose()
        records = self._see()
        leader: Record | None = None
        for candidate in self._weighing.candidates:
            record = records.get(candidate.at)
            if record is None:
                continue
            if self._number is not None:
                leader = self._expect(record, candidate, candidate.categories[self._number], leader)
            kind = candidate.categories[0].kind
            record.ended = record.ended or kind == "end"
            record.shared = record.shared or (kind == "shared" and not record.ended)
        self._cache(records)

    def _find(self, place: Place) -> Record | None:
        return self._shelf.find(self._model, place.digest, self._at)

    def _check_read(self) -> None:
        """Was what should have been read read?"""
        if not self._hit or self._read is None:
            return
        happened = self._read >= self._hit / 2
        self._shelf.expected_read(happened=happened)
        if happened:
            return
        for candidate in self._weighing.candidates:
            record = self._find(candidate.place)
            if record is not None and candidate.tokens > self._read * 1.1:
                record.until = 0.0

    def _diagnose(self) -> None:
        weighing, diagnosis = self._weighing, self._shelf.diagnosis
        if weighing.chosen and self._read is not None:
            # Neither read nor written, though long enough by any estimate: the points did not reach the model.
            longest = max(weighing.candidates[number].tokens for number in weighing.chosen)
            lost = not self._written and longest > _SURELY * weighing.rules.min_tokens
            diagnosis.read(expected=self._hit > 0 or lost, tokens=self._read)
            given = any(weighing.candidates[number].given for number in weighing.chosen)
            diagnosis.write(given=given, read=self._read, written=self._written or 0)
        rules = weighing.rules
        diagnosis.see_tools(
            self._prefix,
            cached=(self._read or 0) + (self._written or 0),
            reading=rules.read_multiplier,
            writing=rules.write_multiplier(rules.ttls[0]),
        )
        before = [candidate for candidate in weighing.candidates if candidate.place.section != "messages"]
        if before:
            last, least = before[-1], weighing.rules.min_tokens
            known, reaches = max(last.seen) > float("-inf"), last.tokens >= least
            if reaches or weighing.candidates[-1].tokens >= least:  # as it stands, or with what follows
                diagnosis.see(self._prefix, known=known, alone=reaches)
            if not self._read and not self._written:  # else it is cached together with what follows it
                diagnosis.see_short(self._prefix.application, last.tokens, least)

    def _see(self) -> dict[int, Record]:
        """Count what came back, remember what may come back, and forget what a conversation has left behind."""
        kept = self._worth_remembering()
        records: dict[int, Record] = {}
        for at, place in enumerate(self._prefix.places):
            record = self._find(place)
            if record is not None:
                record.came_back(self._at)
                if at not in kept and not record.shared:
                    self._shelf.drop(self._model, place.digest)
                    continue
            elif at in kept:
                record = self._shelf.add(self._model, place.digest, self._at)
            else:
                continue
            records[at] = record
        return records

    def _worth_remembering(self) -> set[int]:
        """Where requests to come may part from this one: at candidates, around its first message and its last."""
        places = self._prefix.places
        sections: dict[str, list[int]] = {"tools": [], "system": [], "messages": []}
        for at, place in enumerate(places):
            sections[place.section].append(at)
        messages = sections["messages"]
        last = (places[messages[-1]].message or 0) if messages else 0
        first = [at for at in messages if places[at].message == 0]
        latest = [at for at in messages if (places[at].message or 0) >= last - 1]
        kept = {candidate.at for candidate in self._weighing.candidates}
        kept.update(sections["tools"][-1:], sections["system"][-_LANDMARKS:])
        kept.update(first[:_LANDMARKS], latest[-_LANDMARKS:])
        # Also where the last few messages end: what an application adds for one call only (a reminder, a list of things
        # to do) is gone in the next.
        kept.update({places[at].message: at for at in messages if (places[at].message or 0) >= last - _TURNS}.values())
        return kept

    def _expect(self, record: Record, candidate: Candidate, category: Category, leader: Record | None) -> Record | None:
        """Wait for the prefix to come back; returns what leads those that are new."""
        habits, application = self._shelf.habits, self._prefix.application
        if candidate.place.section != "messages" or category.state not in NEW:
            self._shelf.expect(record, habits.tallies(category, application), self._patience(category))
            return leader
        if leader is None:
            tallies = habits.tallies(category._replace(kind=LEADER), application)
            self._shelf.expect(record, tallies, self._patience(category))
            return record
        record.tallies, record.overdue = habits.tallies(category, application), True  # counted when the leader is back
        leader.followers = (*leader.followers, record.tallies)
        return leader

    def _patience(self, category: Category) -> float:
        """Seconds after which a prefix is overdue: where gaps are long, somewhat more than the last one."""
        if not category.slow:
            return SOON
        seen = [moment for candidate in self._weighing.candidates for moment in candidate.seen]
        return min(LATER, 1.5 * max(self._at - max(seen), SOON))

    def _cache(self, records: Mapping[int, Record]) -> None:
        """What is cached now, as far as the usage tells."""
        unknown = self._read is None and self._written is None
        if not unknown and not (self._read or self._written):
            return
        for number in self._weighing.chosen:
            candidate = self._weighing.candidates[number]
            record = records.get(candidate.at)
            if record is None:
                continue
            lasts, live = LATER if candidate.ttl == "1h" else SOON, record.until > self._at
            if self._read and not live and candidate.tokens <= self._hit:
                continue  # inside of what was read nothing was written
            record.lasts = max(lasts, record.lasts) if live else lasts
            record.until = self._at + record.lasts
        for candidate in self._weighing.candidates if self._hit and (self._read or unknown) else ():
            record = records.get(candidate.at)
            if record is not None and record.until > self._at and candidate.tokens == self._hit:
                record.until = self._at + record.lasts  # reading renews
