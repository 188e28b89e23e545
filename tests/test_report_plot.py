"""Test the plot of a report, and that plotting changes no global state."""

from __future__ import annotations

import subprocess
import sys
import warnings

import matplotlib as mpl
import pytest
from report_samples import a_bucket, a_report, many_models, nothing, one_call

from bedrock_routing_integrations import RoutingReport
from bedrock_routing_integrations.costs.plot import draw

PNG = b"\x89PNG\r\n\x1a\n"


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.sample(2)
@pytest.mark.parametrize("report", [a_report(), one_call(), many_models(), many_models(1), nothing()])
def test_every_report_can_be_drawn_without_a_warning(report):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(report)._repr_png_().startswith(PNG)


def test_plot_shows_totals_and_shares_of_calls_and_cost():
    figure = draw(a_report())
    assert figure.get_suptitle() == (
        "120 calls: $0.157 (13 without a known price)\n"
        "routing saved $0.177 (not known for 13 calls), caching saved $0.0361 (not known for 13 calls)"
    )
    shares, savings, _ = figure.axes
    calls, cost = shares.containers
    assert [round(bar.get_width(), 3) for bar in calls] == [0.75, 0.167, 0.083]
    assert [round(bar.get_width(), 3) for bar in cost] == [0.56, 0.44, 0.0]
    assert "no price" in texts(figure)
    by_routing, by_caching, _ = savings.get_lines()
    assert by_routing.get_ydata()[-1] == pytest.approx(12 * 0.0147)
    assert by_caching.get_ydata()[-1] == pytest.approx(8 * 0.003 - 4 * 0.002)


@pytest.mark.sample(1)
@pytest.mark.parametrize("report", [a_report(), one_call(), many_models()])
def test_the_legend_hides_no_bar_and_no_number(report):
    figure = draw(report)
    figure.draw_without_rendering()
    shares = figure.axes[0]
    legend = shares.get_legend().get_window_extent()
    drawn = [*shares.patches, *shares.texts]
    assert not [thing for thing in drawn if legend.overlaps(thing.get_window_extent())]


@pytest.mark.parametrize(
    ("ticks", "shown"),
    [
        ([0, 0.005, 0.01, 0.015], ["$0.000", "$0.005", "$0.010", "$0.015"]),
        ([-0.0025, 0, 0.0025], ["-$0.0025", "$0.0000", "$0.0025"]),
        ([0, 20, 40], ["$0", "$20", "$40"]),
        ([0, 2.5, 5], ["$0.0", "$2.5", "$5.0"]),
        ([0, 500, 1000], ["$0", "$500", "$1,000"]),
        ([3], ["$3.00"]),
    ],
)
def test_money_ticks_have_equal_numbers_of_digits(ticks, shown):
    axes = draw(a_report()).axes[1]
    assert axes.yaxis.get_major_formatter().format_ticks(ticks) == shown


def test_without_savings_there_is_one_panel():
    assert len(draw(one_call()).axes) == 1


def test_negative_savings_are_drawn_below_zero():
    report = {**one_call(), "timeline": [a_bucket(0, caching=-0.002), a_bucket(1, caching=-0.001)]}
    _, savings = draw(report).axes
    assert savings.get_lines()[0].get_ydata()[-1] == pytest.approx(-0.003)


def test_many_models_are_put_together():
    labels = [label.get_text() for label in draw(many_models(12)).axes[0].get_yticklabels()]
    assert len(labels) == 8
    assert labels[-1] == "5 other models"


def test_names_that_the_font_lacks_are_written_out():
    report = one_call()
    report["models"][0]["invoked_model"] = "acme.東京-1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(report)._repr_png_()


@pytest.mark.sweep
def test_plot_leaves_no_global_state():
    before = dict(mpl.rcParams)
    RoutingReport().plot()
    draw(a_report())._repr_png_()
    assert dict(mpl.rcParams) == before
    done = subprocess.run(
        [
            sys.executable, "-c",
            ("import sys\nfrom bedrock_routing_integrations import RoutingReport\n"
            "report = RoutingReport()\nstr(report), report.to_markdown(), report._repr_html_()\n"
            "assert 'matplotlib' not in sys.modules\nreport.plot()\nassert 'matplotlib.pyplot' not in sys.modules"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith(("matplotlib", "bedrock_routing_integrations.costs.plot"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "bedrock-routing-integrations\[plot\]"'):
        RoutingReport().plot()


# --- labels


def labelled(**labels):
    """Return a report of calls, each label's values one after the other."""
    report = RoutingReport()
    for number, values in enumerate(zip(*labels.values(), strict=True)):
        report.add(
            {"requested_model_id": "amazon.nova-lite-v1:0", "invoked_model": "amazon.nova-lite-v1:0",
             "cost_usd": 0.001 * (number + 1), "usage": {"input": 1, "output": 1}},
            labels=dict(zip(labels, values, strict=True)),
        )  # fmt: skip
    return report


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_each_label_has_a_panel_with_its_values():
    figure = labelled(team=["search", "support", "search"], env=["_test", "$prod$", "東京"]).plot()
    assert titles(figure) == [
        "Share of calls and of cost", "By team: share of calls and of cost", "By env: share of calls and of cost",
    ]  # fmt: skip
    team = figure.axes[1]
    assert [label.get_text() for label in team.get_yticklabels()] == ["search", "support"]
    assert [round(bar.get_width(), 3) for bar in team.containers[0]] == [0.667, 0.333]
    assert [round(bar.get_width(), 3) for bar in team.containers[1]] == [0.667, 0.333]
    assert figure._repr_png_().startswith(PNG)


def test_days_are_drawn_in_order_with_those_in_between():
    figure = labelled(day=["2026-11-20", "2026-11-20", "2026-11-23"]).plot()
    _, days = figure.axes
    assert titles(figure)[1] == "Cost by day (UTC)"
    assert [round(bar.get_height(), 6) for bar in days.containers[0]] == [0.003, 0, 0, 0.003]
    assert [label.get_text() for label in days.get_xticklabels()] == ["11-20\n2026", "11-21", "11-22", "11-23"]
    assert days.get_legend() is None


def test_days_with_a_key_are_drawn_as_stacked_bars():
    teams = [f"team {number}" for number in range(9)]
    report = labelled(**{"day,team": [f"2026-11-{20 + number % 2}, {team}" for number, team in enumerate(teams)]})
    _, days = (figure := report.plot()).axes
    assert titles(figure)[1] == "Cost by day (UTC) and team"
    heights = [[round(bar.get_height(), 3) for bar in layer] for layer in days.containers]
    assert heights == [[0.009, 0], [0, 0.008], [0.007, 0], [0, 0.006], [0.005, 0], [0.004, 0.006]]
    legend = [text.get_text() for text in days.get_legend().get_texts()]
    assert legend == ["4 others", "team 4", "team 5", "team 6", "team 7", "team 8"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figure._repr_png_().startswith(PNG)


def test_unpriced_days_show_calls_and_other_values_shares():
    report = RoutingReport()
    report.add({"requested_model_id": "amazon.nova-lite-v1:0", "cost_usd": None}, labels={"day": "2026-11-20"})
    assert titles(report.plot())[1] == "Calls by day (UTC)"
    assert titles(labelled(day=["Monday", "Tuesday"]).plot())[1] == "By day: share of calls and of cost"


def test_only_so_many_labels_are_drawn():
    assert len(labelled(**{f"label {number}": ["a", "b"] for number in range(15)}).plot().axes) == 1 + 6
