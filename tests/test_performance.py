"""The reckoning of benchmarks.performance: figures of arrivals, their tables, their file."""

import json
import sys
import types
from dataclasses import replace

import pytest

from benchmarks import schedulers
from benchmarks.performance import (
    dispatch,
    edits,
    idle,
    lateness,
    lines,
    page,
    plan,
    start,
    tables,
)
from benchmarks.performance.results import Results, found
from benchmarks.performance.servers import ROOT

SECOND = schedulers.Batch("second", 2, 1, 100.0, "second")
TEN = replace(SECOND, every=10)
CASE = plan.Case("dispatch", "kit", "1000", 5)


def test_batches_are_read_as_they_were_written():
    assert [SECOND, TEN] == schedulers.read(schedulers.written([SECOND, TEN]))
    assert [(0, "second-0"), (1, "second-1")] == list(SECOND.names())
    assert 90 == TEN.last


def test_what_was_cut_off_is_counted_as_far_as_it_came():
    figures = dispatch.reckon(10_000, 500, 25, bare=2_000)

    assert (20, 0.01, True) == (figures["rate"], figures["ratio"], figures["cut"])
    assert dispatch.reckon(500, 500, 25, bare=2_000)["cut"] is False


@pytest.mark.parametrize(
    ("part", "value"), [(0, 1), (1, 1), (50, 2), (51, 3), (75, 3), (99.9, 4), (100, 4)]
)
def test_a_percentile_is_one_of_the_values(part, value):
    assert value == lateness.percentile([1, 2, 3, 4], part)


def test_nothing_has_no_percentile():
    assert lateness.percentile([], 50) is None


def test_each_instant_is_met_late_by_what_has_passed_since():
    arrivals = [(n, 100 + second + 0.25) for second in range(3) for n in range(2)]
    figures = lateness.reckon(arrivals, SECOND, 3)

    assert (0.25, 0.25) == (figures["p50"], figures["max"])
    assert (0, 0) == (figures["missed"], figures["doubled"])
    assert pytest.approx(0) == figures["drift"]
    assert len(plan.GRID) == len(figures["quantiles"])


def test_what_comes_after_the_next_instant_is_missing_at_one_and_doubled_at_the_other():
    figures = lateness.reckon([(0, 100.1), (0, 102.1), (0, 102.2)], replace(SECOND, number=1), 3)

    assert pytest.approx(1 / 3) == figures["missed"]
    assert pytest.approx(1 / 3) == figures["doubled"]
    assert figures["drift"] is None


def test_what_comes_before_or_after_the_minute_does_not_count():
    figures = lateness.reckon([(0, 99.9), (0, 103.1)], replace(SECOND, number=1), 3)

    assert (1, 0, None) == (figures["missed"], figures["doubled"], figures["p50"])
    assert [] == figures["quantiles"]


@pytest.mark.parametrize("drift", [0.6, 6, -1.2])
def test_drift_is_told_in_seconds_a_minute_also_beyond_an_interval(drift):
    instants = [100.5 + second * (1 + drift / 60) for second in range(60)]

    found = lateness.reckon([(0, at) for at in instants], replace(SECOND, number=1), 60)["drift"]

    assert pytest.approx(drift, rel=0.15) == found


def test_an_edit_is_obeyed_at_its_first_message():
    figures = edits.reckon([10.0, 20.0, 30.0], [(1, 20.5), (0, 12.0), (0, 13.0)])

    assert (1, [2.0, 0.5]) == (figures["missing"], figures["values"])
    assert (1.25, 2.0) == (figures["p50"], figures["max"])


def test_a_message_that_comes_before_its_commit_was_answered_took_no_time():
    assert [0.0] == edits.reckon([10.0], [(0, 9.99)])["values"]


def test_edits_that_nobody_obeyed_have_no_median():
    assert edits.reckon([10.0], [])["p50"] is None


def test_the_look_itself_is_no_command_of_the_scheduler():
    before = {"at": 0, "cpu": 1.0, "statements": 5, "commands": 10}
    after = {"at": 30, "cpu": 1.3, "statements": 26, "commands": 21}

    assert {"cpu": pytest.approx(0.01), "statements": 42, "commands": 20} == idle.reckon(
        before, after
    )


def test_what_the_database_does_not_count_is_not_told():
    look = {"at": 0, "cpu": 0, "statements": None, "commands": 0}

    assert idle.reckon(look, {**look, "at": 60, "commands": 1})["statements"] is None


def test_every_other_round_goes_backwards_without_what_takes_long():
    short, long = CASE, replace(CASE, name="100000", rounds=1)

    assert [(1, short), (1, long), (2, short)] == list(plan.ordered([short, long], 2))
    assert [(1, short), (1, short), (2, short), (2, short)] == list(plan.ordered([short, short], 2))
    assert pytest.approx(15 / 60) == plan.minutes([short, long], 2)


def test_results_are_there_at_once_and_only_failures_are_tried_again(tmp_path):
    path = tmp_path / "new" / "results.json"
    results = Results.read(path, "full")
    results.add(CASE, 1, figures={"rate": 5})
    results.add(CASE, 2, failed="no")

    again = Results.read(path, "full")

    assert again.has(CASE, 1)
    assert not again.has(CASE, 2)
    assert not again.has(CASE, 3)
    assert {"kit": {"1000": [{"rate": 5}, {"failed": "no"}]}} == found(again.document, "dispatch")

    again.add(CASE, 2, figures={"rate": 6})

    assert [{"rate": 5}, {"rate": 6}] == found(json.loads(path.read_text()), "dispatch")["kit"][
        "1000"
    ]


