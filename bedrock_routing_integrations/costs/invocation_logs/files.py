"""Find log files, and read the JSON values in them in bounded memory.

Accepted formats: JSON lines, as Bedrock writes them to S3; a JSON array, or the AWS CLI's output for CloudWatch Logs,
on one line or many; JSON after a time, as in CloudWatch's exports and ``aws logs tail``; CSV, as the console exports
it, with each row as an object; objects without separators, as Firehose writes them. Each may be plain, gzip, or the
UTF-16 of a Windows shell; the content decides. A line may have any length; a record in it is limited.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import itertools
import json
import os
import re
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .formats import Document, Malformed, OtherRecords, Table, header_of, name_of_line, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

STDIN = "-"
LONGEST_LINE = 16 * 2**20
"""Bytes of a record, and of a line that is taken as a whole. Bedrock's own have at most some 100 kB of request and as
much of answer (user guide, 2026-11)."""

_CHUNK = 2**18
_PIECE = 2**20
_GZIP, _ZIP, _TAR, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", slice(257, 262), b"PAR1"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# A request or a response that is too long for a line; Bedrock stores it in a folder beside the log.
_BODY = re.compile(r"(?:^|[\\/])data[\\/][^\\/]*_(?:input|output)[^\\/]*$")
# `aws logs tail` and CloudWatch's exports: a time, perhaps the stream's name, the message. With `--format json` a
# message in JSON begins on the next line (aws-cli's PrettyJSONLogEventsFormatter, read 2026-12).
_PREFIX = re.compile(rb"\d{4}-\d\d-\d\dT\S+(?: [^\s{]\S*)?(?: +(?=\{)|$)")
# `aws logs tail --color on`, and text copied from a terminal.
_COLOR = re.compile(rb"\x1b\[[0-9;]*m")


class Numbered(NamedTuple):
    """A JSON value (or the reason why there is none) with the number of the line on which it begins."""

    number: int
    value: Any


class Piece(NamedTuple):
    """A part of a line that is too long to be held as a whole."""

    text: bytes
    is_first: bool
    goes_on: bool


def log_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Yield the files to read: the named files, and all files in the named folders, in order.

    Hidden files are left out, and so are the bodies that Bedrock stores beside a log; symbolic links to folders are not
    followed. A pipe or a device is only read if it is named itself, because reading it may never end. A path that does
    not exist is yielded unchanged.

    Args:
        paths: Files and folders.
    """
    unreadable: list[Any] = []
    for each in paths:
        path = os.fspath(each)
        if path == STDIN or not Path(path).is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path, onerror=lambda error: unreadable.append(error.filename)):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                found = Path(folder, name)
                endless = found.exists() and not found.is_file()
                if not (name.startswith(".") or _BODY.search(str(found)) or endless):
                    yield str(found)
            # The reader reports why they cannot be read.
            yield from map(str, unreadable)
            unreadable.clear()
        yield from map(str, unreadable)
        unreadable.clear()


def read_values(path: str, progress: Callable[[int], None] | None = None) -> Iterator[Numbered]:
    """Yield the JSON values of a file, and a `Malformed` for each that is broken.

    Args:
        path: The file; ``"-"`` for standard input.
        progress: Called with the number of bytes read since the last call, compressed as in the file.

    Raises:
        OSError: The file cannot be opened or read.
    """
    if path == STDIN:
        yield from _values(_lines(_Counted(sys.stdin.buffer, progress)))
        return
    with Path(path).open("rb", buffering=0) as file:
        yield from _values(_lines(_Counted(file, progress)))


def read_body(log: str, stored_at: str, wanted: tuple[bytes, ...] = ()) -> Any:
    """Return a request or a response that Bedrock stored beside the log, if it was downloaded with it; else None.

    Args:
        log: The path of the log.
        stored_at: The S3 URI in the log: ``s3://…/HOUR/data/ID_output.json.gz``.
        wanted: Texts; a body without any of them is not parsed.
    """
    if log == STDIN:
        return None
    path = Path(log).parent / "data" / stored_at.replace("\\", "/").rpartition("/")[2]
    try:
        with path.open("rb", buffering=0) as file:
            text = _read_line(_Counted(file, None))(LONGEST_LINE)
    except (OSError, EOFError, zlib.error, ValueError):
        return None
    if wanted and not any(word in text for word in wanted):
        return None
    value = parsed(text)
    return None if isinstance(value, Malformed) else value


class _Counted(io.RawIOBase):
    """A file that reports the number of bytes read."""

    def __init__(self, file: Any, progress: Callable[[int], None] | None) -> None:
        self._readinto = getattr(file, "readinto1", file.readinto)
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._readinto(buffer)
        if self._progress is not None and count:
            self._progress(count)
        return int(count or 0)


