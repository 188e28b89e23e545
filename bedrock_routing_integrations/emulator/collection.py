"""A collection of documents that can be searched: what an emulated knowledge base holds.

The index is SQLite's full-text search, in memory. A question is searched by its words, of which any may be
found; what stands first has most of the rarest (bm25). That is no embedding, but it is deterministic and puts
the passage that answers a question first where question and passage share words.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import unicodedata
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .collection_folder import Chunk, read_folder
from .metadata_filters import check_filter, matches
from .programs.words import STOP_WORDS

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["Chunk", "Collection", "shipped"]

_MOST_WORDS = 200  # of a query that are looked for; a question of 20,000 characters has more
# Scripts without spaces between words (Thai to Tibetan, Burmese, Khmer, Japanese, Chinese), and Korean, which writes
# particles at the end of words: each character is indexed as a word.
_UNSPACED = re.compile(
    r"([\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    r"\uff66-\uff9f\U00020000-\U0003ffff])"
)
_FLOOR, _REACH, _HALF = 0.2, 0.75, 6.0  # see _score
_EXACT = 0.3


class Collection:
    """Chunks, and an index of their words. It may be used from several threads.

    Raises:
        RuntimeError: This Python's SQLite was built without FTS5.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: list[Chunk] = []
        self._index = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._index.execute(
                "CREATE VIRTUAL TABLE words USING "
                "fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2')"
            )
        except sqlite3.OperationalError as error:
            self._index.close()
            raise RuntimeError(
                f"The emulated knowledge base needs SQLite with FTS5, which this Python's SQLite "
                f"{sqlite3.sqlite_version} lacks ({error})."
            ) from error
        # From Python 3.13 on, a connection that is dropped open is a ResourceWarning.
        weakref.finalize(self, self._index.close)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], *, bucket: str = "emulated-knowledge-base") -> Collection:
        """The collection of the documents below a folder.

        Args:
            folder: Texts, Markdown, HTML, PDF, CSV, JSON, pictures, sounds and films, with sidecar files
                `NAME.metadata.json`.
            bucket: The S3 bucket in which the documents are said to be.

        Raises:
            ValueError: There is no such folder, it holds no document, or a sidecar is not of Bedrock's form.
        """
        collection = cls()
        for chunk in read_folder(folder, bucket=bucket):
            collection.add(chunk)
        if not len(collection):
            raise ValueError(f"{folder} holds no document that can be read.")
        return collection

    def add(self, chunk: Chunk) -> None:
        """Put a chunk at the end of the collection."""
        with self._lock:
            self._index.execute(
                "INSERT INTO words(rowid, text) VALUES (?, ?)", (len(self._chunks), _spaced(chunk.text))
            )
            self._chunks.append(chunk)

    def search(
        self,
        query: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's own word
        exact_words: bool = False,
    ) -> list[tuple[Chunk, float]]:
        """Every chunk that has a word of the query, best first; of equal ones, the one that was added first.

        Args:
            query: Any text; nothing in it is syntax.
            filter: A RetrievalFilter, which the chunks' metadata must fulfil.
            exact_words: Whether words as they are written count for more than their stems (hybrid search).

        Returns:
            Chunks with scores between 0 and 1, neither included.

        Raises:
            ServiceError: ValidationException, where the filter is none.
        """
        if filter is not None:
            check_filter(filter)
        words = _key_words(query)
        found = [
            (chunk, _score(rank, _share(words, chunk.text) if exact_words else 0.0))
            for chunk, rank in self._ranked(words)
            if filter is None or matches(filter, chunk.metadata)
        ]
        return sorted(found, key=lambda pair: -pair[1])

    def _ranked(self, words: list[str]) -> list[tuple[Chunk, float]]:
        """The chunks that have any of the words, with bm25 as SQLite gives it (negative)."""
        if not words:
            return []
        expression = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            rows = self._index.execute(
                "SELECT rowid, bm25(words) FROM words WHERE words MATCH ? ORDER BY rowid", (expression,)
            ).fetchall()
            return [(self._chunks[row], rank) for row, rank in rows]

    def chunks(self) -> list[Chunk]:
        """Every chunk, in the order in which they were added."""
        with self._lock:
            return list(self._chunks)

    def __len__(self) -> int:
        with self._lock:
            return len(self._chunks)


def shipped() -> Collection:
    """The library that ships with the package: the large moons of the Solar System."""
    return Collection.from_folder(Path(__file__).parent / "library")


def _spaced(text: str) -> str:
    """A text as it is indexed; lone surrogates, which SQLite cannot take, become question marks."""
    return _UNSPACED.sub(r" \1 ", text).encode("utf-8", "replace").decode("utf-8")


def _words(text: str) -> list[str]:
    """The words of a text: letters, digits and the marks on them; all else separates."""
    letters = (c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in _spaced(text))
    return "".join(letters).lower().split()


def _key_words(query: str) -> list[str]:
    """The words to look for, each once: those that carry meaning, or all where none does."""
    words = list(dict.fromkeys(_words(query)))
    return ([word for word in words if word not in STOP_WORDS] or words)[:_MOST_WORDS]


def _share(words: list[str], text: str) -> float:
    """The share of the words that a text has exactly as they are written."""
    return len(set(words) & set(_words(text))) / len(words)


def _score(rank: float, exact: float) -> float:
    """A bm25 rank (negative, without bound) and a share of exact words as a score like those of an embedding."""
    strength = -rank / (_HALF - rank)
    strength += (1 - strength) * _EXACT * exact
    return round(_FLOOR + _REACH * strength, 7)
