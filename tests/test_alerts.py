"""Which routines are to be looked at, and that each change is told once."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from strategies import properties

from celery_sqlalchemy_kit import housekeeping, schedules
from celery_sqlalchemy_kit.alerts import BAD, Alert, Ended, Health, judge
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.routines import Declared, State
from celery_sqlalchemy_kit.signals import routine_failed, routine_overdue, routine_recovered
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.ledger import Begun, Ledger
from celery_sqlalchemy_kit.tables import routines, runs
from celery_sqlalchemy_kit.testing import ManualBeat

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LONG = 3600
OVERDUE, FAILED = Alert.OVERDUE, Alert.FAILED


# --- the decision -----------------------------------------------------------------------------


def health(alert=None, **fields):
    known = {"active": True, "faulty": False, "overdue": False, "last": None}
    return Health(alert, **known | fields)


def ended(state, at=NOON):
    return Ended(State(state), at)


OFF = {"active": False, "paused_at": NOON}


@pytest.mark.parametrize(
    ("routine", "alert"),
    [
        (health(), None),
        (health(last=ended("succeeded")), None),
        (health(last=ended("failed")), FAILED),
        (health(last=ended("lost")), FAILED),
        (health(last=ended("missed")), FAILED),
        (health(overdue=True), OVERDUE),
        (health(FAILED, overdue=True, last=ended("failed")), OVERDUE),
        (health(OVERDUE, last=ended("failed")), FAILED),
        (health(OVERDUE, last=ended("succeeded")), None),
        (health(OVERDUE), None),
        (health(FAILED, last=ended("succeeded")), None),
        (health(FAILED), FAILED),
        # Cannot be scheduled.
        (health(FAILED, faulty=True, last=ended("succeeded")), FAILED),
        (health(OVERDUE, faulty=True), OVERDUE),
        (health(faulty=True, last=ended("failed")), None),
        # Switched off, or over.
        (health(OVERDUE, **OFF), None),
        (health(FAILED, **OFF, last=ended("failed", NOON - SECOND)), None),
        (health(**OFF, last=ended("missed")), FAILED),  # by the claim that has ended the routine
        # Switched off, and on again.
        (health(edited_at=NOON, last=ended("failed")), None),
        (health(edited_at=NOON, last=ended("failed", NOON + SECOND)), FAILED),
        (health(FAILED, edited_at=NOON, last=ended("failed")), FAILED),
        (health(FAILED, **OFF, last=ended("failed", NOON + SECOND)), FAILED),
        (health(**OFF, last=ended("failed", NOON + SECOND)), FAILED),
        (health(FAILED, **OFF, last=ended("succeeded", NOON + SECOND)), None),
        (health(FAILED, active=False, last=ended("failed")), None),
    ],
)
def test_a_routine_is_judged(routine, alert):
    assert alert is judge(routine)


INSTANTS = st.one_of(st.none(), st.integers(0, 3).map(lambda n: NOON + n * SECOND))
LASTS = st.one_of(
    st.none(),
    st.builds(Ended, st.sampled_from([State.SUCCEEDED, *BAD]), INSTANTS),
)


@properties
@given(
    alert=st.sampled_from([None, *Alert]),
    active=st.booleans(),
    faulty=st.booleans(),
    overdue=st.booleans(),
    last=LASTS,
    paused_at=INSTANTS,
    edited_at=INSTANTS,
)
def test_an_alert_stays_what_it_is_until_something_happens(
    alert, active, faulty, overdue, last, paused_at, edited_at
):
    fields = {"active": active, "faulty": faulty, "overdue": overdue}
    fields |= {"last": last, "paused_at": paused_at, "edited_at": edited_at}
    after = judge(health(alert, **fields))

    assert after is judge(health(after, **fields))  # no flapping
    assert after is not OVERDUE or (active and (overdue or alert is OVERDUE))
    assert after is not FAILED or alert is FAILED or (last is not None and last.state in BAD)


# --- on real databases ------------------------------------------------------------------------


@pytest.fixture
def beat(beat):
    """Declares one routine."""

    def make(seconds=LONG, name="poll", **settings):
        return beat(Declared(name, f"tasks.{name}", schedules.parse(seconds)), **settings)

    return make


@pytest.fixture
def told():
    """What was told: the signal's name and the routine's; all of it in ``told.fields``."""

    class Told(list):
        fields = []

    heard = Told()

    def hear(signal, sender, **fields):
        heard.append((signal.name.removeprefix("routine_"), sender))
        heard.fields = [*heard.fields, fields]

    signals = (routine_failed, routine_overdue, routine_recovered)
    for signal in signals:
        signal.connect(hear, weak=False)
    yield heard
    for signal in signals:
        signal.disconnect(hear)


def alert(beat, name="poll"):
    with beat.engine.connect().execution_options(reading=True) as connection:
        found = sa.select(routines.c.alert).where(routines.c.name == name)
        return connection.execute(found).scalar_one()


def sql(beat, **values):
    """What a person types. Triggers keep the database's clock: ours must not stay behind it."""
    with beat.engine.begin() as connection:
        connection.execute(routines.update().values(values))
    beat.clock.set(max(beat.clock.now(), datetime.now(UTC)))


