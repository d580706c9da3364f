"""What the benchmarks tell of what they have seen."""

import math
from uuid import UUID

from benchmarks.arrivals import judged
from benchmarks.lines import alone
from benchmarks.lines.burst import drift
from benchmarks.percentiles import lateness, percentile
from benchmarks.statements import Asked, calls, counted

A, B, C = (UUID(int=number) for number in range(3))


def test_a_percentile_is_one_of_the_values():
    values = [0.1 * n for n in range(1, 101)]

    assert values[49] == percentile(values, 0.5)
    assert values[98] == percentile(values[::-1], 0.99)
    assert values[-1] == percentile(values, 1)
    assert values[0] == percentile(values[:1], 0.01)


def test_there_is_no_percentile_of_nothing():
    assert math.isnan(percentile([], 0.5))
    assert math.isnan(lateness([])["late max, ms"])


def test_lateness_is_told_in_milliseconds():
    assert {"late p50, ms": 2, "late p99, ms": 30, "late max, ms": 30} == lateness([0.03, 0.002, 0])


def test_what_arrives_twice_or_never_is_told():
    seen = [(A, 10.5), (B, 11.0), (B, 11.5), (C, 99)]
    found = judged(seen, {A: 10, B: 11}, expected=3)

    assert (2, 1, 1) == tuple(found[name] for name in ("arrived", "not arrived", "arrived twice"))
    assert 500 == found["late max, ms"]


def test_drift_is_what_the_end_is_later_than_the_beginning():
    keys = [UUID(int=number) for number in range(20)]
    due = {key: float(number) for number, key in enumerate(keys)}
    seen = [(key, due[key] + (0.5 if due[key] >= 18 else 0.25)) for key in keys]

    assert 0.25 == drift(seen, due)


def test_what_frames_a_transaction_is_no_statement():
    asked = [Asked("BEGIN", 3, 0), Asked("COMMIT", 2, 0), Asked("ROLLBACK", 1, 0)]
    asked += [Asked("SELECT 1", 4, 1.0), Asked("SELECT 2", 5, 1.0)]

    assert (9, 2) == counted(asked)
    assert 9 == calls(asked, "SELECT")


def test_figures_are_shown_as_briefly_as_they_are_exact():
    assert ["3", "1,234", "0.25", "nan", "text"] == [
        alone.shown(value) for value in (3, 1234.5, 0.25, math.nan, "text")
    ]
