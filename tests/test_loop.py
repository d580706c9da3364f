"""The tick as a whole, on real databases, with the clock moved by hand and no broker."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from celery_sqlalchemy_kit import schedules
from celery_sqlalchemy_kit.clock import UTC
from celery_sqlalchemy_kit.due import Limits, decide
from celery_sqlalchemy_kit.routines import Cause, Declared
from celery_sqlalchemy_kit.store.candidates import PLANNED_BESIDE
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import routines, runs
from celery_sqlalchemy_kit.testing import ManualBeat

SECOND = timedelta(seconds=1)
NOTHING_REMOVED = {"known_tasks": (), "removal": "keep", "merge": False}


def every(seconds, name="poll", **fields):
    return Declared(name, f"tasks.{name}", schedules.parse(seconds), **fields)


@pytest.fixture
def without_triggers(mariadb):
    """A MariaDB database whose user may not create triggers, as with MySQL's binary log on."""
    admin = make_engine(mariadb)
    user = f"u{uuid4().hex[:20]}"
    with admin.begin() as connection:
        connection.exec_driver_sql(f"CREATE USER {user}@'%%' IDENTIFIED BY ''")
        connection.exec_driver_sql(
            f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP ON "
            f"{mariadb.database}.* TO {user}@'%%'"
        )
    yield mariadb.set(username=user, password=None)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"DROP USER {user}@'%%'")
    admin.dispose()


def test_edits_are_seen_where_the_user_may_not_create_triggers(without_triggers, clock):
    poll = ManualBeat(without_triggers, clock, [every(3600)])
    poll.start()
    poll.run()
    poll.run()
    sql(poll, "UPDATE routines SET schedule = :schedule", schedule='{"timedelta": 2}')
    assert 3 == len(poll.advance(6))
    sql(poll, "UPDATE routines SET active = false")
    assert [] == poll.advance(20)
    sql(poll, "UPDATE routines SET active = true")
    poll.run()
    assert 3 == len(poll.advance(6))
    sql(poll, "UPDATE routines SET schedule = '{}'")
    assert [] == poll.advance(5)
    assert "schedule" in row(poll)["error"]
    sql(poll, "UPDATE routines SET schedule = '{\"timedelta\": 60}'")
    assert poll.advance(61)
    sql(poll, "UPDATE routines SET next_run_at = :now", now=bound(poll, clock.now()))
    (by_hand,) = poll.run()
    assert Cause.MANUAL == by_hand.cause
    poll.kill()


def test_a_start_that_was_cut_short_where_there_are_no_triggers_goes_on(without_triggers, clock):
    first = ManualBeat(without_triggers, clock, [every(5)])
    first.start()
    sql(first, "DELETE FROM routine_schema")
    first.kill()

    second = ManualBeat(without_triggers, clock, [every(5)])
    second.start()
    second.run()

    assert second.advance(10)
    second.kill()


def sql(beat, statement, **values):
    """What a person types. Triggers keep the database's clock: ours must not stay behind it."""
    with beat.engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    beat.clock.set(max(beat.clock.now(), datetime.now(UTC)))


def row(beat, name="poll"):
    with beat.engine.connect().execution_options(reading=True) as connection:
        found = connection.execute(sa.select(routines).where(routines.c.name == name))
        return found.mappings().one()


def ledger(beat, *columns, **where):
    chosen = [runs.c[column] for column in columns]
    same = [runs.c[column] == value for column, value in where.items()]
    with beat.engine.connect().execution_options(reading=True) as connection:
        found = connection.execute(
            sa.select(*chosen).where(*same).order_by(runs.c.scheduled_for)
        ).all()
        return [value[0] if len(columns) == 1 else tuple(value) for value in found]


def test_an_interval_runs_once_a_period_and_keeps_its_phase(beat, clock):
    start = clock.now()
    poll = beat(every(1))
    poll.run()

    sent = poll.advance(60)

    assert [start + SECOND * n for n in range(1, 61)] == [run.scheduled_for for run in sent]
    assert 60 == len({run.id for run in sent})
    assert 60 == row(poll)["total_run_count"]


