"""What becomes of a routine, held against the rules applied by hand, occurrence by occurrence."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_sqlalchemy_kit import due, schedules
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.due import (
    Decision,
    Limits,
    Missed,
    Occurrence,
    after,
    decide,
    decision,
    due_at,
    once,
    series,
)
from celery_sqlalchemy_kit.routines import CatchUp, Cause, Routine
from celery_sqlalchemy_kit.schedules import Interval, Schedule

ID = UUID("11111111-2222-3333-4444-555555555555")
NINE = datetime(2026, 5, 5, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
LIMITS = Limits()
MANY = "more than the catch-up limit"

properties = settings(deadline=None, database=None, max_examples=150)


def at(text: str) -> datetime:
    """The instant of a time of day, such as 09:00:15, on the day of these tests."""
    return datetime.fromisoformat(f"2026-05-05 {text}").replace(tzinfo=UTC)


def every(seconds, **fields) -> Routine:
    """A routine every so many seconds."""
    return Routine(ID, "poll", "tasks.poll", schedules.parse(seconds), **fields)


def pending(seconds, occurrence, **fields) -> Routine:
    """The same, planned: *occurrence* is what is pending."""
    routine = every(seconds, occurrence_at=occurrence, **fields)
    return replace(routine, next_run_at=due_at(routine, occurrence))


def scheduled(*instants: datetime) -> tuple[Occurrence, ...]:
    return tuple(Occurrence(instant, Cause.SCHEDULE) for instant in instants)


def caught_up(*instants: datetime) -> tuple[Occurrence, ...]:
    return tuple(Occurrence(instant, Cause.CATCH_UP) for instant in instants)


def manual(instant: datetime) -> tuple[Occurrence, ...]:
    return (Occurrence(instant, Cause.MANUAL),)


OVER = {"occurrence_at": None, "next_run_at": None, "over": True}


def then(occurrence: datetime) -> dict[str, datetime]:
    """What is pending afterwards, without jitter."""
    return {"occurrence_at": occurrence, "next_run_at": occurrence}


# -- the rules by hand ------------------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """A schedule whose occurrences are found by walking: step by step, or minute by minute."""

    schedule: Schedule
    #: About the time from one occurrence to the next.
    period: timedelta
    #: Of a crontab, the minutes that match.
    matches: Callable[[datetime], bool] | None = None

    def first_after(self, instant: datetime, phase: datetime) -> datetime:
        if self.matches is None:
            while phase > instant:
                phase -= self.period
            while phase <= instant:
                phase += self.period
            return phase
        minute = instant.replace(second=0, microsecond=0) + MINUTE
        while not self.matches(minute):
            minute += MINUTE
        return minute

    def through(self, first: datetime, last: datetime) -> list[datetime]:
        """*first* and all occurrences after it, at or before *last*."""
        found = [first]
        while (following := self.first_after(found[-1], first)) <= last:
            found.append(following)
        return found

    def has(self, instant: datetime) -> bool:
        return self.matches is None or (
            instant == instant.replace(second=0, microsecond=0) and self.matches(instant)
        )


CRONTABS = [
    Walk(schedules.parse(fields), period, matches)
    for fields, period, matches in [
        ({"minute": "*"}, MINUTE, lambda _: True),
        ({"minute": "*/7"}, 7 * MINUTE, lambda t: t.minute % 7 == 0),
        ({"minute": 15, "hour": "*/3"}, 3 * HOUR, lambda t: (t.minute, t.hour % 3) == (15, 0)),
        ({"minute": [0, 30], "hour": "9-11"}, HOUR, lambda t: t.minute in (0, 30) and t.hour in (9, 10, 11)),
        ({"minute": 0, "hour": 9}, DAY, lambda t: (t.minute, t.hour) == (0, 9)),
    ]
]  # fmt: skip


def shares(most):
    """A multiple of a period, up to so many."""
    return st.integers(0, most * 100).map(lambda share: share / 100)


walks = st.one_of(
    st.integers(10_000, 10**11).map(lambda us: Walk(Interval(us * MICROSECOND), us * MICROSECOND)),
    st.sampled_from(CRONTABS),
)


@st.composite
def situations(draw):
    """A planned routine that is due, how it is walked, the present, and the limits."""
    walk = draw(walks)
    oldest = walk.first_after(NINE + walk.period * draw(shares(20)), NINE + MICROSECOND)
    periods = shares(10).map(lambda share: share * walk.period)
    total = draw(st.integers(0, 5))
    routine = Routine(
        ID,
        "poll",
        "tasks.poll",
        walk.schedule,
        occurrence_at=oldest,
        total_run_count=total,
        catch_up=draw(st.sampled_from(CatchUp)),
        jitter_seconds=draw(st.sampled_from([0, 0.3, 1, 3])) * walk.period.total_seconds(),
        ends_at=draw(st.none() | periods.map(lambda later: oldest + later)),
        max_runs=draw(st.none() | st.integers(total, total + 6)),
    )
    routine = replace(routine, next_run_at=due_at(routine, oldest))
    now = routine.next_run_at + draw(periods)
    limits = Limits(
        misfire_grace=draw(periods),
        catch_up_limit=draw(st.integers(1, 8)),
        busy_since=draw(st.none() | periods.map(lambda ago: now - ago)),
    )
    return routine, walk, now, limits


def by_the_rules(routine: Routine, walk: Walk, now: datetime, limits: Limits) -> Decision:
    """What DESIGN's policies say of a routine that is due."""
    oldest = routine.occurrence_at
    last = now if routine.ends_at is None else min(now, routine.ends_at)
    came = [o for o in walk.through(oldest, last) if due_at(routine, o) <= now]
    left = float("inf") if routine.max_runs is None else routine.max_runs - routine.total_run_count
    if not left:
        return Decision((), (), **OVER)

    seen = now if limits.busy_since is None else min(now, limits.busy_since)
    late = seen - due_at(routine, oldest) > limits.misfire_grace
    if not late or routine.catch_up is CatchUp.ALL:
        chosen, reason = came[-limits.catch_up_limit :], MANY
    elif routine.catch_up is CatchUp.LATEST:
        chosen, reason = came[-1:], "late: catch_up = latest"
    else:
        chosen, reason = [], "late: catch_up = skip"

    others = [o for o in came if o not in chosen]
    missed = (Missed(others[0], others[-1], len(others), reason),) if others else ()
    runs = chosen if left == float("inf") else chosen[:left]
    following = walk.first_after(came[-1], oldest)
    over = len(runs) == left or (routine.ends_at is not None and following > routine.ends_at)
    cause = Cause.CATCH_UP if late else Cause.SCHEDULE
    return Decision(
        tuple(Occurrence(o, cause) for o in runs),
        missed,
        None if over else following,
        None if over else due_at(routine, following),
        over=over,
    )