def end(beat, run, state, **values):
    ledger, attempt = Ledger(beat.engine, beat.clock), uuid4()
    assert Begun.BEGUN is ledger.begin(run.id, attempt, retries=0, worker="w@host")
    assert ledger.end(run.id, attempt, state, **values)


def dispatched(beat):
    """The run of the next occurrence, as soon as it is dispatched."""
    beat.run()
    beat.clock.advance(LONG - 30)
    sent = beat.advance(35)
    return sent[-1]


def test_a_failure_is_told_once_whichever_scheduler_sees_it_and_so_is_the_recovery(beat, told):
    poll, other = beat(), beat()
    run = dispatched(poll)
    end(poll, run, State.FAILED, error="ValueError: no\nin line 3")
    for scheduler in (other, poll, other, poll):
        scheduler.advance(11)

    assert [("failed", "poll")] == told
    (fields,) = told.fields
    assert (str(run.id), "ValueError: no\nin line 3") == (fields["run_id"], fields["reason"])
    assert ("poll", "tasks.poll") == (fields["name"], fields["task"])
    assert isinstance(fields["since"], datetime)
    assert "failed" == alert(poll)

    end(poll, dispatched(poll), State.FAILED)
    poll.advance(11)
    assert [("failed", "poll")] == told

    run = dispatched(other)
    end(poll, run, State.SUCCEEDED)
    for scheduler in (poll, other, poll):
        scheduler.advance(11)
    assert [("failed", "poll"), ("recovered", "poll")] == told
    assert str(run.id) == told.fields[-1]["run_id"]
    assert alert(poll) is None


def test_a_failure_that_a_newer_run_has_made_up_for_is_not_told(beat, told):
    poll = beat()
    first = dispatched(poll)
    second = dispatched(poll)
    end(poll, first, State.FAILED)
    end(poll, second, State.SUCCEEDED)

    poll.advance(30)

    assert [] == told


def test_a_lost_run_is_a_failure(beat, told):
    poll = beat()
    run = dispatched(poll)
    Ledger(poll.engine, poll.clock).begin(run.id, uuid4(), retries=0, worker="w@host")

    poll.advance(120)

    assert [("failed", "poll")] == told
    assert "no beat of worker w@host" in told.fields[0]["reason"]


def test_an_end_that_was_written_late_is_found(beat, told):
    poll = beat()
    run = dispatched(poll)
    poll.advance(600)
    end(poll, run, State.FAILED)
    with poll.engine.begin() as connection:
        half = poll.clock.now() - timedelta(seconds=300)
        connection.execute(runs.update().values(finished_at=half))

    poll.advance(200)

    assert [("failed", "poll")] == told


def test_what_failed_while_no_scheduler_ran_is_told_when_one_starts(beat, clock, told):
    first = beat()
    run = dispatched(first)
    first.kill()
    end(first, run, State.FAILED)
    clock.advance(1800)

    beat().advance(15)

    assert [("failed", "poll")] == told


def test_a_routine_that_nobody_can_claim_is_overdue_until_somebody_does(request, clock, told):
    for url in map(request.getfixturevalue, ("postgresql", "mariadb")):
        poll = ManualBeat(url, clock, [Declared("poll", "tasks.poll", schedules.parse(60))])
        poll.start()
        poll.run()
        operator = make_engine(url)
        # The row cannot be locked for its alert either: told as soon as it can.
        with operator.begin() as connection:
            connection.execute(sa.select(routines.c.id).with_for_update())
            poll.advance(300)
            assert [] == told
        poll.publisher.away = True
        poll.advance(10)
        assert [("overdue", "poll")] == told
        assert clock.now() - told.fields[0]["since"] > 200 * SECOND
        assert "overdue" == alert(poll)
        poll.publisher.away = False
        poll.run()
        poll.advance(10)
        # What it has missed meanwhile is a failure, until its next run has succeeded.
        assert [("overdue", "poll"), ("failed", "poll")] == told
        told.clear()
        told.fields = []
        operator.dispose()
        poll.kill()


def test_a_broker_that_is_away_makes_routines_overdue_once(beat, told):
    poll, other = beat(100), beat(100)
    poll.run()
    for scheduler in (poll, other):
        scheduler.publisher.away = True
    for _ in range(6):
        for scheduler in (poll, other):
            scheduler.advance(15)

    assert [("overdue", "poll")] == told
    for scheduler in (poll, other):
        scheduler.publisher.away = False
    (run,) = poll.run()
    end(poll, run, State.SUCCEEDED)
    poll.advance(11)
    other.advance(11)
    assert [("overdue", "poll"), ("recovered", "poll")] == told