@pytest.fixture(params=["postgresql", "mariadb"])
def elsewhere(request):
    """A database whose sessions are in Kathmandu."""
    url = request.getfixturevalue(request.param)
    zone = {
        "postgresql": {"options": "-c timezone=Asia/Kathmandu"},
        "mariadb": {"init_command": "SET time_zone = '+05:45'"},
    }
    return url.update_query_dict(zone[request.param])


def test_the_time_zone_of_the_databases_sessions_means_nothing(elsewhere, clock):
    berlin = {"minute": "*/5", "timezone": "Europe/Berlin"}
    at = clock.now() + 90 * SECOND
    poll = ManualBeat(
        elsewhere,
        clock,
        [every(90), Declared("cron", "tasks.cron", schedules.parse(berlin)), every(at, "once")],
    )
    poll.start()
    poll.run()
    sql(poll, "UPDATE routines SET starts_at = NULL WHERE name = 'cron'")
    start = clock.now()

    sent = poll.advance(300)

    assert [schedules.parse(berlin).next_after(start)] == [
        run.scheduled_for for run in sent if run.routine_name == "cron"
    ]
    assert [at, at] == [run.scheduled_for for run in sent if run.routine_name != "cron"][:2]
    poll.kill()


def test_the_phase_survives_a_restart(beat, clock):
    start = clock.now()
    first = beat(every(7))
    first.advance(10)
    first.stop()
    clock.advance(2.3)

    second = beat(every(7))
    sent = second.advance(20)

    assert [start + SECOND * n for n in (14, 21, 28)] == [run.scheduled_for for run in sent]


def test_a_run_carries_what_its_routine_said_when_it_was_claimed(beat, clock):
    poll = beat(every(1, args=(1, "two"), kwargs={"three": [3]}, options={"queue": "slow"}))
    poll.run()

    (run,) = poll.advance(1)

    assert ((1, "two"), {"three": [3]}, {"queue": "slow"}) == (run.args, run.kwargs, run.options)
    assert ["sent"] == ledger(poll, "state")


def test_a_bare_insert_of_three_columns_is_a_whole_routine(beat, clock):
    poll = beat()
    sql(
        poll,
        "INSERT INTO routines (name, task, schedule) VALUES ('bare', 'a.b', :schedule)",
        schedule='{"timedelta": 60}',
    )
    poll.run()

    sent = poll.advance(61)

    assert [("bare", "a.b")] == [(run.routine_name, run.task) for run in sent]


def test_250_declared_routines_are_all_stored_and_all_run(beat, clock):
    many = beat(*[every(5, name=f"r{n}") for n in range(250)])
    many.run()

    sent = many.advance(6)

    assert {f"r{n}" for n in range(250)} == {run.routine_name for run in sent}
    assert 250 == len(sent)


def test_nothing_is_claimed_once_a_routine_is_off_and_paused_time_is_not_caught_up(beat, clock):
    poll = beat(every(10))
    poll.advance(25)
    sql(poll, "UPDATE routines SET active = :off", off=False)
    off_since = clock.now()

    assert [] == poll.advance(300)

    sql(poll, "UPDATE routines SET active = :on", on=True)
    sql(poll, "UPDATE routines SET edited_at = :now", now=bound(poll, clock.now()))
    switched_on = clock.now()
    sent = poll.advance(20)
    assert 2 == len(sent)
    assert all(run.scheduled_for > switched_on > off_since for run in sent)
    assert [] == ledger(poll, "id", state="missed")


def bound(beat, instant):
    """An instant as SQL of the database at hand takes it."""
    if beat.engine.dialect.name == "sqlite":
        return instant.strftime("%Y-%m-%d %H:%M:%S.%f")
    return instant if beat.engine.dialect.name == "postgresql" else instant.replace(tzinfo=None)


