"""Test reports as text, Markdown and HTML, with any names in them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import (
    HAIKU,
    NO_TOKENS,
    ROUTER,
    a_report,
    a_report_of,
    a_tally,
    a_target,
    many_models,
    nothing,
    one_call,
)

from bedrock_routing_integrations import RoutingReport
from bedrock_routing_integrations.costs.report_tables import as_html, as_markdown, as_text, money, percent, width_of


def test_text_begins_with_cost_and_savings():
    text = as_text(a_report(), 120)
    lines = text.splitlines()
    assert lines[0] == "120 calls of 3 targets, 2026-11-21 20:00 to 21:12 UTC"
    assert re.fullmatch(r"  Cost +\$0\.157\* +13 of 120 calls without a price", lines[1])
    assert re.match(
        r"  Saved by routing +\$0\.177\* +67% less than always the fallback model; not known for 13",
        lines[2],
    )
    assert re.match(r"  Saved by caching +\$0\.0361\* +33% less than no caching; not known for 13 of 120", lines[3])
    assert "optimized requested 12, served 9, standard 3" in text
    assert "ThrottlingException 5, ReadTimeoutError 1" in text


def test_a_router_has_the_models_that_answered_below_it():
    lines = as_text(a_report(), 140).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("default-prompt-router/"))
    assert [line.split("  ")[1] for line in lines[first + 1 :] if line.startswith("  claude")][:2] == [
        "claude-3-haiku", "claude-3-5-sonnet (fallback)",
    ]  # fmt: skip


def test_unknown_and_partial_are_marked_and_the_marks_explained():
    text = as_text(a_report())
    assert "– not known." in text
    assert "* of some calls only; of 120 calls, 13 without a price" in text
    whole = as_text(one_call())
    assert "*" not in whole
    assert "not known" not in whole


def test_columns_that_hold_nothing_are_left_out():
    text = as_text(one_call())
    for absent in ("Cache", "Saved", "Failed", "First token", "Share"):
        assert absent not in text
    assert "Cost" in text
    assert "Latency" in text


def test_an_empty_report_is_one_line():
    assert as_text(nothing()) == "No calls yet."
    assert as_markdown(nothing()) == "**No calls yet.**\n"
    assert "No calls yet." in as_html(nothing())


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_lines_of_a_usual_report_fit(width):
    assert max(map(width_of, as_text(a_report(), width).splitlines())) <= width


def test_days_are_in_order_and_the_last_are_shown():
    first = datetime(2026, 9, 1, tzinfo=timezone.utc)
    report = RoutingReport()
    for number in range(60):
        day = (first + timedelta(days=number)).date().isoformat()
        for _ in range(1 + number % 3):
            report.add({"requested_model_id": "amazon.nova-lite-v1:0"}, labels={"day": day, "day,team": f"{day}, a"})
    by_day, by_both = as_text(report.to_dict()).split("\nBy ")[1:]
    for table in (by_day, by_both):
        rows = [line.split()[0].strip(",") for line in table.splitlines() if line.startswith("2026-")]
        assert rows == sorted(rows)
        assert (rows[0], rows[-1], len(rows)) == ("2026-09-11", "2026-10-30", 50)
        assert "and 10 earlier" in table
    assert list(report.to_dict()["by"]["day"])[:2] == ["2026-09-01", "2026-09-02"]


def test_text_lists_answers_that_were_blocked_or_cut_short():
    report = RoutingReport()
    for reason in ("end_turn", "end_turn", "guardrail_intervened", "max_tokens"):
        for model in ("amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"):
            end = reason if model.startswith("amazon.nova-lite") else "tool_use"
            report.add({"requested_model_id": model, "stop_reason": end})
    text = as_text(report.to_dict())
    assert re.search(r"^  Guardrail +1 +answers that a guardrail blocked or changed$", text, re.MULTILINE)
    assert "tool_use 4, end_turn 2, guardrail_intervened 1, max_tokens 1" in text
    usual = RoutingReport()
    usual.add({"requested_model_id": "amazon.nova-lite-v1:0", "stop_reason": "end_turn"})
    assert "end_turn" not in as_text(usual.to_dict())


def test_unknown_requested_latency_is_shown_as_not_logged():
    report = RoutingReport()
    report.add(
        {"requested_model_id": "amazon.nova-lite-v1:0", "latency": {"requested": "unknown", "served": "standard"}}
    )
    assert "requested, value not logged 1, standard 1" in as_text(report.to_dict())


def test_labels_have_a_table_each():
    text = as_text(a_report())
    assert "By team" in text
    assert re.search(r"^search +80 ", text, re.MULTILINE)


def test_many_targets_are_cut_and_the_rest_counted():
    text = as_text(many_models(80))
    assert "more" in text
    assert len(text.splitlines()) < 150


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "–"), (0.0, "$0"), (0.000405, "$0.000405"), (12.341, "$12.34"), (1234.5, "$1,234"), (0.1, "$0.100"),
        (-0.02, "-$0.0200"), (4e-12, "$4e-12"), (999.999, "$1,000"), (1e9, "$1,000,000,000"),
    ],
)  # fmt: skip
def test_money_has_the_digits_that_mean_something(usd, shown):
    assert money(usd) == shown


@given(st.floats(-1e9, 1e9, allow_nan=False))
def test_positive_amount_is_never_shown_as_zero(usd):
    shown = money(usd)
    assert (shown == "$0") == (usd == 0)
    assert float(re.sub(r"[$,]", "", shown)) == pytest.approx(usd, rel=0.005 if abs(usd) >= 1e-7 else 0.05)


@given(st.floats(0, 1))
def test_shares_of_0_and_100_percent_are_exact(share):
    assert (percent(share) == "0%") == (share == 0)
    assert (percent(share) == "100%") == (share == 1)


# --- names from outside ---

names = st.text(min_size=1, max_size=30) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "a|b",
        "a\nb",
        "\x1b[31mred",
        "a\u202eb",
        "東京 search",
        "$x$ **y**",
        "&amp;",
        "- x",
        " ",
    ]
)


def labelled(*values):
    return a_report_of(
        [a_target(ROUTER, "default_prompt_router", (HAIKU, False, a_tally(3, cost_usd=0.1)), calls=3, cost_usd=0.1)],
        by={"team": {value: a_tally(3, cost_usd=0.1, tokens={**NO_TOKENS, "input": 9}) for value in values}},
        calls=3, cost_usd=0.1,
    )  # fmt: skip


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.rows = set(), 0

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.rows += tag == "tr"


@given(st.lists(names, min_size=1, max_size=4, unique=True))
def test_no_name_breaks_a_table(values):
    plain = [f"team {number}" for number in range(len(values))]
    report, harmless = labelled(*values), labelled(*plain)
    text = as_text(report)
    assert len(text.splitlines()) - len(as_text(harmless).splitlines()) in range(len(values) + 1)  # a long name, a line
    assert not [letter for letter in text if letter != "\n" and not letter.isprintable()]
    table = [line for line in as_markdown(report).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) <= 2, "one number of cells for each table"
    assert len(table) == len([line for line in as_markdown(harmless).splitlines() if line.startswith("|")])
    read, expected = Cells(), Cells()
    read.feed(as_html(report))
    expected.feed(as_html(harmless))
    assert (read.tags, read.rows) == (expected.tags, expected.rows)


@given(st.lists(names, min_size=2, max_size=5, unique=True))
def test_two_targets_never_have_one_name(targets):
    report = a_report_of(
        [a_target(name, "foundation_model", (HAIKU, False, a_tally(1)), calls=1) for name in targets],
        calls=len(targets),
    )
    lines = as_text(report, 300).splitlines()
    rows = [line for line in lines if "→ claude-3-haiku" in line]
    assert len({line.partition("→")[0] for line in rows}) == len(targets)


def test_wide_letters_take_two_columns():
    lines = as_text(labelled("東京", "osaka")).splitlines()
    rows = [line for line in lines if line.startswith(("東京", "osaka"))]
    assert len({width_of(line) for line in rows}) == 1


def test_models_table_appears_only_if_targets_share_a_model():
    assert "Models, over all targets" in as_text(a_report())
    assert "Models, over all targets" not in as_text(many_models(3))


def test_rows_of_one_model_differ_by_its_fallback_state():
    tallies = [(HAIKU, known, a_tally(1)) for known in (None, False, True)]
    text = as_text(a_report_of([a_target(ROUTER, "default_prompt_router", *tallies, calls=3)], calls=3))
    for name in ("claude-3-haiku", r"claude-3-haiku \(not the fallback\)", r"claude-3-haiku \(fallback\)"):
        assert len(re.findall(f"^  {name} +1\\b", text, re.MULTILINE)) == 1
