"""Sessions of tasks: committed, rolled back, on pools that are shared and made at first use."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from servers import wait_for
from sqlalchemy.pool import Pool

from celery_sqlalchemy_kit import AsyncTask, SettingsError, SyncTask, aio, resource, sessions

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests")

NOTES = sa.Table("notes", sa.MetaData(), sa.Column("word", sa.String(20), primary_key=True))
SLEEP = {"postgresql": "SELECT pg_sleep(30)", "mysql": "SELECT sleep(30)"}
DRIVERS = {
    "sqlite": ["aiosqlite"],
    "postgresql": ["asyncpg"],
    "mariadb": ["aiomysql", "asyncmy"],
}


@pytest.fixture(autouse=True)
def _clean(caplog, recwarn):
    """No connection is left to the garbage collector, and asyncio has nothing to complain of."""
    caplog.set_level("INFO")
    yield
    aio.close()
    sessions.close()
    gc.collect(1)
    logged = [each for each in caplog.records if each.name.startswith(("asyncio", "sqlalchemy"))]
    assert not [each for each in caplog.records if "_Pool" in each.name], "a logger of SQLAlchemy's"
    assert [] == [each.getMessage() for each in logged if each.levelno > 20]
    assert [] == [str(each.message) for each in recwarn if each.category is not DeprecationWarning]


@pytest.fixture(
    params=[(name, driver) for name in DRIVERS for driver in DRIVERS[name]], ids="+".join
)
def app(request):
    """An app that has a table of notes, on each database, with each asynchronous driver."""
    name, driver = request.param
    pytest.importorskip(driver)
    url = request.getfixturevalue(name)
    made = app_on(url, worker_async_db_uri=url.set(drivername=f"{url.get_backend_name()}+{driver}"))
    engine = sa.create_engine(url)
    NOTES.create(engine)
    engine.dispose()
    return made


def app_on(url=None, **conf):
    app = Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(scheduler_db_uri=url, **conf)

    class Sync(SyncTask):
        name = "sync"
        schedule = 60
        autoretry_for = ()

        def run(self, body):
            return body(self)

    class Async(AsyncTask):
        name = "async"
        schedule = 60
        autoretry_for = ()

        async def execute(self, body):
            return await body(self)

    app.finalize()
    return app


@pytest.fixture
def connected():
    """What was connected to, as the pools have it."""
    made = []

    def count(connection, record):
        made.append(connection)

    sa.event.listen(Pool, "connect", count)
    yield made
    sa.event.remove(Pool, "connect", count)


def run(app, body):
    """The result of an async task of *app*, whose body is *body*."""
    return app.tasks["async"].apply((body,)).get()


def run_sync(app, body):
    return app.tasks["sync"].apply((body,)).get()


def insert(word):
    return NOTES.insert().values(word=word)


def words(app):
    """What is committed, as somebody else sees it."""
    engine = sa.create_engine(app.conf.scheduler_db_uri)
    with engine.connect() as connection:
        found = sorted(connection.execute(sa.select(NOTES.c.word)).scalars())
    engine.dispose()
    return found


# -- commit and roll back ---------------------------------------------------------------------


def test_it_is_committed_at_the_end(app):
    async def body(task):
        async with task.session() as session:
            await session.execute(insert("kept"))
            assert words(app) == []

    run(app, body)
    assert words(app) == ["kept"]


def test_it_is_rolled_back_if_the_body_fails(app):
    async def body(task):
        async with task.session() as session:
            await session.execute(insert("lost"))
            raise LookupError

    with pytest.raises(LookupError):
        run(app, body)
    assert words(app) == []


def test_it_may_be_committed_in_between_and_goes_on(app):
    async def body(task):
        async with task.session() as session:
            await session.execute(insert("first"))
            await session.commit()
            await session.execute(insert("second"))
            await session.rollback()
            await session.execute(insert("third"))

    run(app, body)
    assert words(app) == ["first", "third"]


def test_two_in_one_task_are_two_transactions(app):
    async def body(task):
        async with task.session() as one:
            found = (await one.execute(sa.select(NOTES))).all()
            async with task.session() as other:
                await other.execute(insert("other"))
            await one.rollback()
        return len(found)

    assert run(app, body) == 0
    assert words(app) == ["other"]


def test_one_that_is_cancelled_is_rolled_back_and_its_connection_serves_no_other(app, connected):
    """Cancelled in the middle of a statement, where the server is asked to be patient."""
    app.conf.worker_async_db_engine_options = {"pool_size": 1, "max_overflow": 0}
    statement = SLEEP.get(app.conf.scheduler_db_uri.get_backend_name())

    async def body(task):
        async with task.session() as session:
            await session.execute(insert("lost"))
            if statement is None:
                await asyncio.Event().wait()
            await session.execute(sa.text(statement))

    async def cancelled(task):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(body(task), 0.3)
        async with task.session() as session:
            return (await session.execute(sa.select(NOTES))).all()

    assert run(app, cancelled) == []
    assert words(app) == []


def test_the_soft_time_limit_rolls_it_back_in_the_middle_of_a_statement(app):
    app.conf.worker_async_db_engine_options = {"pool_size": 1, "max_overflow": 0}
    statement = SLEEP.get(app.conf.scheduler_db_uri.get_backend_name())

    async def body(task):
        async with task.session() as session:
            await session.execute(insert("lost"))
            asyncio.get_running_loop().call_later(0.3, signal.raise_signal, signal.SIGUSR1)
            if statement is None:
                await asyncio.Event().wait()
            await session.execute(sa.text(statement))

    async def read(task):
        async with task.session() as session:
            return (await session.execute(sa.select(NOTES))).all()

    def limit(*_):
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGUSR1, limit)
    try:
        with pytest.raises(SoftTimeLimitExceeded):
            aio.run(lambda: body(app.tasks["async"]))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert run(app, read) == []


def test_what_was_read_can_be_used_after_it(app):
    registry = sa.orm.registry()

    class Note:
        pass

    registry.map_imperatively(Note, NOTES)
    try:

        async def body(task):
            async with task.session() as session:
                session.add(note := Note())
                note.word = "read"
            return note.word

        assert run(app, body) == "read"
    finally:
        registry.dispose()


# -- the pool ---------------------------------------------------------------------------------


def test_a_pool_of_two_serves_200_tasks_at_once(app, connected):
    app.conf.worker_async_db_engine_options = {"pool_size": 2, "max_overflow": 0}

    async def one(task, number):
        async with task.session() as session:
            await session.execute(sa.select(NOTES))
            await asyncio.sleep(0)
            await session.execute(insert(f"word {number}"))

    async def body(task):
        await asyncio.gather(*(one(task, number) for number in range(200)))

    run(app, body)
    assert len(words(app)) == 200
    assert len(connected) - 1 <= 2  # one is `words`'s


def test_a_connection_that_the_server_has_cut_is_replaced(app):
    backend = app.conf.scheduler_db_uri.get_backend_name()
    if backend == "sqlite":
        return  # there is no server
    asked = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}[backend]
    cut = {"postgresql": "SELECT pg_terminate_backend(%d)", "mysql": "KILL %d"}[backend]
    there = {
        "postgresql": "SELECT 1 FROM pg_stat_activity WHERE pid = %d",
        "mysql": "SELECT 1 FROM information_schema.processlist WHERE id = %d",
    }[backend]

    async def body(task):
        async with task.session() as session:
            return (await session.execute(sa.text(asked))).scalar()

    first = run(app, body)
    engine = sa.create_engine(app.conf.scheduler_db_uri, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(cut % first)
        wait_for(lambda: connection.exec_driver_sql(there % first).first() is None)
    engine.dispose()
    assert run(app, body) not in (first, None)


def test_tasks_that_wait_while_the_database_is_away_are_told_so_at_once():
    """SQLAlchemy's own pool would let all but the first two wait until its timeout."""
    pytest.importorskip("asyncpg")
    away = "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"
    options = {"pool_size": 2, "max_overflow": 0}
    app = app_on(worker_async_db_uri=away, worker_async_db_engine_options=options)

    async def one(task):
        async with task.session() as session:
            await session.execute(sa.select(1))

    async def body(task):
        tried = asyncio.gather(*(one(task) for _ in range(20)), return_exceptions=True)
        return {type(each) for each in await asyncio.wait_for(tried, 20)}

    (error,) = run(app, body)
    assert issubclass(error, OSError)