@properties
@given(situations())
def test_a_due_routine_is_dealt_with_by_the_rules(situation):
    routine, walk, now, limits = situation

    assert by_the_rules(routine, walk, now, limits) == decide(routine, now, limits)


@pytest.mark.parametrize(
    ("catch_up", "late_by", "runs", "missed"),
    [
        ("latest", 59, scheduled(*(NINE + 15 * n * SECOND for n in range(4))), ()),
        ("latest", 60, scheduled(*(NINE + 15 * n * SECOND for n in range(5))), ()),
        ("latest", 61, caught_up(at("09:01:00")), (Missed(NINE, at("09:00:45"), 4, "late: catch_up = latest"),)),
        ("skip", 60, scheduled(*(NINE + 15 * n * SECOND for n in range(5))), ()),
        ("skip", 61, (), (Missed(NINE, at("09:01:00"), 5, "late: catch_up = skip"),)),
        ("all", 61, caught_up(*(NINE + 15 * n * SECOND for n in range(5))), ()),
        ("all", 3600, caught_up(*(at("09:35:15") + 15 * n * SECOND for n in range(100))), (Missed(NINE, at("09:35:00"), 141, MANY),)),
        ("latest", 3600, caught_up(at("10:00:00")), (Missed(NINE, at("09:59:45"), 240, "late: catch_up = latest"),)),
    ],
)  # fmt: skip
def test_a_backlog_of_an_interval_becomes(catch_up, late_by, runs, missed):
    routine = pending(15, NINE, catch_up=CatchUp(catch_up))
    now = NINE + late_by * SECOND
    following = now + (15 - late_by % 15) * SECOND

    assert Decision(runs, missed, **then(following)) == decide(routine, now, LIMITS)


def test_a_routine_that_is_on_time_runs_once():
    expected = Decision(scheduled(NINE), (), **then(at("09:00:15")))

    assert expected == decide(pending(15, NINE), NINE + SECOND / 50, LIMITS)