def test_a_new_schedule_is_obeyed_from_its_edit_on_and_the_phase_is_kept(beat, clock):
    start = clock.now()
    poll = beat(every(3600))
    poll.run()
    sql(poll, "UPDATE routines SET schedule = :schedule", schedule='{"timedelta": 2}')

    sent = poll.advance(6)

    assert 3 == len(sent)
    assert {timedelta(0)} == {(run.scheduled_for - start) % (2 * SECOND) for run in sent}


def test_changed_arguments_are_sent_with_the_next_run_and_move_nothing(beat, clock):
    start = clock.now()
    poll = beat(every(5))
    poll.advance(7)
    sql(poll, "UPDATE routines SET kwargs = :kwargs, args = :args", kwargs='{"a": 1}', args="[2]")

    (run,) = poll.advance(5)

    assert ((2,), {"a": 1}, start + SECOND * 10) == (run.args, run.kwargs, run.scheduled_for)


def test_next_run_at_set_by_hand_runs_once_and_leaves_the_rhythm_alone(beat, clock):
    start = clock.now()
    poll = beat(every(60))
    poll.run()
    clock.advance(10)
    sql(poll, "UPDATE routines SET next_run_at = :now", now=bound(poll, clock.now()))

    (by_hand,) = poll.run()
    (usual,) = poll.advance(50)

    assert Cause.MANUAL == by_hand.cause
    assert (Cause.SCHEDULE, start + SECOND * 60) == (usual.cause, usual.scheduled_for)
    assert 1 == row(poll)["total_run_count"]


BAD = [
    ("schedule", '{"minuts": 5}', "minuts"),
    ("schedule", '{"timedelta": 0}', "timedelta"),
    ("schedule", '"nonsense"', "nonsense"),
    ("args", '{"a": 1}', "args"),
    ("kwargs", "[1]", "kwargs"),
    ("options", '{"task_id": "x"}', "task_id"),
    ("jitter", -1, "jitter"),
    ("catch_up", "sometimes", "catch_up"),
    ("overlap", "maybe", "overlap"),
]


@pytest.mark.parametrize(("column", "value", "named"), BAD)
def test_a_bad_row_gets_an_error_the_others_go_on_and_correcting_it_heals(
    beat, clock, column, value, named
):
    both = beat(every(5, name="good"), every(5, name="bad"))
    both.run()
    good = text(row(both, "bad")[column])
    sql(both, f"UPDATE routines SET {column} = :value WHERE name = 'bad'", value=value)

    sent = both.advance(20)

    assert ["good"] * 4 == [run.routine_name for run in sent]
    assert named in row(both, "bad")["error"]
    sql(both, f"UPDATE routines SET {column} = :value WHERE name = 'bad'", value=good)
    assert row(both, "bad")["error"] is None
    sent = both.advance(10)
    assert {"good", "bad"} == {run.routine_name for run in sent}


def test_text_that_is_no_json_harms_its_own_row_only(sqlite, clock):
    both = ManualBeat(sqlite, clock, [every(5, name="good"), every(5, name="bad")])
    both.start()
    both.run()
    sql(both, "UPDATE routines SET schedule = '{broken' WHERE name = 'bad'")

    sent = both.advance(10)

    assert ["good", "good"] == [run.routine_name for run in sent]
    assert "JSON" in row(both, "bad")["error"]
    both.kill()


def test_two_schedulers_share_the_work_and_never_send_one_occurrence_twice(beat, clock):
    one, two = beat(every(1)), beat(every(1))
    for _ in range(30):
        clock.advance(1)
        for scheduler in (one, two):
            scheduler.run()

    sent = one.publisher.sent + two.publisher.sent

    assert 30 == len(sent) == len({run.scheduled_for for run in sent})
    assert 1 == len(ledger_rows(one))


def ledger_rows(beat):
    with beat.engine.connect().execution_options(reading=True) as connection:
        return connection.execute(sa.select(routines.c.name)).all()