def test_results_of_another_scale_are_not_mixed(tmp_path):
    Results.read(tmp_path / "results.json", "quick").describe(date="2026-01-01")

    with pytest.raises(ValueError, match="of scale quick, not full"):
        Results.read(tmp_path / "results.json", "full")


def test_what_is_known_of_versions_is_added_to(tmp_path):
    results = Results.read(tmp_path / "results.json", "full")
    results.describe(versions={"kit": {"celery": "5"}})
    results.describe(versions={"beat": {"celery": "6"}}, date="today")

    assert {"kit": {"celery": "5"}, "beat": {"celery": "6"}} == results.document["versions"]


@pytest.mark.parametrize(
    ("rounds", "told"),
    [
        ([{"rate": 5.0}], "5.00"),
        ([{"rate": 1234}, {"rate": 12.34}, {"rate": 100}], "100 (12.3 to 1,234)"),
        ([{"rate": 5.0}, {"failed": "no"}], "5.00"),
        ([{"rate": 0.0123}], "0.012"),
        ([{"failed": "no"}], "failed"),
        ([{"rate": None}], tables.NONE),
        ([], tables.NONE),
        (None, tables.NONE),
    ],
)
def test_a_figure_is_its_median_and_spread(rounds, told):
    assert told == tables.spread(rounds, "rate")


def document(**measurements):
    return {
        "scale": "quick",
        "date": "2026-01-02",
        "machine": {"cores": 2, "cpu": "chip", "memory_gb": 4, "kernel": "6", "python": "3"},
        "servers": {"PostgreSQL": "15", "fsync": "on", "Redis": "7"},
        "versions": {"kit": {"celery": "5.7.0"}},
        "measurements": [
            {"measure": measure, "round": 1, **one}
            for measure, each in measurements.items()
            for one in each
        ],
    }


def test_tables_have_a_row_for_each_and_a_column_for_each_size():
    rate = {"bare": 100, "ratio": 2, "messages": 1, "seconds": 1}
    told = tables.all_of(
        document(
            dispatch=[
                {
                    "contender": "kit",
                    "case": "1000",
                    "figures": {**rate, "rate": 1234, "cut": False},
                },
                {"contender": "beat", "case": "1000", "figures": {**rate, "rate": 20, "cut": True}},
                {"contender": "kit", "case": "10000", "failed": "no"},
            ]
        )
    )

    assert "| | 1,000 | 10,000 |" in told
    assert "| celery-sqlalchemy-kit | 1,234 | failed |" in told
    assert f"| celery beat | 20.0, cut | {tables.NONE} |" in told
    assert "celery-redbeat" not in told
    assert "- dispatch, kit, 10000: no" in told
    assert "**This was a quick run" in told
    assert "## Edits" not in told


def test_lines_stand_under_their_titles():
    told = tables.all_of(
        document(
            lines=[
                {
                    "contender": "bulk",
                    "case": "kit",
                    "figures": {"title": "Many at once", "figures": {"rate a s": 5, "by": "SQL"}},
                }
            ]
        )
    )

    assert "## Many at once" in told
    assert "| rate a s | 5.00 | - |" in told
    assert "| by | SQL | - |" in told


def test_a_line_is_asked_for_its_title_and_its_figures(monkeypatch):
    stub = types.ModuleType("stub_lines.bulk")
    stub.TITLE = "Many at once"
    stub.measure = lambda database, broker, *, scale: {"at": f"{database} {broker} {scale}"}
    monkeypatch.setitem(sys.modules, "stub_lines", types.ModuleType("stub_lines"))
    monkeypatch.setitem(sys.modules, "stub_lines.bulk", stub)

    told = lines.told("bulk", "sql:", "redis:", 0.5, folder="stub_lines")

    assert {"title": "Many at once", "figures": {"at": "sql: redis: 0.5"}} == told


def test_the_page_keeps_its_frame():
    old = f"before\n{page.BEGIN}\nold\n{page.END}\nafter"

    once = page.written(old, "new")

    assert f"before\n{page.BEGIN}\n\nnew\n\n{page.END}\nafter" == once
    assert once == page.written(once, "new")


def test_a_page_without_marks_is_not_written():
    with pytest.raises(ValueError, match="no <!-- figures"):
        page.written("a page", "new")


def test_a_plot_stands_below_its_heading():
    told = page.illustrated("## Edits\n\ntable\n", ["edits"], "performance")

    assert told.startswith("## Edits\n\n![From an edit")
    assert "(performance/edits.svg)" in told
    assert told.endswith("\n\ntable\n")


def test_the_page_has_a_place_for_figures():
    assert page.written((ROOT / "docs" / "performance.md").read_text(), "new")


def test_each_scheduler_is_a_module_and_is_measured():
    for scheduler in schedulers.SCHEDULERS:
        assert (ROOT / f"{scheduler.module.replace('.', '/')}.py").exists()
        for measure in (dispatch, idle, lateness, start):
            cases = list(measure.cases(scheduler, plan.QUICK))

            assert {scheduler.name} == {case.contender for case in cases}
            assert len(cases) == len({case.name for case in cases})


def test_what_needs_a_restart_has_no_edits():
    assert [] == list(edits.cases(schedulers.BEAT, plan.FULL))
    assert ["idle", "busy"] == [case.name for case in edits.cases(schedulers.KIT, plan.FULL)]