def test_within_the_grace_too_no_more_run_than_the_limit():
    decision = decide(pending(0.1, NINE), NINE + 20 * SECOND, LIMITS)

    assert 100 == len(decision.occurrences)
    assert (Missed(NINE, at("09:00:10"), 101, MANY),) == decision.missed


def test_lateness_that_came_about_while_the_schedulers_were_busy_is_no_miss():
    routine = pending(600, NINE, catch_up=CatchUp.SKIP)
    busy_since_then = Limits(busy_since=NINE + 60 * SECOND)
    busy_since_later = Limits(busy_since=NINE + 61 * SECOND)
    now = NINE + 300 * SECOND

    assert scheduled(NINE) == decide(routine, now, busy_since_then).occurrences
    assert () == decide(routine, now, busy_since_later).occurrences


def test_the_lateness_of_a_jittered_occurrence_is_counted_from_when_it_was_due():
    routine = pending(DAY.total_seconds(), NINE, jitter_seconds=3600, catch_up=CatchUp.SKIP)
    assert routine.next_run_at > NINE + 5 * MINUTE

    on_time = decide(routine, routine.next_run_at + 60 * SECOND, LIMITS)
    late = decide(routine, routine.next_run_at + 61 * SECOND, LIMITS)

    assert scheduled(NINE) == on_time.occurrences
    assert () == late.occurrences


# -- over a sequence --------------------------------------------------------------------------


class World:
    """A row of ``routines`` as the claim and the triggers keep it, and what came of it."""

    def __init__(self, routine: Routine, now: datetime) -> None:
        self.row = replace(routine, edited_at=now)
        self.active = True
        self.now = now
        self.runs: list[Occurrence] = []
        self.missed: list[Missed] = []
        #: Off: occurrences after the first, up to the second, are nobody's.
        self.off: list[tuple[datetime, datetime]] = []

    def claim(self, limits: Limits) -> None:
        while self.active and (self.row.next_run_at is None or self.row.next_run_at <= self.now):
            decision = decide(self.row, self.now, limits)
            if self.row.paused_at is not None:
                self.off.append((self.row.paused_at, self.row.edited_at))
            self.runs += decision.occurrences
            self.missed += decision.missed
            counted = [o for o in decision.occurrences if o.cause is not Cause.MANUAL]
            self.active = not decision.over
            self.row = replace(
                self.row,
                occurrence_at=decision.occurrence_at,
                next_run_at=decision.next_run_at,
                last_run_at=self.now if decision.occurrences else self.row.last_run_at,
                total_run_count=self.row.total_run_count + len(counted),
                paused_at=None,
            )

    def edit(self, **fields) -> None:
        """An UPDATE of what planning depends on."""
        self.row = replace(self.row, edited_at=self.now, **{"next_run_at": None, **fields})

    def switch(self, *, on: bool) -> None:
        if on != self.active:
            self.active = on
            self.edit(paused_at=self.row.paused_at or (None if on else self.now))

    def order(self, instant: datetime) -> None:
        self.row = replace(self.row, next_run_at=instant)

    def settled(self, occurrence: datetime) -> int:
        """How often an occurrence has run or been recorded as missed."""
        ran = sum(o.scheduled_for == occurrence and o.cause is not Cause.MANUAL for o in self.runs)
        return ran + sum(m.scheduled_for <= occurrence <= m.until for m in self.missed)


events = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from([LIMITS, Limits(timedelta(0), 3)])),
    st.tuples(st.just("edit"), st.sampled_from([0, 0.4, 2])),
    st.tuples(st.just("switch"), st.booleans()),
    st.tuples(st.just("order"), st.integers(-300, 300).map(lambda share: share / 100)),
)
long = st.integers(20_000, 10**9).map(lambda us: Walk(Interval(us * MICROSECOND), us * MICROSECOND))
histories = st.lists(st.tuples(shares(6), events), max_size=12)


