"""Among very many rows, every statement of a scheduler finds its own by an index."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from statements import each_statement

from celery_sqlalchemy_kit import migrations
from celery_sqlalchemy_kit.due import Limits, decide
from celery_sqlalchemy_kit.rescue import Verdict
from celery_sqlalchemy_kit.routines import Cause, State
from celery_sqlalchemy_kit.storage.values import Passed, Position, Presence
from celery_sqlalchemy_kit.store import changes, run_list
from celery_sqlalchemy_kit.store.candidates import SOON
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.desk import Desk
from celery_sqlalchemy_kit.store.ledger import Ledger
from celery_sqlalchemy_kit.store.store import Store
from celery_sqlalchemy_kit.store.survey import Since
from celery_sqlalchemy_kit.store.sweeps import Place, Walk
from celery_sqlalchemy_kit.store.transactions import transact

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: Of each hundred thousand runs, from these on those in this state; all others have succeeded.
RANGES = {"running": 0, "sent": 300, "retrying": 2300, "claimed": 2400, "waiting": 2450}
RANGES |= {"failed": 2500, "lost": 2900, "missed": 2950, "succeeded": 3000}

DIGITS = " UNION ALL ".join(f"SELECT {n}" for n in range(10))
NUMBERS = f"""
    WITH digits (n) AS ({DIGITS})
    SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n AS n
    FROM digits a, digits b, digits c, digits d, digits e