def test_what_a_killed_scheduler_had_claimed_is_published_by_another(beat, clock):
    one = beat(every(30))
    one.run()
    clock.advance(30)
    strand(one)
    two = beat(every(30))

    assert [] == two.run()
    sent = two.advance(10.5)

    assert [("poll", Cause.SCHEDULE)] == [(run.routine_name, run.cause) for run in sent]
    assert [("sent", 2)] == ledger(two, "state", "publish_attempts")


def test_a_killed_schedulers_claim_is_not_published_once_the_routine_is_off(beat, clock):
    one = beat(every(30))
    one.run()
    clock.advance(30)
    strand(one)
    sql(one, "UPDATE routines SET active = :off", off=False)

    two = beat(every(30))

    assert [] == two.advance(60)
    assert [("skipped", "inactive")] == ledger(two, "state", "reason")
    assert 0 == row(two)["total_run_count"]


def test_nothing_is_claimed_while_the_broker_is_away_and_the_newest_runs_once_it_is_back(
    beat, clock
):
    poll = beat(every(1))
    poll.run()
    poll.publisher.away = True

    assert [] == poll.advance(600)
    assert [] == ledger(poll, "id")

    poll.publisher.away = False
    (caught_up,) = poll.run()
    assert Cause.CATCH_UP == caught_up.cause
    assert [599] == ledger(poll, "count", state="missed")


def test_a_short_outage_is_no_miss(beat, clock):
    poll = beat(every(1))
    poll.run()
    poll.publisher.away = True
    poll.advance(30)
    poll.publisher.away = False

    assert 30 == len(poll.run())


def test_a_message_at_fault_is_given_up_at_the_fifth_attempt_and_counts_no_longer(beat, clock):
    poll = beat(every(86_400))
    poll.run()
    poll.publisher.fails = {"tasks.poll"}
    clock.advance(86_400)

    poll.advance(120)

    assert [("missed", 5)] == ledger(poll, "state", "publish_attempts")
    assert 0 == row(poll)["total_run_count"]


def test_a_batch_size_bounds_a_claim_and_loses_nothing(beat, clock):
    many = beat(*[every(60, name=f"r{n}") for n in range(25)], scheduler_batch_size=10)
    many.run()

    assert 25 == len(many.advance(60))


def test_a_claim_of_what_is_due_plans_few_others(beat, clock):
    poll = beat(*(every(60, f"due{n}") for n in range(3)))
    poll.run()
    clock.advance(60)
    many = PLANNED_BESIDE + 50
    poll.store.reconcile([every(60, f"new{n}") for n in range(many)], **NOTHING_REMOVED)

    def claim():
        return poll.store.claim(lambda each, at: decide(each, at, Limits()), limit=500)

    first, second, third = claim(), claim(), claim()
    assert (3, 3 + PLANNED_BESIDE, True) == (len(first.claimed), first.rows, first.more)
    assert (0, many - PLANNED_BESIDE, False) == (len(second.claimed), second.rows, second.more)
    assert 0 == third.rows


@pytest.mark.parametrize("later", [-1, 0, 1])
def test_a_claim_tells_of_what_has_moved_on_to_what_has_come_already(beat, clock, later):
    poll = beat(every(60))
    poll.run()
    clock.advance(60)
    due = clock.now() + later * SECOND
    batch = poll.store.claim(
        lambda *told: replace(decide(*told, Limits()), next_run_at=due), limit=10
    )
    assert (1, later <= 0) == (len(batch.claimed), batch.still_due)


def test_max_runs_switches_a_routine_off_when_it_is_reached(beat, clock):
    poll = beat(every(1))
    sql(poll, "UPDATE routines SET max_runs = 3")

    assert 3 == len(poll.advance(10))
    assert not row(poll)["active"]


def test_a_run_that_is_in_the_ledger_already_is_not_run_again(beat, clock):
    start = clock.now()
    poll = beat(every(10))
    poll.advance(10)
    first = start + SECOND * 10
    # As after a restore of the table from a backup: the ledger knows more than the routine.
    sql(
        poll,
        "UPDATE routines SET occurrence_at = :first, next_run_at = :first",
        first=bound(poll, first),
    )

    assert [] == poll.run()
    assert [first + SECOND * 10] == [run.scheduled_for for run in poll.advance(10)]