@properties
@given(
    walk=st.one_of(long, st.sampled_from(CRONTABS[:4])),
    catch_up=st.sampled_from(CatchUp),
    jitter=st.sampled_from([0, 0, 0.4, 2]),
    history=histories,
)
def test_every_occurrence_runs_once_or_is_covered_by_one_record_whatever_happens(
    walk, catch_up, jitter, history
):
    """Claims at any time, orders by hand, edits of the jitter, switching off and on."""
    seconds = walk.period.total_seconds()
    routine = Routine(ID, "poll", "tasks.poll", walk.schedule, catch_up=catch_up)
    world = World(replace(routine, jitter_seconds=jitter * seconds), NINE)
    world.claim(LIMITS)
    first = world.row.occurrence_at
    orders = 0
    for wait, (what, value) in [*history, (2, ("switch", True)), (1, ("claim", LIMITS))]:
        world.now += wait * walk.period
        if what == "claim":
            world.claim(value)
        elif what == "edit":
            world.edit(jitter_seconds=value * seconds)
        elif what == "switch":
            world.switch(on=value)
        else:
            orders += 1
            world.order(world.now + value * walk.period + MICROSECOND)
    world.row = replace(world.row, next_run_at=min(world.row.next_run_at, world.now + walk.period))
    world.now += walk.period
    world.claim(LIMITS)

    past = [o for o in walk.through(first, world.row.occurrence_at) if o < world.row.occurrence_at]
    nobodys = {o for o in past if any(begin < o <= end for begin, end in world.off)}
    counts = {o: world.settled(o) for o in past}
    assert {o: int(o not in nobodys) for o in past} == counts
    assert set(past) >= {o.scheduled_for for o in world.runs if o.cause is not Cause.MANUAL}
    assert sum(m.count for m in world.missed) + world.row.total_run_count == sum(counts.values())
    assert walk.has(world.row.occurrence_at)
    assert orders + 1 >= sum(o.cause is Cause.MANUAL for o in world.runs)


@properties
@given(
    microseconds=st.integers(10_000, 10**9),
    lateness=st.lists(st.integers(0, 400), min_size=1, max_size=30),
)
def test_the_phase_never_drifts_however_late_the_claims_are(microseconds, lateness):
    interval = microseconds * MICROSECOND
    world = World(every(interval), NINE)
    world.claim(LIMITS)
    for percent in lateness:
        world.now = world.row.next_run_at + interval * percent / 100
        world.claim(LIMITS)

        assert timedelta(0) == (world.row.occurrence_at - NINE) % interval
    assert {timedelta(0)} == {(o.scheduled_for - NINE) % interval for o in world.runs}


@properties
@given(
    most=st.integers(1, 8),
    waits=st.lists(st.integers(1, 700), min_size=1, max_size=30),
    catch_up=st.sampled_from(CatchUp),
)
def test_max_runs_is_never_passed_and_switches_the_routine_off(most, waits, catch_up):
    world = World(every(10, max_runs=most, catch_up=catch_up), NINE)
    for wait in waits:
        world.claim(LIMITS)
        world.now += wait * SECOND
    world.claim(LIMITS)

    assert (len(world.runs) < most) == world.active
    assert min(most, len(world.runs)) == world.row.total_run_count
    counts = [world.settled(o.scheduled_for) for o in world.runs]
    assert [1] * len(world.runs) == counts


def test_a_crontab_follows_the_wall_of_its_zone_over_a_change_of_clocks():
    berlin = ZoneInfo("Europe/Berlin")
    nine_in_berlin = {"minute": 0, "hour": 9, "timezone": "Europe/Berlin"}
    world = World(every(nine_in_berlin), datetime(2026, 3, 26, tzinfo=UTC))
    for _ in range(6):
        world.claim(LIMITS)
        world.now = world.row.next_run_at or world.now

    walls = [o.scheduled_for.astimezone(berlin).strftime("%m-%d %H:%M") for o in world.runs]
    assert ["03-26 09:00", "03-27 09:00", "03-28 09:00", "03-29 09:00", "03-30 09:00"] == walls


# -- jitter -----------------------------------------------------------------------------------


@properties
@given(walk=walks, jitter=st.floats(0, 10), start=shares(20))
def test_jitter_never_reaches_the_next_occurrence_nor_passes_its_bound(walk, jitter, start):
    seconds = jitter * walk.period.total_seconds()
    occurrence = walk.first_after(NINE + start * walk.period, NINE)
    routine = every(walk.schedule, jitter_seconds=seconds)
    share = due_at(routine, occurrence) - occurrence

    assert timedelta(0) <= share <= timedelta(seconds=seconds)
    assert occurrence + share < walk.first_after(occurrence, occurrence)
    assert share == due_at(routine, occurrence.astimezone(ZoneInfo("Asia/Tokyo"))) - occurrence


def test_jitter_spreads_routines_and_occurrences():
    routines = [replace(every(3600, jitter_seconds=60), id=UUID(int=n)) for n in range(200)]
    shares_of_one = [due_at(routines[0], NINE + n * HOUR) - (NINE + n * HOUR) for n in range(200)]
    shares_of_all = [due_at(routine, NINE) - NINE for routine in routines]

    for found in (shares_of_one, shares_of_all):
        assert 200 == len(set(found))
        assert min(found) < 5 * SECOND
        assert max(found) > 55 * SECOND
        assert abs(sum(found, timedelta(0)) / 200 - 30 * SECOND) < 5 * SECOND


