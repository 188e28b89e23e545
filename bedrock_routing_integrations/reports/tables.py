"""The dictionary of a `RoutingReport` as a person reads it: text, markdown and HTML. Pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from .contents import contents
from .layout import html_table, in_html, in_markdown, markdown_table, padded, text_table
from .wording import width_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["as_html", "as_markdown", "as_text"]

WIDTH = 100


def as_text(report: Mapping[str, Any], width: int | None = None) -> str:
    """The report for a terminal.

    Args:
        report: What `RoutingReport.to_dict` gives.
        width: Columns of the terminal; 100 where None. A name or a sentence that is longer goes on beyond.
    """
    page = contents(report)
    lines = [page.headline]
    widths = [max((width_of(fact[part]) for fact in page.facts), default=0) for part in (0, 1)]
    for what, amount, comment in page.facts:
        parts = [padded(what, widths[0], words=True), padded(amount, widths[1], words=True), comment]
        lines += _wrapped(f"  {'  '.join(parts)}".rstrip(), width or WIDTH, sum(widths) + 6)
    for title, table in page.tables:
        lines += ["", *([title] if title else []), *text_table(table, width or WIDTH)]
    notes = [line for note in page.notes for line in _wrapped(note, width or WIDTH, 2)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _wrapped(line: str, width: int, hanging: int) -> list[str]:
    return textwrap.wrap(
        line, max(width, hanging + 20), subsequent_indent=" " * hanging, break_long_words=False, break_on_hyphens=False
    )


def as_markdown(report: Mapping[str, Any]) -> str:
    """The report as GitHub-flavoured markdown."""
    page = contents(report)
    lines = [f"**{in_markdown(page.headline)}**", *([""] if page.facts else [])]
    lines += [
        f"- {in_markdown(what)}: {in_markdown(_together(amount, comment))}" for what, amount, comment in page.facts
    ]
    for title, table in page.tables:
        lines += ["", *([f"**{in_markdown(title)}**", ""] if title else []), *markdown_table(table)]
    for note in page.notes:
        lines += ["", in_markdown(note)]
    return "\n".join([*lines, ""])


def as_html(report: Mapping[str, Any]) -> str:
    """The report as a piece of HTML, for a notebook; it loads nothing and runs nothing."""
    page = contents(report)
    # Without these classes a notebook sets what stands between two dollars as mathematics.
    lines = ['<div class="tex2jax_ignore mathjax_ignore">', f"<p><b>{in_html(page.headline)}</b></p>"]
    if page.facts:
        facts = [f"{in_html(what)}: {in_html(_together(amount, comment))}" for what, amount, comment in page.facts]
        lines.append(f"<p>{'<br>'.join(facts)}</p>")
    for title, table in page.tables:
        lines += [*([f"<p><b>{in_html(title)}</b></p>"] if title else []), html_table(table)]
    lines += [f"<p><small>{in_html(note)}</small></p>" for note in page.notes]
    return "\n".join([*lines, "</div>"])


def _together(amount: str, comment: str) -> str:
    return f"{amount} ({comment})" if amount and comment else amount or comment