def test_threads_that_wait_while_the_database_is_away_are_told_so_at_once():
    app = app_on(
        "postgresql+psycopg2://nobody@127.0.0.1:1/nothing",
        worker_db_engine_options={"pool_size": 1, "max_overflow": 0, "pool_timeout": 20},
    )

    def body(_):
        with pytest.raises(sa.exc.OperationalError), app.tasks["sync"].session() as session:
            session.connection()
        return True

    with ThreadPoolExecutor(20) as threads:
        assert all(threads.map(body, range(20)))


def test_one_that_is_never_used_connects_to_nothing(app, connected):
    async def body(task):
        async with task.session():
            pass

    run(app, body)
    assert connected == []


def test_a_task_without_sessions_imports_no_driver(processes):
    processes.app(
        "proj",
        "import sys\n"
        "from celery import Celery\n"
        "from celery_sqlalchemy_kit import AsyncTask\n"
        "class T(AsyncTask):\n"
        "    name = 't'\n"
        "    async def execute(self): pass\n"
        "app = Celery(set_as_current=True)\n"
        "app.conf.update(scheduler_db_uri='sqlite:///a.db', worker_async_db_uri='sqlite+aiosqlite:///a.db')\n"
        "app.tasks['t'].apply().get()\n"
        "found = {'asyncpg', 'aiosqlite', 'sqlalchemy.orm', 'sqlalchemy.ext.asyncio'} & set(sys.modules)\n"
        "print('imported:', sorted(found), flush=True)\n",
    )
    started = processes.start("python", sys.executable, "-m", "proj")
    started.expect("imported: []")