def test_the_share_of_the_jitter_is_the_same_for_ever():
    """Worked out by every scheduler anew: another formula would make rows look set by hand."""
    assert at("09:00:46.946473") == due_at(every(3600, jitter_seconds=60), NINE)


def test_jitter_at_the_end_of_time_is_none():
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

    assert last == due_at(every(60, jitter_seconds=3600), last)


# -- bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routine", "now", "expected"),
    [
        (every(60, starts_at=at("10:00")), NINE, Decision((), (), **then(at("10:00")))),
        (every(60, starts_at=at("08:59:30")), NINE, Decision((), (), **then(at("09:00:30")))),
        (every({"minute": "*/7"}, starts_at=at("10:01")), NINE, Decision((), (), **then(at("10:07")))),
        (every({"minute": "*/7"}, starts_at=at("10:07")), NINE, Decision((), (), **then(at("10:07")))),
        (every(60, ends_at=at("09:01:00")), NINE, Decision((), (), **then(at("09:01")))),
        (every(60, ends_at=at("09:00:59")), NINE, Decision((), (), **OVER)),
        (every(60, starts_at=at("10:00"), ends_at=at("09:30")), NINE, Decision((), (), **OVER)),
        (every(60, max_runs=0), NINE, Decision((), (), **OVER)),
        (every(60, max_runs=3, total_run_count=3), NINE, Decision((), (), **OVER)),
        (every(60, max_runs=3, total_run_count=2), NINE, Decision((), (), **then(at("09:01")))),
        (pending(60, NINE, ends_at=at("09:01")), at("09:00"), Decision(scheduled(NINE), (), **then(at("09:01")))),
        (pending(60, NINE, ends_at=at("09:00:59")), at("09:00"), Decision(scheduled(NINE), (), **OVER)),
        (pending(60, NINE, max_runs=1), at("09:00"), Decision(scheduled(NINE), (), **OVER)),
        (pending(60, NINE, max_runs=2), at("09:00"), Decision(scheduled(NINE), (), **then(at("09:01")))),
        (pending(60, NINE, starts_at=NINE), at("09:00"), Decision(scheduled(NINE), (), **then(at("09:01")))),
        (pending(60, NINE, ends_at=at("09:02"), catch_up=CatchUp.SKIP), at("12:00"), Decision((), (Missed(NINE, at("09:02"), 3, "late: catch_up = skip"),), **OVER)),
    ],
)  # fmt: skip
def test_bounds_decide(routine, now, expected):
    assert expected == decide(replace(routine, edited_at=now), now, LIMITS)


def test_the_phase_of_what_has_none_yet_is_that_of_its_start():
    routine = every(60, starts_at=at("10:00:20"))

    assert Decision((), (), **then(at("10:00:20"))) == decide(routine, NINE, LIMITS)


def test_of_a_backlog_within_the_grace_the_oldest_use_up_max_runs():
    """As they would have, had the scheduler been awake; what would have followed never was."""
    routine = pending(1, NINE, max_runs=5, total_run_count=3)
    expected = Decision(scheduled(NINE, NINE + SECOND), (), **OVER)

    assert expected == decide(routine, NINE + 10 * SECOND, LIMITS)


def test_a_schedule_that_never_comes_again_is_over():
    routine = pending(DAY.total_seconds(), datetime(9999, 12, 31, 9, tzinfo=UTC))

    assert decide(routine, routine.next_run_at, LIMITS).over


# -- ordered by hand --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routine", "ordered", "now", "following"),
    [
        (pending(3600, at("10:00")), at("09:20"), at("09:20:01"), at("10:00")),
        (pending(3600, at("10:00")), at("03:00"), at("09:20:01"), at("10:00")),
        (pending(3600, at("10:00")), at("11:30"), at("11:30:00"), at("10:00")),
        (pending(3600, at("10:00")), at("09:20"), at("10:00:00"), at("10:00")),
        (pending(3600, at("10:00"), max_runs=1), at("09:20"), at("09:20:01"), at("10:00")),
        (pending({"minute": 0, "hour": 10}, at("10:00")), at("09:20"), at("09:20:01"), at("10:00")),
        (every(60), at("09:20"), at("09:20:01"), at("09:21:01")),
        (every(60, starts_at=at("12:00")), at("09:20"), at("09:20:01"), at("12:00")),
    ],
)  # fmt: skip
def test_an_order_by_hand_runs_once_and_leaves_what_is_pending(routine, ordered, now, following):
    expected = Decision(manual(ordered), (), **then(following))

    assert expected == decide(replace(routine, next_run_at=ordered), now, LIMITS)