def test_what_a_scheduler_that_starts_is_about_to_claim_is_not_told_as_overdue(beat, clock, told):
    poll = beat(60)
    poll.run()
    clock.advance(100)
    other = beat(60)
    other.publisher.away = True  # so that it does not claim it either

    other.advance(50)
    assert [] == told
    other.advance(30)
    assert [("overdue", "poll")] == told


def test_what_came_due_in_an_outage_is_not_told_as_overdue_before_it_can_be_claimed(
    beat, clock, told, monkeypatch
):
    poll = beat(100)
    poll.advance(90)
    monkeypatch.setattr(poll.store, "look", lambda **_: 1 / 0)
    for _ in range(30):
        clock.advance(5)
        with pytest.raises(ZeroDivisionError):
            poll.loop.turn()
    monkeypatch.undo()
    poll.publisher.away = True  # so that it is not claimed now either

    poll.advance(50)
    assert [] == told
    poll.advance(30)
    assert [("overdue", "poll")] == told


def test_a_scheduler_that_has_just_started_leaves_the_alerts_of_others_alone(beat, told):
    poll = beat(60)
    poll.run()
    poll.publisher.away = True
    poll.advance(150)
    assert [("overdue", "poll")] == told

    other = beat(60)
    other.publisher.away = True
    other.advance(20)

    assert [("overdue", "poll")] == told
    assert "overdue" == alert(poll)


def test_switching_a_routine_off_clears_its_alert_without_a_word(beat, told):
    poll = beat()
    end(poll, dispatched(poll), State.FAILED)
    poll.advance(11)
    assert "failed" == alert(poll)
    sql(poll, active=False)
    sql(poll, paused_at=poll.clock.now() + SECOND)

    poll.advance(60)

    assert [("failed", "poll")] == told
    assert alert(poll) is None


def test_a_one_off_that_was_missed_is_told(beat, clock, told):
    poll = beat(schedules.parse(clock.now() + 60 * SECOND))
    poll.run()
    sql(poll, catch_up="skip")
    clock.advance(600)

    poll.advance(60)

    assert [("failed", "poll")] == told
    assert "failed" == alert(poll)


def test_the_last_run_of_a_routine_that_is_over_is_told_when_it_fails(beat, clock, told):
    poll = beat(schedules.parse(clock.now() + 60 * SECOND))
    poll.run()
    (run,) = poll.advance(61)
    sql(poll, paused_at=clock.now())
    poll.advance(30)
    end(poll, run, State.FAILED)

    poll.advance(90)

    assert [("failed", "poll")] == told
    assert "failed" == alert(poll)


def test_a_routine_that_is_gone_is_no_matter(beat, told):
    poll = beat()
    run = dispatched(poll)
    end(poll, run, State.FAILED)
    with poll.engine.begin() as connection:
        connection.execute(routines.delete())

    poll.advance(30)

    assert [] == told


def test_many_that_fail_at_one_instant_are_all_told(beat, clock, told, monkeypatch):
    monkeypatch.setattr(housekeeping, "ALERTED", 7)
    poll = beat()
    names = [f"r{n}" for n in range(40)]
    rows = [
        {"id": uuid4(), "name": name, "task": "t", "schedule": '{"timedelta": 9999}'}
        | {"edited_at": clock.now() - SECOND}
        for name in names
    ]
    about = {"task": "t", "cause": "schedule", "state": "failed", "scheduled_for": clock.now()}
    with poll.engine.begin() as connection:
        connection.execute(routines.insert(), rows)
        connection.execute(
            runs.insert(),
            [
                {
                    "id": uuid4(),
                    "routine_id": row["id"],
                    "routine_name": row["name"],
                    "finished_at": clock.now(),
                    **about,
                }
                for row in rows
            ],
        )
    poll.clock.set(max(poll.clock.now(), datetime.now(UTC)))

    poll.advance(10)

    assert sorted(("failed", name) for name in names) == sorted(told)
    with poll.engine.begin() as connection:
        connection.execute(runs.update().values(state="succeeded"))
    poll.advance(10)
    assert 80 == len(told)


def test_an_alert_is_no_edit(beat, told):
    poll = beat()
    end(poll, dispatched(poll), State.FAILED)
    with poll.engine.connect().execution_options(reading=True) as connection:
        before = connection.execute(sa.select(routines)).mappings().one()

    poll.advance(11)

    with poll.engine.connect().execution_options(reading=True) as connection:
        after = connection.execute(sa.select(routines)).mappings().one()
    assert {"alert"} == {key for key in before if before[key] != after[key]}


def test_one_that_raises_stops_neither_the_others_nor_dispatch(beat, told):
    def fails(**_):
        raise ValueError("a receiver of the user's")

    routine_failed.connect(fails)
    poll = beat()
    end(poll, dispatched(poll), State.FAILED)
    poll.advance(11)
    routine_failed.disconnect(fails)

    assert [("failed", "poll")] == told
    assert dispatched(poll)