def test_namespaces_share_the_table_and_see_their_own_only(beat, clock):
    one = beat(every(5), scheduler_namespace="one")
    two = beat(every(5), scheduler_namespace="two")
    one.run()
    two.run()
    clock.advance(5)

    assert 1 == len(one.run())
    assert 1 == len(two.run())


def test_a_routine_is_removed_only_when_no_live_scheduler_declares_it(beat, clock):
    old = beat(every(5), every(5, name="gone"))
    new = beat(every(5))
    assert "gone" in [name for (name,) in ledger_rows(new)]

    old.stop()
    new.advance(11)

    assert ["poll"] == [name for (name,) in ledger_rows(new)]


def test_a_killed_scheduler_stops_counting_after_half_a_minute(beat, clock):
    old = beat(every(5), every(5, name="gone"))
    new = beat(every(5))
    old.kill()

    new.advance(25)
    assert "gone" in [name for (name,) in ledger_rows(new)]
    new.advance(20)

    assert ["poll"] == [name for (name,) in ledger_rows(new)]


def test_a_routine_that_is_declared_again_comes_back_as_it_was(beat, clock):
    before = beat(every(5), every(5, name="other"))
    before.advance(12)
    sql(before, "UPDATE routines SET schedule = :s WHERE name = 'poll'", s='{"timedelta": 7}')
    was = row(before)
    before.stop()
    between = beat(every(5, name="other"))
    assert ["other"] == [name for (name,) in ledger_rows(between)]
    between.stop()
    clock.advance(1000)

    after = beat(every(5), every(5, name="other"))
    now = row(after)

    assert (was["id"], was["total_run_count"]) == (now["id"], now["total_run_count"])
    assert {"timedelta": 7} == json.loads(text(now["schedule"]))
    assert [] == [run for run in after.run() if run.routine_name == "poll"]
    assert 1 == len([run for run in after.advance(7) if run.routine_name == "poll"])