def test_an_order_by_hand_for_the_very_occurrence_is_that_occurrence():
    routine = replace(pending(60, NINE), next_run_at=NINE)

    assert scheduled(NINE) == decide(routine, NINE, LIMITS).occurrences


def test_what_came_due_behind_an_order_by_hand_is_dealt_with_after_it():
    world = World(pending(60, NINE), NINE - 30 * SECOND)
    world.order(at("09:01:30"))
    world.now = at("09:01:30")
    world.claim(Limits(misfire_grace=10 * MINUTE))

    assert [*manual(at("09:01:30")), *scheduled(NINE, at("09:01"))] == world.runs


def test_an_order_by_hand_after_max_runs_is_the_last_and_misses_nothing():
    routine = every(60, max_runs=1, total_run_count=1, next_run_at=NINE)

    assert Decision(manual(NINE), (), **OVER) == decide(routine, NINE, LIMITS)


def test_an_order_by_hand_with_a_new_schedule_forgets_what_the_old_one_had_pending():
    """Both in one UPDATE: ``next_run_at`` stays, and ``occurrence_at`` is the old schedule's."""
    daily = every({"minute": 0, "hour": 9}, occurrence_at=at("08:00:15"), edited_at=at("08:00:10"))
    expected = Decision(manual(at("08:30")), (), **then(at("09:00")))

    assert expected == decide(replace(daily, next_run_at=at("08:30")), at("08:30"), LIMITS)


def test_an_order_by_hand_with_a_shorter_interval_does_not_wait_for_the_longer_one():
    each_minute = every(60, occurrence_at=at("10:00:20"), edited_at=NINE, next_run_at=NINE)
    expected = Decision(manual(NINE), (), **then(at("09:00:20")))

    assert expected == decide(each_minute, NINE, LIMITS)


def test_an_order_by_hand_with_the_switch_turned_on_catches_up_no_paused_time():
    """Both in one UPDATE: time off is nobody's, whether ``next_run_at`` was cleared or set."""
    routine = every(60, occurrence_at=at("08:00"), paused_at=at("07:59:30"), edited_at=NINE)
    now = NINE + 10 * SECOND
    expected = Decision(manual(now), (), **then(at("09:01")))

    assert expected == decide(replace(routine, next_run_at=now), now, LIMITS)


def test_an_order_by_hand_does_not_go_back_behind_a_run_when_the_clock_does():
    routine = pending(60, at("09:01"), last_run_at=NINE)
    now = at("08:30")

    assert at("09:01") == decide(replace(routine, next_run_at=now), now, LIMITS).occurrence_at


# -- planning ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routine", "now", "expected"),
    [
        (every(60), at("09:00:05"), then(at("09:01:00"))),
        (every({"minute": 0, "hour": 9}), at("09:00:05"), then(at("09:00") + DAY)),
        (every({"minute": 0, "hour": 9}), at("08:00"), then(at("09:00") + DAY)),
        (every(60, starts_at=at("08:00:20")), at("09:00:05"), then(at("09:00:20"))),
        (every(60, last_run_at=at("08:58:07")), at("09:00:05"), then(at("09:00:07"))),
        (every(60), at("09:10:00"), then(at("09:01:00"))),
    ],
)  # fmt: skip
def test_a_new_routine_is_planned_from_when_it_came(routine, now, expected):
    """In the last case nobody was there to plan it for ten minutes: it is late, not forgotten."""
    assert Decision((), (), **expected) == decide(replace(routine, edited_at=NINE), now, LIMITS)