"""
SQL = {
    "postgresql": {
        "id": "CAST(md5(CAST({} AS text)) AS uuid)",
        "ago": "statement_timestamp() - ({}) * interval '1 second'",
        "analyse": "ANALYZE routines, routine_runs",
    },
    "mysql": {
        "id": "md5({})",
        "ago": "utc_timestamp(6) - INTERVAL ({}) SECOND",
        "analyse": "ANALYZE TABLE routines, routine_runs",
    },
}


def fill(engine):
    sql = SQL[engine.dialect.name]
    key, ago = sql["id"].format, sql["ago"].format
    states = sorted(RANGES.items(), key=lambda item: -item[1])
    state = "CASE " + " ".join(f"WHEN n >= {at} THEN '{name}'" for name, at in states) + " END"
    ended = f"n >= {RANGES['failed']}"
    run = {
        "id": key("n + 1000000"),
        "routine_id": key("n % 1000"),
        "routine_name": "'poll'",
        "namespace": "''",
        "task": "'tasks.poll'",
        "scheduled_for": ago("n * 6.1"),
        "cause": "'schedule'",
        "state": state,
        "claimed_at": ago("n * 6.1 + 100"),
        "publish_attempts": "1",
        "sent_at": ago("n * 6.1 + 100"),
        "worker": "'w@host'",
        "heartbeat_at": f"CASE WHEN n < 280 THEN {ago(0)} ELSE {ago(500)} END",
        "finished_at": f"CASE WHEN {ended} THEN {ago('n * 6.1')} END",
    }
    routine = {
        "id": key("n"),
        "name": "concat('routine ', n)",
        "task": "'tasks.poll'",
        "schedule": """'{"timedelta": 3600}'""",
        "overlap": "CASE WHEN n % 10 = 0 THEN 'queue' ELSE 'allow' END",
        "next_run_at": ago("100 - n"),
        "occurrence_at": ago("100 - n"),
        "alert": "CASE WHEN n % 500 = 0 THEN 'failed' END",
        "waiting_for": f"CASE WHEN n % 5000 = 1 THEN {key('n + 1000000')} END",
    }
    with engine.begin() as connection:
        for table, columns in (("routines", routine), ("routine_runs", run)):
            select = f"SELECT {', '.join(columns.values())} FROM ({NUMBERS}) AS numbers"
            names = ", ".join(columns)
            statement = f"INSERT INTO {table} ({names}) {select}"
            connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.exec_driver_sql(sql["analyse"]).close()


#: What one statement may look at; there are a hundred thousand of each.
MOST_ROWS = 6000


@pytest.fixture(params=["postgresql", "mariadb"])
def engine(request):
    """A hundred thousand routines and as many runs."""
    engine = make_engine(request.getfixturevalue(request.param))
    migrations.migrate(engine)
    fill(engine)
    yield engine
    engine.dispose()


def key(engine, number):
    text = sa.text(f"SELECT {SQL[engine.dialect.name]['id'].format(number)}")
    with engine.connect() as connection:
        return UUID(str(connection.execute(text).scalar_one()))


def calls(engine):
    """What schedulers, workers and people ask for in the ordinary course of things, by name."""
    store = Store(engine, Presence(uuid4(), "", "host", 1))
    ledger = Ledger(engine)
    run, routine = key(engine, 1_000_000), key(engine, 500)
    keys = [key(engine, number) for number in range(50)]
    now = store.look().now
    limits = Limits(busy_since=now)

    def walk(state, after=None):
        walk = Walk(state, now - 60 * SECOND, after, 2000)
        return store.redeliver(lambda task, run: Verdict(), walk, limit=100)

    since = Since(
        now - 90 * SECOND, now - 60 * SECOND, now - 7 * DAY, now - 60 * SECOND, now - HOUR
    )
    return {
        "look": store.look,
        "look on": lambda: store.look(
            after=Passed(Position(now - 60 * SECOND, str(routine)), now - 60 * SECOND)
        ),
        "claim": lambda: store.claim(lambda each, at: decide(each, at, limits), limit=100),
        "claim on": lambda: store.claim(
            lambda each, at: decide(each, at, limits),
            limit=100,
            after=Position(now - 60 * SECOND, str(routine)),
            published=[key(engine, 1_002_440)],
        ),
        "claim early": lambda: store.claim(
            lambda each, at: decide(each, at, limits),
            limit=100,
            until=store.look().now + SOON / 2,
        ),
        "rescue": lambda: store.rescue(lambda each, at: Verdict(), age=10 * SECOND, limit=100),
        "give up": lambda: store.rescue(
            lambda each, at: Verdict(State.MISSED, "too late"), age=timedelta(0), limit=100
        ),
        "release": lambda: store.release(limit=100),
        "beat": lambda: store.beat(timedelta(0)),
        "survey": lambda: store.survey(since),
        "sweep": lambda: store.sweep(
            lambda task: None, now=now, lost_after=90 * SECOND, limit=100, may_send=True
        ),
        "sent": lambda: walk(State.SENT),
        "sent on": lambda: walk(State.SENT, Place(now - 3 * HOUR, str(routine))),
        "retrying": lambda: walk(State.RETRYING),
        "alert": lambda: store.alert(
            overdue_before=now - 60 * SECOND,
            tells_overdue=True,
            failed_since=now - DAY,
            alerted_after=None,
            limit=100,
        ),
        "alert on": lambda: store.alert(
            overdue_before=now - 60 * SECOND,
            tells_overdue=True,
            failed_since=now - 60 * SECOND,
            alerted_after=routine.hex if engine.dialect.name == "mysql" else str(routine),
            limit=100,
        ),
        "prune": lambda: store.prune(now - 7 * DAY, now - 365 * DAY, limit=1000),
        "surplus": lambda: store.surplus(routine, keep=50),
        "prune surplus": lambda: store.prune_surplus(routine, now - 3 * DAY, limit=1000),
        "beats of a worker": lambda: ledger.beat(
            [(key(engine, 1_000_000 + n), uuid4()) for n in range(20)], "w@host"
        ),
        "last runs": lambda: transact(engine, partial(run_list.last_runs, desk=Desk(), keys=keys)),
        "last notes": lambda: transact(
            engine, partial(changes.last_notes, desk=Desk(), names=["routine 1", "routine 2"])
        ),
        "newest runs": lambda: transact(engine, partial(run_list.all_runs, desk=Desk())),
        "begin": lambda: ledger.begin(run, uuid4(), retries=0, worker="w@host"),
        "end": lambda: ledger.end(run, uuid4(), State.SUCCEEDED),
    }


def test_no_statement_looks_at_all_rows(engine):
    asked = {}

    def note(connection, cursor, statement, parameters, context, many):
        if statement.startswith("INSERT"):
            return
        parameters = parameters[0] if many else parameters
        asked.setdefault((name, statement), parameters)

    def note_shortcut(statement, parameters):
        asked.setdefault((name, statement), parameters)

    for name, call in calls(engine).items():
        if name in ("begin", "end"):
            with each_statement(note_shortcut):
                call()
            continue
        sa.event.listen(engine, "before_cursor_execute", note)
        call()
        sa.event.remove(engine, "before_cursor_execute", note)

    faults = []
    for (name, statement), parameters in asked.items():
        faults += [
            f"{name}: {fault}\n{statement}" for fault in faults_of(engine, statement, parameters)
        ]
    assert 45 < len(asked)
    assert not faults, "\n\n".join(faults)


def test_a_claim_is_two_statements_and_a_look_is_one(postgresql):
    engine, store = alive(postgresql)
    asked = []

    def claim(**kwargs):
        asked.clear()
        return store.claim(lambda each, at: decide(each, at, Limits(busy_since=at)), **kwargs)

    with each_statement(lambda statement, _: asked.append(statement)):
        first = claim(limit=100)
        assert (100, 2) == (len(first.claimed), len(asked))
        second = claim(limit=100, after=first.last, published=[h.run.id for h in first.claimed])
        assert (100, 2) == (len(second.claimed), len(asked))
        assert (0, 1) == (claim(limit=100, after=second.last).rows, len(asked))
        asked.clear()
        store.look()
        assert 1 == len(asked)
    with engine.connect() as connection:
        states = connection.exec_driver_sql("SELECT state, count(*) FROM routine_runs GROUP BY 1")
        assert {"sent": 300, "claimed": 100} == dict(states.all())
    engine.dispose()


def test_one_offs_leave_in_the_statement_that_enters_their_runs(postgresql):
    engine = make_engine(postgresql, by_key=True)
    migrations.migrate(engine)
    fill(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(ONE_OFFS).close()
    store = Store(engine, Presence(uuid4(), "", "host", 1))
    asked = []

    with each_statement(lambda *each: asked.append(each)):
        batch = store.claim(lambda each, at: decide(each, at, Limits()), limit=100)

    assert 50 == sum(held.run.cause is Cause.ONCE for held in batch.claimed) < len(batch.claimed)
    assert 3 == len(asked), "the second looks for unfinished runs of those that queue"
    assert [] == faults_of(engine, *asked[-1])
    with engine.connect() as connection:
        left = "SELECT count(*) FROM routines WHERE origin = 'once'"
        entered = "SELECT count(*) FROM routine_runs WHERE cause = 'once' AND state = 'claimed'"
        assert (0, 50) == tuple(
            connection.exec_driver_sql(each).scalar_one() for each in (left, entered)
        )
    engine.dispose()


@pytest.mark.parametrize("by_key", [False, True])
def test_more_statements_only_where_there_is_more(postgresql, by_key):
    engine = make_engine(postgresql, by_key=by_key)
    migrations.migrate(engine)
    store = Store(engine, Presence(uuid4(), "", "host", 1))
    asked = []

    def number(call):
        asked.clear()
        call()
        return len(asked)

    def claim():
        return store.claim(lambda each, at: decide(each, at, Limits(busy_since=at)), limit=500)

    with each_statement(lambda statement, _: asked.append(statement)):
        with engine.begin() as connection:
            connection.exec_driver_sql(TO_PLAN).close()
        assert 3 == number(claim)  # with those to plan
        assert 1 == number(claim)
        assert 1 == number(store.look)
        with engine.begin() as connection:
            connection.exec_driver_sql(WAITS).close()
        assert 2 == number(store.look)  # with runs that wait
    engine.dispose()


#: Fifty, due before all others.
ONE_OFFS = """INSERT INTO routines (name, task, schedule, origin, next_run_at, occurrence_at)
    SELECT concat('once ', n), 't', '{"once": "2026-01-01T00:00:00Z"}', 'once', at, at
    FROM generate_series(1, 50) AS n, CAST('2026-01-01 00:00+00' AS timestamptz) AS at"""
TO_PLAN = """INSERT INTO routines (name, task, schedule) VALUES ('r', 't', '{"timedelta": 60}')"""
WAITS = """INSERT INTO routine_runs (id, routine_id, routine_name, task, cause, state, scheduled_for)
    SELECT id, id, name, task, 'schedule', 'waiting', next_run_at FROM routines"""


def test_nothing_is_looked_for_among_dead_entries_whatever_the_planner_believes(postgresql):
    engine = make_engine(postgresql, by_key=True)
    migrations.migrate(engine)
    store = Store(engine, Presence(uuid4(), "", "host", 1))
    columns = "INSERT INTO routines (name, task, schedule) SELECT concat('r', n), 't',"
    with engine.begin() as connection:
        numbers = "generate_series(1, 20000) AS n"
        connection.exec_driver_sql(f"""{columns} '{{"timedelta": 60}}' FROM {numbers}""").close()
        connection.exec_driver_sql("ANALYZE routines").close()  # none has a next_run_at
        later = "UPDATE routines SET next_run_at = statement_timestamp() + interval '1 hour'"
        connection.exec_driver_sql(later).close()

    def look_and_claim():
        assert not store.look().to_claim
        assert store.claim(lambda each, at: decide(each, at, Limits()), limit=100).rows == 0

    look_and_claim()  # which marks the dead entries that it meets
    asked = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection, cursor, statement, parameters, context, many):
        asked.append((statement, parameters))

    look_and_claim()
    sa.event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        for statement, parameters in asked:
            explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement
            (plan,) = connection.exec_driver_sql(explain, parameters).scalar_one()
            assert plan["Plan"]["Shared Hit Blocks"] < 1000, statement
    assert len(asked) == 2
    engine.dispose()


def test_who_goes_on_walks_through_no_dead_entries(postgresql):
    engine, store = alive(postgresql)
    now = store.look().now
    passed = Passed(Position(now, str(UUID(int=0))), now)
    asked = []

    def note(connection, cursor, statement, parameters, context, many):
        if "UPDATE routines" not in statement:
            asked.append((statement, parameters))

    def walked():
        asked.clear()
        sa.event.listen(engine, "before_cursor_execute", note)
        store.look()
        store.look(after=passed)
        for after in (None, passed.position):
            store.claim(lambda each, at: decide(each, at, Limits()), limit=100, after=after)
        sa.event.remove(engine, "before_cursor_execute", note)
        return [walk_of(engine, *each) for each in asked]

    holder = make_engine(postgresql)
    with holder.execution_options(isolation_level="REPEATABLE READ").connect() as old:
        old.exec_driver_sql("SELECT count(*) FROM routines").close()
        for statement in [*DIES * 100, LIVES]:
            with engine.begin() as connection:
                connection.exec_driver_sql(statement).close()
        look, look_on, claim, claim_on = walked()
    assert min(look[0], claim[0]) > 10_000 > 20 * max(look_on[0], claim_on[0])
    for _, bounds in (look_on, claim_on):
        assert any("(ROW(next_run_at, id) > ROW(" in bound for bound in bounds), bounds
    assert any("claimed_at >= " in bound for bound in look_on[1]), look_on
    holder.dispose()
    engine.dispose()


def alive(database):
    engine = make_engine(database, by_key=True)  # as a scheduler's
    migrations.migrate(engine)
    with engine.begin() as connection:
        for statement in LIVE:
            connection.exec_driver_sql(statement).close()
    return engine, Store(engine, Presence(uuid4(), "", "host", 1))


#: Two hundred routines and as many runs; what makes dead entries of each; and what is left.
LIVE = [
    """INSERT INTO routines (name, task, schedule, next_run_at) SELECT concat('r', n), 't',
    '{"timedelta": 60}', statement_timestamp() - interval '1 day' FROM generate_series(1, 200) n""",
    """INSERT INTO routine_runs
    (id, routine_id, routine_name, task, cause, state, scheduled_for, claimed_at)
    SELECT id, id, name, task, 'schedule', 'sent', next_run_at, next_run_at FROM routines""",
]
DIES = [
    "UPDATE routines SET next_run_at = next_run_at + interval '1 second'",
    "UPDATE routine_runs SET state = 'claimed', claimed_at = claimed_at + interval '1 second'",
    "UPDATE routine_runs SET state = 'sent'",
]
LIVES = "UPDATE routines SET next_run_at = next_run_at + interval '10 days'"


def walk_of(engine, statement, parameters):
    """How many blocks a statement looked at, and by which conditions it found its entries."""
    with engine.connect() as connection, connection.begin() as transaction:
        explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement
        (plan,) = connection.exec_driver_sql(explain, parameters).scalar_one()
        transaction.rollback()
    bounds = [node.get("Index Cond", "") for node in nodes_of(plan["Plan"])]
    return plan["Plan"]["Shared Hit Blocks"], bounds


def faults_of(engine, statement, parameters):
    """What is wrong with the way in which a statement finds its rows."""
    with engine.connect() as connection, connection.begin() as transaction:
        look = {"postgresql": faults_on_postgresql, "mysql": faults_on_mysql}
        found = look[engine.dialect.name](connection, statement, parameters)
        transaction.rollback()
    return found


def faults_on_postgresql(connection, statement, parameters):
    if "INSERT INTO routine_runs" in statement:  # what it has inserted already
        there = "DELETE FROM routine_runs WHERE id = ANY(CAST(%(id)s AS uuid[]))"
        connection.exec_driver_sql(there, {"id": parameters["id"]}).close()
    explain = "EXPLAIN (ANALYZE, FORMAT JSON) " + statement
    (plan,) = connection.exec_driver_sql(explain, parameters).scalar_one()
    unbound = [
        f"all of {node['Index Name']}: {node.get('Index Cond')}"
        for node in nodes_of(plan["Plan"])
        for first in (BOUND_BY.get(node.get("Index Name")),)
        if first and first not in node.get("Index Cond", "")
    ]
    return unbound + [
        f"{node['Relation Name']} by {node['Node Type']}, {rows_of(node)} rows"
        for node in nodes_of(plan["Plan"])
        if node.get("Relation Name") in TABLES
        and node["Node Type"] != "ModifyTable"
        and (node["Node Type"] == "Seq Scan" or rows_of(node) > MOST_ROWS)
    ]


def nodes_of(node):
    yield node
    for below in node.get("Plans", ()):
        yield from nodes_of(below)


def rows_of(node):
    return (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]


def faults_on_mysql(connection, statement, parameters):
    plan = connection.exec_driver_sql("EXPLAIN " + statement, parameters).mappings().all()
    found = [
        f"{row['table']} by {row['type']} {row['key']}, {row['Extra']}"
        for row in plan
        if row["table"] in TABLES and row["type"] in ("ALL", "index")
    ]
    connection.exec_driver_sql("FLUSH STATUS")
    connection.exec_driver_sql(statement, parameters).close()
    counts = connection.exec_driver_sql("SHOW STATUS LIKE 'Handler_read%%'").all()
    seen = sum(int(count) for _, count in counts)
    return [*found, f"{seen} rows"] if found or seen > MOST_ROWS else []


#: Indexes, and the column between namespace and instant, without which PostgreSQL, before 18, reads
#: all entries of the namespace.
BOUND_BY = {"routines_due": "active", "routine_runs_ended": "state"}
#: And by what names they are joined with themselves.
TABLES = ("routines", "routine_runs", "other", "run")
