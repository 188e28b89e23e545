"""Citations: Converse's ``citationsContent`` blocks, and LlamaIndex's `CitationBlock`s behind a text.

Converse cuts an answer into pieces at its citations. LlamaIndex joins text blocks with line breaks, so the pieces
become one `TextBlock`, and each `CitationBlock` after it says which characters of it rest on the source:
``answer_start`` and ``answer_end`` (exclusive) in its `additional_location_info`, beside the place in the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import CitationBlock, TextBlock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START, END = "answer_start", "answer_end"
# Converse's kinds of location, their members, and the names that tell them apart where only numbers are kept (those of
# Anthropic's API). Members: botocore's service model (1.43), CitationLocation.
_LOCATIONS = {
    "documentChar": {"documentIndex": "document_index", "start": "start_char_index", "end": "end_char_index"},
    "documentPage": {"documentIndex": "document_index", "start": "start_page_number", "end": "end_page_number"},
    "documentChunk": {"documentIndex": "document_index", "start": "start_block_index", "end": "end_block_index"},
    "searchResultLocation": {
        "searchResultIndex": "search_result_index", "start": "start_block_index", "end": "end_block_index",
    },
}  # fmt: skip


def read_text(run: Sequence[Mapping[str, Any]]) -> list[Any]:
    """``text`` and ``citationsContent`` blocks in a row → one `TextBlock` and its `CitationBlock`s.

    Without any citation the pieces are the model's own: a `TextBlock` each.
    """
    if all("text" in block for block in run):
        return [TextBlock(text=block["text"]) for block in run]
    text, citations = "", []
    for block in run:
        start = len(text)
        if "text" in block:
            text += block["text"]
            continue
        content = block["citationsContent"]
        text += "".join(part.get("text", "") for part in content.get("content") or ())
        citations += [_read(citation, start, len(text)) for citation in content.get("citations") or ()]
    return [TextBlock(text=text), *citations] if text or citations else []


def cited(content: list[dict[str, Any]], citations: Sequence[CitationBlock]) -> list[dict[str, Any]]:
    """The content with the citations in its last text; the reverse of `read_text`.

    Citations that do not say where in the text they belong, or have no text before them, are left out: they are notes
    about an answer, which a model can do without.
    """
    if not citations or not content or "text" not in content[-1]:
        return content
    text = content[-1]["text"]
    spans: dict[tuple[int, int], list[CitationBlock]] = {}
    for block in citations:
        info = block.additional_location_info
        start, end = info.get(START, -1), info.get(END, -1)
        if 0 <= start <= end <= len(text):
            spans.setdefault((start, end), []).append(block)
    pieces: list[dict[str, Any]] = []
    reached = 0
    for (start, end), blocks in sorted(spans.items(), key=lambda item: item[0]):
        if start < reached or not text[start:end].strip():  # overlaps the one before, which pieces cannot; or is blank
            continue
        if text[reached:start].strip():
            pieces.append({"text": text[reached:start]})
        else:  # no text may be blank: the space between two pieces goes to the second one
            start = reached  # noqa: PLW2901
        pieces.append(
            {"citationsContent": {"content": [{"text": text[start:end]}], "citations": [_written(b) for b in blocks]}}
        )
        reached = end
    rest = [{"text": text[reached:]}] if text[reached:].strip() else []
    return [*content[:-1], *pieces, *rest]


def _read(citation: Mapping[str, Any], start: int, end: int) -> CitationBlock:
    location = citation.get("location") or {}
    info = {START: start, END: end}
    for kind, members in _LOCATIONS.items():
        found = location.get(kind) or {}
        info.update({ours: found[theirs] for theirs, ours in members.items() if theirs in found})
    web = location.get("web") or {}
    quoted = "".join(part.get("text", "") for part in citation.get("sourceContent") or ())
    return CitationBlock(
        cited_content=TextBlock(text=quoted),
        source=citation.get("source") or web.get("url") or web.get("domain") or "",
        title=citation.get("title") or "",
        additional_location_info=info,
    )


def _written(block: CitationBlock) -> dict[str, Any]:
    info = block.additional_location_info
    written: dict[str, Any] = {"title": block.title} if block.title else {}
    if block.source:
        written["source"] = block.source
    if isinstance(block.cited_content, TextBlock) and block.cited_content.text:
        written["sourceContent"] = [{"text": block.cited_content.text}]
    for kind, members in _LOCATIONS.items():
        if all(ours in info for ours in members.values()):
            return {**written, "location": {kind: {theirs: info[ours] for theirs, ours in members.items()}}}
    return written