def _read_line(file: _Counted) -> Callable[[int], bytes]:
    """Return a function that reads a line up to a number of bytes (of characters for UTF-16)."""
    stream: Any = io.BufferedReader(file, _CHUNK)
    for _ in range(2):  # Firehose compresses again what CloudWatch has compressed
        if stream.peek(2)[:2] == _GZIP:
            stream = gzip.GzipFile(fileobj=stream, mode="rb")  # buffered itself; another buffer loses what is last
    start = stream.peek(_TAR.stop)
    if start.startswith(_ZIP) or start[_TAR] == b"ustar":
        raise OSError(errno.EINVAL, "it is an archive of files; unpack it first")
    if start.startswith(_PARQUET):
        raise OSError(errno.EINVAL, "it is a Parquet file; export it as JSON lines or CSV")
    if start[:2] in _UTF_16:
        text = io.TextIOWrapper(stream, "utf-16", errors="replace", newline="\n")
        return lambda limit: text.readline(limit).encode(errors="replace")
    readline: Callable[[int], bytes] = stream.readline
    return readline


def _lines(file: _Counted) -> Iterator[tuple[int, bytes | Piece | Malformed]]:
    """Yield the numbered lines. A line that is too long comes in pieces; a truncated file ends there."""
    number = 0
    try:
        readline = _read_line(file)
        while line := readline(LONGEST_LINE):
            number += 1
            if len(line) < LONGEST_LINE or line.endswith(b"\n"):
                yield number, line
                continue
            is_first = True
            while line:
                following = b"" if line.endswith(b"\n") else readline(_PIECE)
                yield number, Piece(line, is_first, bool(following))
                line, is_first = following, False
    except EOFError:
        yield number + 1, Malformed("the gzip file breaks off: it is not whole")
    except (gzip.BadGzipFile, zlib.error) as error:
        yield number + 1, Malformed(f"the gzip file is damaged ({error})")
    except OSError as error:
        if number == 0:
            raise
        yield number + 1, Malformed(f"the file could not be read on ({error.strerror or error})")


def _values(lines: Iterator[tuple[int, bytes | Piece | Malformed]]) -> Iterator[Numbered]:
    """Yield the values of the lines: rows of a table if the first line is a header, else JSON."""
    is_first = True
    for number, line in lines:
        if is_first and isinstance(line, bytes):
            line = line.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901 - the same line
            if not line.strip():
                continue
            header = header_of(line.strip())
            if header is not None:
                yield from (Numbered(*row) for row in Table(header, LONGEST_LINE).rows(_whole_lines(lines)))
                return
        is_first = False
        yield from _json_values(itertools.chain([(number, line)], lines))
        return


def _whole_lines(lines: Iterator[tuple[int, bytes | Piece | Malformed]]) -> Iterator[tuple[int, bytes | Malformed]]:
    """Yield the lines, with one `Malformed` for a line that comes in pieces."""
    for number, line in lines:
        if not isinstance(line, Piece):
            yield number, line
        elif line.is_first:
            yield number, Malformed(f"the line has more than {LONGEST_LINE:,} bytes")


def _json_values(lines: Iterable[tuple[int, bytes | Piece | Malformed]]) -> Iterator[Numbered]:
    document = Document(LONGEST_LINE)
    for number, line in lines:
        if isinstance(line, Malformed):
            yield Numbered(number, line)
        elif isinstance(line, Piece):
            yield from itertools.starmap(Numbered, document.piece(number, *line))
        else:
            yield from itertools.starmap(Numbered, _of_line(document, number, line.strip()))
    yield from itertools.starmap(Numbered, document.end())


def _of_line(document: Document, number: int, line: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the values that a line completes, with the numbers of the lines on which they begin."""
    text = _COLOR.sub(b"", line).strip() if line[:1] == b"\x1b" else line
    prefix = _PREFIX.match(text)
    if prefix:  # no line within an object of many lines looks so
        yield from document.end()
        text = text[prefix.end() :]
    if not text:
        return
    if not (document.within or document.is_passing) or document.is_left_for(text):
        whole = _whole(text)
        if whole:
            yield from document.end()
            yield from ((number, found) for found in whole)
            return
    if not document.depth and text[:1] not in (b"{", b"["):
        yield number, _odd_line(text)
    else:
        yield from document.more(number, text)


def _whole(text: bytes) -> list[Any]:
    """Return the objects or arrays on a line that holds nothing else; an empty list for other lines."""
    value = parsed(text.rstrip(b","))
    if isinstance(value, (dict, list)):
        return [value]
    if b"}{" not in text and b"} {" not in text:
        return []
    decoder, found, at = json.JSONDecoder(), [], 0
    characters = text.decode(errors="replace")
    try:
        while at < len(characters):
            value, at = decoder.raw_decode(characters, at)
            found.append(value)
            while characters[at : at + 1].isspace():
                at += 1
    except (ValueError, RecursionError):
        return []
    return found


def _odd_line(text: bytes) -> Malformed | OtherRecords:
    """Return the value for a line that does not begin like JSON."""
    other = name_of_line(text)
    if other is not None:
        return other
    value = parsed(text)
    return value if isinstance(value, Malformed) else Malformed("it is no JSON object")