def text(value):
    """A JSON column's text; some drivers decode JSON by themselves."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def test_a_row_whose_task_is_not_allowed_gets_an_error_and_the_others_run(beat, clock):
    both = beat(every(5, name="good"), every(5, name="bad"), scheduler_allowed_tasks=["*.g*"])
    both.run()

    sent = both.advance(5)

    assert ["good"] == [run.routine_name for run in sent]
    assert "scheduler_allowed_tasks allows *.g*" in row(both, "bad")["error"]


# --- sequences that lost, doubled or stalled runs ------------------------------------------


@pytest.mark.parametrize(
    "never", ["2026-02-30 09:00:00.000000", "garbage", "99999-01-01 00:00:00.000000"]
)
def test_an_instant_that_is_none_stops_no_other_routine_on_sqlite(sqlite, clock, never):
    both = ManualBeat(sqlite, clock, [every(5, name="good"), every(5, name="bad")])
    both.start()
    both.run()
    sql(both, "UPDATE routines SET next_run_at = :never WHERE name = 'bad'", never="other")
    sql(both, "UPDATE routines SET next_run_at = :never WHERE name = 'bad'", never=never)
    sql(both, "UPDATE routines SET description = 'x' WHERE name = 'bad'")

    sent = both.advance(15)

    assert {"good"} <= {run.routine_name for run in sent}
    assert 3 == len([run for run in sent if run.routine_name == "good"])
    both.kill()


@pytest.mark.parametrize("never", ["-infinity", "infinity", "12000-01-01"])
def test_an_instant_that_python_lacks_stops_no_other_routine_on_postgresql(
    postgresql, clock, never
):
    both = ManualBeat(postgresql, clock, [every(5, name="good"), every(5, name="bad")])
    both.start()
    both.run()
    sql(both, "UPDATE routines SET next_run_at = :never WHERE name = 'bad'", never=never)

    sent = both.advance(15)

    assert ["good"] * 3 == [run.routine_name for run in sent]
    assert ("instant" in (error_of(both, "bad") or "")) == (never == "-infinity")
    both.kill()


def error_of(beat, name):
    with beat.engine.connect().execution_options(reading=True) as connection:
        found = sa.select(routines.c.error).where(routines.c.name == name)
        return connection.execute(found).scalar_one()


def strand(beat):
    """Claim what is due and die before it is published."""
    beat.publisher.publish = lambda claimed, since, sent, **_: pytest.fail("killed before")
    with pytest.raises(pytest.fail.Exception):
        beat.loop.turn()
    del beat.publisher.publish


@pytest.mark.parametrize("database_of", ["postgresql", "mariadb"])
def test_a_due_row_that_somebody_holds_keeps_no_stranded_run_from_its_rescue(
    request, clock, database_of
):
    url = request.getfixturevalue(database_of)
    both = ManualBeat(url, clock, [every(30, name="held"), every(30, name="stranded")])
    both.start()
    both.run()
    sql(both, "UPDATE routines SET max_runs = 1 WHERE name = 'stranded'")
    both.run()
    operator = make_engine(url)
    with operator.begin() as connection:
        clock.advance(31)
        connection.execute(sa.text("SELECT * FROM routines WHERE name = 'held' FOR UPDATE"))
        strand(both)

        sent = both.advance(15)

        assert ["stranded"] == [run.routine_name for run in sent]
    operator.dispose()
    both.kill()


@pytest.mark.parametrize("database_of", ["postgresql", "mariadb"])
def test_a_routine_that_somebody_holds_keeps_no_run_of_another_from_being_given_up(
    request, clock, database_of
):
    url = request.getfixturevalue(database_of)
    options = {"options": {"expires": 5}}
    both = ManualBeat(
        url, clock, [every(900, name="held", **options), every(900, name="free", **options)]
    )
    both.start()
    both.run()
    clock.advance(901)
    strand(both)
    assert [1, 1] == [row(both, name)["total_run_count"] for name in ("held", "free")]
    operator = make_engine(url)
    with operator.begin() as connection:
        connection.execute(sa.text("SELECT * FROM routines WHERE name = 'held' FOR UPDATE"))

        both.advance(15)

        assert [("free", "missed"), ("held", "claimed")] == sorted(
            ledger(both, "routine_name", "state")
        )
    both.advance(5)
    assert ["missed"] * 2 == ledger(both, "state")
    assert [0, 0] == [row(both, name)["total_run_count"] for name in ("held", "free")]
    operator.dispose()
    both.kill()


def test_a_row_that_was_held_for_long_is_late_when_it_is_released(postgresql, clock):
    poll = ManualBeat(postgresql, clock, [every(1)])
    poll.start()
    poll.run()
    operator = make_engine(postgresql)
    with operator.begin() as connection:
        connection.execute(sa.text("SELECT * FROM routines FOR UPDATE"))
        assert [] == poll.advance(300)

    (caught_up,) = poll.run()

    assert Cause.CATCH_UP == caught_up.cause
    operator.dispose()
    poll.kill()


def test_what_came_due_while_the_database_was_away_is_late(beat, clock, monkeypatch):
    poll = beat(every(1))
    poll.advance(5)
    look = poll.store.look
    monkeypatch.setattr(poll.store, "look", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        poll.loop.turn()
    clock.advance(3600)
    monkeypatch.setattr(poll.store, "look", look)

    (caught_up,) = poll.run()

    assert Cause.CATCH_UP == caught_up.cause


def test_what_was_published_is_known_until_the_ledger_knows_it(beat, clock, monkeypatch):
    poll = beat(every(30))
    poll.run()
    clock.advance(30)
    assert 0 == poll.loop.turn()
    poll.publisher.away = True
    monkeypatch.setattr(poll.store, "confirm", lambda published: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        poll.loop.turn()
    monkeypatch.undo()
    poll.publisher.away = False

    assert [] == poll.advance(15)
    assert ["sent"] == ledger(poll, "state")


def test_a_claim_is_bounded_by_runs_and_takes_the_rest_next(beat, clock):
    many = beat(*[every(1, name=f"r{n}") for n in range(6)], scheduler_batch_size=20)
    many.run()
    many.publisher.away = True
    many.advance(30)
    many.publisher.away = False
    batches = []
    publish = many.publisher.publish

    def note(claimed, since, sent, **_):
        batches.append(len(claimed))
        return publish(claimed, since, sent)

    many.publisher.publish = note

    assert 180 == len(many.run())
    assert max(batches) < 20 + 31


@pytest.mark.parametrize("spelling", [str, lambda key: str(key).upper()])
def test_an_id_in_another_spelling_is_rescued_like_any_other(sqlite, clock, spelling):
    poll = ManualBeat(sqlite, clock)
    poll.start()
    sql(
        poll,
        "INSERT INTO routines (id, name, task, schedule) VALUES (:id, 'poll', 'poll', :schedule)",
        id=spelling(uuid4()),
        schedule='{"timedelta": 30}',
    )
    poll.run()
    clock.advance(31)
    strand(poll)

    assert 1 == len(poll.advance(12))
    poll.kill()


def test_an_open_edit_of_one_row_holds_up_no_other_where_there_are_no_triggers(
    without_triggers, clock
):
    both = ManualBeat(without_triggers, clock, [every(5, name="good"), every(5, name="edited")])
    both.start()
    both.run()
    both.run()
    operator = make_engine(without_triggers)
    with operator.begin() as connection:
        connection.execute(
            sa.text("UPDATE routines SET schedule = :s WHERE name = 'edited'"),
            {"s": '{"timedelta": 6}'},
        )
        assert {"good"} == {run.routine_name for run in both.advance(10)}
    operator.dispose()
    both.kill()


def test_text_that_is_no_utf_8_harms_its_own_row_only(sqlite, clock):
    both = ManualBeat(sqlite, clock, [every(5, name="good"), every(5, name="bad")])
    both.start()
    both.run()
    sql(both, "UPDATE routines SET kwargs = x'80ff' WHERE name = 'bad'")

    assert ["good"] == [run.routine_name for run in both.advance(5)]
    assert "kwargs" in row(both, "bad")["error"]
    both.kill()


def test_a_count_that_the_column_cannot_hold_stays_at_its_limit(beat, clock):
    poll = beat(every(5))
    poll.run()
    sql(poll, "UPDATE routines SET total_run_count = 2147483647")

    assert 2 == len(poll.advance(10))
    assert 2147483647 == row(poll)["total_run_count"]


FORMS = {
    "interval": {"timedelta": 0.5},
    "fields": {"minute": 0, "hour": "9-17", "timezone": "America/New_York"},
    "cron": {"cron": "0 9 * * MON-FRI"},
    "cron-in-a-zone": {"cron": "30 2 L * *", "timezone": "Asia/Kathmandu"},
    "macro": {"cron": "@hourly"},
    "once": {"once": "2999-12-01T09:00:00Z"},
    "once-in-a-zone": {"once": "2999-12-01T09:00", "timezone": "Europe/Berlin"},
    "solar": {"solar": "sunset", "latitude": 52.52, "longitude": 13.4},
    "rrule": {"rrule": "FREQ=MONTHLY;BYDAY=-1FR"},
    "every": {"every": 30, "period": "seconds"},
}
REFUSED = {
    "cron": {"cron": "61 * * * *"},
    "never": {"cron": "0 0 31 2 *"},
    "period": {"every": 3, "period": "fortnights"},
    "once": {"once": "soon"},
    "after": {"after": -1},
    "solar": {"solar": "moonrise", "latitude": 0, "longitude": 0},
    "rrule": {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"},
    "timezone": {"cron": "0 9 * * *", "timezone": "Mars/Base"},
    "is no schedule": ["* * * * *"],
}


def test_every_form_of_schedule_may_be_written_by_sql_and_what_is_wrong_is_told(beat):
    poll = beat(timezone="Europe/Berlin")
    forms = {**FORMS, **{f"bad {said}": written for said, written in REFUSED.items()}}
    for name, written in forms.items():
        sql(
            poll,
            "INSERT INTO routines (name, task, schedule) VALUES (:name, 'a.b', :schedule)",
            name=name,
            schedule=json.dumps(written),
        )
    poll.run()

    for name, written in FORMS.items():
        found, schedule = row(poll, name), schedules.from_json(written, timezone="Europe/Berlin")
        assert (None, True) == (found["error"], found["active"])
        following = schedule.next_after(found["created_at"])
        assert following == found["occurrence_at"] == found["next_run_at"]
    for said in REFUSED:
        found = row(poll, f"bad {said}")
        assert said in found["error"]
        assert found["next_run_at"] is None


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_worker_frozen_in_its_begin_holds_up_no_claim(beat, clock):
    poll = beat(every(1))
    poll.run()
    clock.advance(1)
    poll.loop.turn()
    (run,) = poll.publisher.sent
    assert [run.id] == poll.loop.published
    limits = {"postgresql": "lock_timeout = '1s'", "mysql": "innodb_lock_wait_timeout = 1"}

    @sa.event.listens_for(poll.engine, "begin")
    def do_not_wait(connection):
        connection.exec_driver_sql(f"SET {limits[connection.dialect.name]}")

    other = make_engine(poll.engine.url)
    with other.connect() as frozen, frozen.begin():
        frozen.execute(runs.update().where(runs.c.id == run.id).values(state="running"))
        clock.advance(1)
        assert [run.routine_name] == [each.routine_name for each in poll.run()]
    other.dispose()


def test_what_was_published_before_an_outage_is_not_rescued_after_it(beat, clock):
    poll = beat(every(3600))
    poll.run()
    clock.advance(3600)
    poll.loop.turn()
    assert 1 == len(poll.loop.published)

    clock.advance(30)  # nothing could be confirmed meanwhile
    poll.run()

    assert 1 == len(poll.publisher.sent)
    assert ["sent"] == ledger(poll, "state")


def test_a_run_that_cannot_be_read_is_missed_and_holds_up_no_other(beat, clock):
    bad, good = beat(every(3600, "bad"), every(3600, "good")), beat()
    bad.run()
    bad.publisher.publish = lambda claimed, since, sent, **_: []
    clock.advance(3600)
    bad.loop.turn()
    sql(bad, "UPDATE routine_runs SET cause = 'whatever' WHERE routine_name = 'bad'")
    clock.advance(30)

    assert ["good"] == [run.routine_name for run in good.run()]
    ((state, reason),) = ledger(good, "state", "reason", routine_name="bad")
    assert "missed" == state
    assert "unreadable: 'whatever'" in reason


def test_what_was_seen_to_come_due_soon_is_claimed_without_another_look(beat, clock, monkeypatch):
    poll = beat(every(0.5))
    asked = []
    for verb in ("look", "claim", "confirm"):
        ask = getattr(poll.store, verb)
        monkeypatch.setattr(
            poll.store,
            verb,
            lambda *a, _ask=ask, _verb=verb, **k: (asked.append(_verb), _ask(*a, **k))[1],
        )
    poll.run()
    clock.advance(0.5)
    asked.clear()
    assert 0 == poll.loop.turn()
    assert ["claim"] == asked
    assert 0.5 == pytest.approx(poll.loop.turn())
    assert ["claim", "look", "confirm"] == asked
    assert 1 == len(poll.publisher.sent)


def test_what_was_published_is_confirmed_by_the_next_claim_if_that_comes_soon(beat, clock):
    poll = beat(every(0.05))
    poll.run()
    clock.advance(0.05)
    poll.run()
    assert (["claimed"], 1) == (ledger(poll, "state"), len(poll.loop.published))
    clock.advance(0.05)
    poll.run()
    assert (["sent", "claimed"], 1) == (ledger(poll, "state"), len(poll.loop.published))
    sql(poll, "UPDATE routines SET active = false")
    poll.run()
    assert (["sent", "sent"], []) == (ledger(poll, "state"), poll.loop.published)
