"""Give the documents of a Converse request names that Bedrock takes, each once.

Bedrock's message lists letters, digits, single spaces, hyphens, parentheses and square brackets. Underscores are taken
too (recorded: ``company_policy``). Letters outside ASCII, tabs and full-width spaces are refused (vercel/ai#20365 and
aws-samples/generative-ai-use-cases#1671, 2026-08): such letters lose their accents, and a title of which most is lost
gets a name made from a digest of the title, so that equal requests stay equal and can be cached.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LONGEST_NAME = 200
_LEGAL_NAME = re.compile(r"(?! )(?:[A-Za-z0-9()\[\]_-]| (?! ))+(?<! )")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9()\[\]_ -]+")


def legal_document_name(title: str | None) -> str:
    """Return the name that is nearest to a title and that Bedrock takes."""
    if title and len(title) <= LONGEST_NAME and _LEGAL_NAME.fullmatch(title):
        return title
    # "é" becomes "e" and an accent; the accent goes, and what is no ASCII letter becomes a hyphen.
    decomposed = unicodedata.normalize("NFKD", title or "")
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    name = " ".join(_NOT_IN_A_NAME.sub("-", letters).split()).strip("- ")[:LONGEST_NAME].strip()
    stem = [letter for letter in letters.rpartition(".")[0] or letters if letter.isalnum()]
    if name and 2 * sum(map(str.isascii, stem)) >= len(stem):
        return name
    return f"document-{hashlib.sha256(title.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}" if title else "document"


class DocumentNames:
    """Names the documents of one request. The same documents in the same order get the same names."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def name(self, title: str | None) -> str:
        """Return a legal name that no earlier document has: ``report``, then ``report (2)``."""
        name = legal_document_name(title)
        unique, number = name, self._last.get(name, 1)
        while unique in self._taken:
            number += 1
            ending = f" ({number})"
            unique = name[: LONGEST_NAME - len(ending)].rstrip() + ending
        self._taken.add(unique)
        self._last[name] = number
        return unique


def name_documents(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return messages whose documents have legal names, each once; the messages themselves where they have."""
    given = [document.get("name") for document in _documents(messages)]
    if not given:
        return messages
    names = DocumentNames()
    # A document without a name is the caller's mistake, of which boto3 says what is missing.
    legal = [name if not isinstance(name, str) else names.name(name) for name in given]
    if legal == given:
        return messages
    in_order = iter(legal)
    return [
        {**message, "content": [_named(block, in_order) for block in message["content"]]}
        if "content" in message
        else message
        for message in messages
    ]


def _documents(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        for block in message.get("content") or ():
            if "document" in block:
                yield block["document"]
            elif "toolResult" in block:
                yield from (part["document"] for part in block["toolResult"].get("content") or () if "document" in part)


def _named(block: Mapping[str, Any], names: Iterator[Any]) -> Mapping[str, Any]:
    if "document" in block:
        name = next(names)
        return block if name is None else {**block, "document": {**block["document"], "name": name}}
    content = (block.get("toolResult") or {}).get("content") or ()
    if any("document" in part for part in content):
        return {**block, "toolResult": {**block["toolResult"], "content": [_named(part, names) for part in content]}}
    return block