def test_each_app_has_an_engine_of_its_own(sqlite, tmp_path):
    apps = [app_on(sqlite), app_on(sqlite.set(database=str(tmp_path / "other.db")))]

    async def body(task):
        async with task.session() as one, task.session() as two:
            assert one.bind is two.bind
            return str(one.bind.url)

    assert len({run(app, body) for app in apps}) == 2


def test_engines_are_disposed_with_the_loop_and_made_anew_after_it(app, connected):
    async def body(task):
        async with task.session() as session:
            await session.execute(sa.select(NOTES))
            return session.bind

    first = run(app, body)
    assert len(connected) == 1
    aio.close()
    assert first.sync_engine.pool.checkedin() == 0
    assert run(app, body) is not first
    assert len(connected) == 2


def test_a_forked_child_has_engines_of_its_own(app):
    async def read(task):
        async with task.session() as session:
            await session.execute(sa.select(NOTES))
            return session.bind

    def read_sync(task):
        with task.session() as session:
            session.execute(sa.select(NOTES))
            return session.get_bind()

    parents = run(app, read), run_sync(app, read_sync)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        own = run(app, read), run_sync(app, read_sync)
        aio.close()
        sessions.close()
        gc.collect()
        os._exit(1 if own[0] is parents[0] or own[1] is parents[1] else 7)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert (run(app, read), run_sync(app, read_sync)) == parents


def test_a_database_in_memory_is_one_for_all_tasks():
    pytest.importorskip("aiosqlite")
    app = app_on(worker_async_db_uri="sqlite+aiosqlite://")

    async def body(task):
        async with task.session() as session:
            connection = await session.connection()
            await connection.run_sync(NOTES.metadata.create_all)

        async def one(number):
            async with task.session() as session:
                await session.execute(insert(f"word {number}"))

        await asyncio.gather(*map(one, range(20)))
        async with task.session() as session:
            return len((await session.execute(sa.select(NOTES))).all())

    assert run(app, body) == 20


# -- the synchronous twin ---------------------------------------------------------------------


@pytest.fixture
def sync_app(database):
    made = app_on(database)
    engine = sa.create_engine(database)
    NOTES.create(engine)
    engine.dispose()
    return made


def test_the_twin_is_committed_at_the_end(sync_app):
    def body(task):
        with task.session() as session:
            session.execute(insert("kept"))

    run_sync(sync_app, body)
    assert words(sync_app) == ["kept"]


@pytest.mark.parametrize("error", [LookupError, SoftTimeLimitExceeded, SystemExit])
def test_the_twin_is_rolled_back_if_the_body_fails(sync_app, error):
    def body(task):
        with task.session() as session:
            session.execute(insert("lost"))
            raise error

    with pytest.raises(error):
        body(sync_app.tasks["sync"])
    assert words(sync_app) == []
    with sync_app.tasks["sync"].session() as session:
        assert session.execute(sa.select(NOTES)).all() == []


def test_the_twins_pool_of_two_serves_20_threads(sync_app, connected):
    sync_app.conf.worker_db_engine_options = {"pool_size": 2, "max_overflow": 0}
    start = threading.Barrier(20)

    def body(number):
        start.wait(10)
        with sync_app.tasks["sync"].session() as session:
            session.execute(sa.select(NOTES))
            session.execute(insert(f"word {number}"))
            return session.get_bind()

    with ThreadPoolExecutor(20) as threads:
        assert len(set(threads.map(body, range(20)))) == 1
    assert len(words(sync_app)) == 20
    assert len(connected) - 1 <= 2


def sleep_in_a_statement(task):
    with task.session() as session:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        session.execute(sa.text("SELECT sleep(5)"))