@pytest.mark.parametrize(
    ("seconds", "due", "edited", "now", "runs", "missed", "following"),
    [
        # Before anything was due: the phase is kept, the rhythm is the new one's.
        (60, "09:00", "08:59:30", "08:59:31", [], None, "09:00"),
        (60, "09:00", "08:58:30", "08:59:31", [], None, "08:59"),
        ({"minute": "*/7"}, "09:00:15", "08:59:30", "08:59:31", [], None, "09:00"),
        # Within the grace: it runs.
        (60, "09:00", "09:00:03", "09:00:04", ["09:00"], None, "09:01"),
        (60, "09:00", "09:00:03", "09:01:00", ["09:00"], None, "09:01"),
        ({"minute": "*/7"}, "09:00:15", "09:00:20", "09:00:21", ["09:00:15"], None, "09:07"),
        # Beyond it: missed.
        (120, "09:00", "09:00:03", "09:01:01", [], ("09:00", 1), "09:02"),
        (60, "09:00", "09:00:03", "09:05:00", [], ("09:00", 1), "09:01"),
        (60, "09:00", "09:00:00", "09:05:00", [], ("09:00", 1), "09:01"),
        # Several had come.
        (1, "09:00:00", "09:00:03", "09:00:04", ["09:00:00"], ("09:00:03", 3), "09:00:04"),
        (60, "09:00", "10:00:30", "10:00:31", [], ("10:00", 61), "10:01"),
    ],
)  # fmt: skip
def test_an_edit_is_planned_from_when_it_was_made(
    seconds, due, edited, now, runs, missed, following
):
    routine = every(seconds, occurrence_at=at(due), edited_at=at(edited))
    occurrences = scheduled(*(at(run) for run in runs))
    records = ()
    if missed is not None:
        newest, count = missed
        oldest = at("09:00:01") if runs else at(due)
        records = (Missed(oldest, at(newest), count, "edited"),)
    expected = Decision(occurrences, records, **then(at(following)))

    assert expected == decide(routine, at(now), LIMITS)


@pytest.mark.parametrize(
    ("paused", "resumed", "now", "missed", "following"),
    [
        ("08:59:30", "08:59:40", "08:59:41", (), "09:00"),
        ("08:59:30", "09:00:20", "09:00:21", (), "09:01"),
        ("08:59:30", "15:00:20", "15:00:21", (), "15:01"),
        ("08:59:30", "15:00:20", "15:10:00", (), "15:01"),
        ("09:00:01", "09:00:02", "09:00:03", (Missed(NINE, NINE, 1, "paused"),), "09:01"),
        ("09:00:01", "15:00:20", "15:00:21", (Missed(NINE, NINE, 1, "paused"),), "15:01"),
        ("10:00:30", "15:00:20", "15:00:21", (Missed(NINE, at("10:00"), 61, "paused"),), "15:01"),
    ],
)  # fmt: skip
def test_paused_time_is_never_caught_up(paused, resumed, now, missed, following):
    """What was due before the pause, and did not run, is recorded."""
    routine = every(60, occurrence_at=NINE, paused_at=at(paused), edited_at=at(resumed))

    assert Decision((), missed, **then(at(following))) == decide(routine, at(now), LIMITS)


@pytest.mark.parametrize(
    "bounds",
    [
        {"ends_at": at("08:59")},
        {"starts_at": at("09:30")},
        {"max_runs": 7, "total_run_count": 7},
    ],
)
def test_what_was_due_does_not_run_against_the_bounds_of_the_edit(bounds):
    routine = every(60, occurrence_at=NINE, edited_at=at("09:00:03"), **bounds)
    decision = decide(routine, at("09:00:04"), LIMITS)

    assert () == decision.occurrences
    assert (Missed(NINE, NINE, 1, "edited"),) == decision.missed


@pytest.mark.parametrize("bounds", [{"ends_at": NINE}, {"starts_at": NINE}])
def test_bounds_let_run_what_lies_on_them(bounds):
    routine = every(60, occurrence_at=NINE, edited_at=at("09:00:03"), **bounds)

    assert scheduled(NINE) == decide(routine, at("09:00:04"), LIMITS).occurrences


def test_an_edit_after_the_last_occurrence_of_all_time_runs_it():
    last = datetime(9999, 12, 31, 9, tzinfo=UTC)
    routine = every(DAY.total_seconds(), occurrence_at=last, edited_at=last + SECOND)

    assert Decision(scheduled(last), (), **OVER) == decide(routine, last + SECOND, LIMITS)


def test_what_was_due_before_the_edit_counts_for_max_runs():
    routine = every(60, occurrence_at=NINE, edited_at=at("09:00:03"), max_runs=1)

    assert Decision(scheduled(NINE), (), **OVER) == decide(routine, at("09:00:04"), LIMITS)