def test_the_twins_soft_limit_in_a_statement_leaves_no_connection_that_is_out_of_step(mariadb):
    """PyMySQL waits in Python, where the signal of the limit strikes."""
    app = app_on(mariadb, worker_db_engine_options={"pool_size": 1, "max_overflow": 0})
    task = app.tasks["sync"]

    def limit(*_):
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, limit)
    try:
        with pytest.raises(SoftTimeLimitExceeded):
            sleep_in_a_statement(task)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with task.session() as session:
        assert session.execute(sa.text("SELECT 42")).scalar() == 42


# -- which database ---------------------------------------------------------------------------


def test_without_a_setting_of_its_own_it_is_the_schedulers_database(database):
    engine = sa.create_engine(database)
    NOTES.create(engine)
    engine.dispose()
    app = app_on(database)

    async def body(task):
        async with task.session() as session:
            await session.execute(insert("kept"))
            return session.bind.dialect.is_async

    assert run(app, body)
    assert words(app) == ["kept"]


def test_parameters_of_libpq_reach_the_server(postgresql):
    query = {**postgresql.query, "sslmode": "prefer", "connect_timeout": "5"}
    query |= {"application_name": "a name, & more", "options": "-c statement_timeout=4321"}
    app = app_on(postgresql.set(query=query))

    async def body(task):
        async with task.session() as session:
            return [
                (await session.execute(sa.text(f"SHOW {each}"))).scalar()
                for each in ("application_name", "statement_timeout")
            ]

    assert run(app, body) == ["a name, & more", "4321ms"]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_without_any_database_the_settings_are_named(kind):
    task = app_on().tasks[kind]

    async def body(task):
        task.session()

    def body_sync(task):
        with task.session():
            pass

    with pytest.raises(SettingsError) as raised:
        aio.run(lambda: body(task)) if kind == "async" else body_sync(task)
    assert "scheduler_db_uri" in str(raised.value)
    assert ("worker_async_db_uri" in str(raised.value)) is (kind == "async")


@pytest.mark.parametrize(
    ("missing", "url", "told"),
    [
        ("asyncpg", "postgresql+asyncpg://h/d", 'pip install "celery-sqlalchemy-kit[postgres]"'),
        ("aiomysql", "mysql+aiomysql://h/d", 'pip install "celery-sqlalchemy-kit[mysql]"'),
        ("aiosqlite", "sqlite+aiosqlite:///d", 'pip install "celery-sqlalchemy-kit[sqlite]"'),
    ],
)
def test_a_driver_that_is_missing_is_named_with_its_extra(monkeypatch, missing, url, told):
    monkeypatch.setitem(sys.modules, missing, None)
    app = app_on(worker_async_db_uri=url)

    async def body(task):
        async with task.session():
            pass

    with pytest.raises(SettingsError) as raised:
        run(app, body)
    assert f"{missing} is not installed: {told}" == str(raised.value)


def test_options_that_sqlalchemy_does_not_know_are_told_with_their_setting(sqlite):
    app = app_on(
        sqlite, worker_async_db_engine_options={"size": 2}, worker_db_engine_options={"length": 3}
    )

    async def body(task):
        async with task.session():
            pass

    with pytest.raises(SettingsError, match=r"worker_async_db_engine_options.*'size'"):
        run(app, body)
    with pytest.raises(SettingsError, match=r"worker_db_engine_options.*'length'"):
        run_sync(app, lambda task: task.session().__enter__())


def test_in_code_that_is_no_coroutine_of_an_async_task_it_is_an_error_at_once(sqlite):
    task = app_on(sqlite).tasks["async"]

    async def elsewhere():
        task.session()

    with pytest.raises(RuntimeError, match=r"session\(\) is for the coroutines of async tasks"):
        task.session()
    with pytest.raises(RuntimeError, match=r"session\(\) is for the coroutines of async tasks"):
        asyncio.run(elsewhere())


# -- a pool of one's own ----------------------------------------------------------------------


def test_a_pool_of_two_connections_as_a_resource_serves_200_tasks(postgresql):
    asyncpg = pytest.importorskip("asyncpg")
    host = postgresql.query["host"]

    @resource
    def pool():
        return asyncpg.create_pool(
            host=host, user="postgres", database=postgresql.database, min_size=2, max_size=2
        )

    async def one(number):
        async with (await pool()).acquire() as connection:
            return await connection.fetchval("SELECT $1::int", number)

    app = app_on()
    with ThreadPoolExecutor(20) as threads:
        task = app.tasks["async"]
        given = list(threads.map(lambda n: run_task(task, one, n), range(200)))
    assert given == list(range(200))


def run_task(task, body, number):
    return aio.run(lambda: body(number), task=task)