@pytest.mark.parametrize("edited", [NINE, at("09:05")])
def test_an_edit_leaves_what_jitter_puts_off_where_it_is(edited):
    """10,000 routines of the same time, edited together, must not run together."""
    routine = pending(DAY.total_seconds(), NINE, jitter_seconds=3600, edited_at=edited)
    expected = Decision((), (), NINE, routine.next_run_at)
    assert routine.next_run_at > at("09:06")

    assert expected == decide(replace(routine, next_run_at=None), at("09:06"), LIMITS)


def test_a_jittered_occurrence_that_was_not_due_yet_is_not_missed_by_an_edit():
    daily = {"minute": 0, "hour": 9}
    routine = pending(daily, NINE, jitter_seconds=3600)
    assert routine.next_run_at > at("09:06")
    edited = at("09:05")
    hourly = every({"minute": 30}, occurrence_at=NINE, jitter_seconds=3600, edited_at=edited)

    assert scheduled(NINE) == decide(hourly, at("09:06"), LIMITS).occurrences


def test_busy_schedulers_miss_nothing_when_it_is_edited_meanwhile():
    routine = every(600, occurrence_at=NINE, edited_at=at("09:03"))
    busy = Limits(busy_since=at("09:00:30"))

    assert scheduled(NINE) == decide(routine, at("09:04"), busy).occurrences


def test_an_occurrence_after_the_edit_waits_for_a_run_that_came_in_between():
    """Edited, then run by hand before it was planned: what is pending is not passed over."""
    routine = every(60, occurrence_at=NINE, edited_at=at("08:59:59"), last_run_at=at("09:00:01"))

    assert Decision((), (), **then(NINE)) == decide(routine, at("09:00:02"), LIMITS)


@properties
@given(
    walk=walks,
    was=walks,
    before=shares(5),
    between=shares(5),
    planned=shares(5),
    paused=st.booleans(),
)
def test_an_edit_of_the_schedule_is_planned_by_the_rules(
    walk, was, before, between, planned, paused
):
    """*was* is the schedule before; what it had pending may be no occurrence of the new one."""
    due = was.first_after(NINE, NINE)
    off = due + (before - 2) * min(walk.period, was.period)
    edited = off + between * min(walk.period, was.period)
    now = edited + planned * walk.period
    settled_until = off if paused else edited
    routine = Routine(
        ID,
        "poll",
        "tasks.poll",
        walk.schedule,
        occurrence_at=due,
        edited_at=edited,
        paused_at=off if paused else None,
    )
    decision = decide(routine, now, LIMITS)

    following = walk.first_after(edited, due)
    assert (following, following) == (decision.occurrence_at, decision.next_run_at)
    came = walk.through(due, settled_until) if due <= settled_until else []
    runs = not paused and now - due <= LIMITS.misfire_grace
    assert scheduled(*came[: int(runs)]) == decision.occurrences
    others = came[int(runs) :]
    reason = "paused" if paused else "edited"
    record = Missed(others[0], others[-1], len(others), reason) if others else None
    assert ([record] if record else []) == list(decision.missed)


anytime = st.none() | st.datetimes(timezones=st.just(UTC))
written_by_the_kit = st.none() | st.datetimes(
    datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)
)


@properties
@given(
    walk=walks,
    ours=st.fixed_dictionaries(
        dict.fromkeys(
            ("occurrence_at", "last_run_at", "edited_at", "paused_at"), written_by_the_kit
        )
    ),
    theirs=st.fixed_dictionaries(
        {
            "next_run_at": anytime,
            "starts_at": anytime,
            "ends_at": anytime,
            "jitter_seconds": st.sampled_from([0, 1e-6, 5, 31_536_000]),
            "max_runs": st.none() | st.integers(0, 3),
        }
    ),
)
def test_whatever_people_write_a_decision_comes_of_it(walk, ours, theirs):
    """An error here would fail the claim, and with it every other routine."""
    decision = decide(every(walk.schedule, **ours, **theirs), NINE, LIMITS)

    assert decision.over == (decision.occurrence_at is None) == (decision.next_run_at is None)


# -- purity -----------------------------------------------------------------------------------


def test_no_clock_is_read():
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for module in (due, after, decision, once, series)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, (ast.Attribute, ast.Name))
    }

    assert set() == names & {"today", "utcnow", "time", "monotonic", "DATABASE", "DatabaseClock"}
    assert not hasattr(due, "time")


@settings(properties, max_examples=20)
@given(situations())
def test_the_same_values_give_the_same_decision(situation):
    routine, _, now, limits = situation
    before = repr(routine)

    assert decide(routine, now, limits) == decide(routine, now, limits)
    assert before == repr(routine)
