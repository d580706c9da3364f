"""The servers that other tests rely on."""

import sys

import kombu
import pytest
import redis
import servers
import sqlalchemy as sa


@pytest.fixture
def connection(database):
    engine = sa.create_engine(database, future=True)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_gets_an_empty_database(connection, again):
    assert [] == sa.inspect(connection).get_table_names()

    connection.execute(sa.text("CREATE TABLE left_over (id INTEGER)"))


@pytest.fixture
def left_open():
    """Connections that outlive the database, if the test asks for this fixture first."""
    connections = []
    yield connections
    for connection in connections:
        connection.invalidate()
        connection.close()


def test_a_database_goes_although_somebody_is_connected(left_open, database):
    left_open.append(sa.create_engine(database, future=True).connect())
    left_open[0].execute(sa.text("SELECT 1"))


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_gets_an_empty_redis(redis_url, again):
    with redis.Redis.from_url(redis_url) as client:
        assert 0 == client.dbsize()

        client.set("left", "over")


def test_a_child_process_is_watched_by_its_output(processes):
    processes.app("proj", "import time; print('begun'); time.sleep(60)")
    child = processes.start("child", sys.executable, "-m", "proj")
    child.expect("begun")

    assert child.returncode is None

    child.terminate()

    assert -15 == child.wait()


def test_a_child_that_ends_early_is_not_waited_for(processes):
    child = processes.start("child", sys.executable, "-c", "print('over')")

    with pytest.raises(RuntimeError, match="child-1 ended"):
        child.expect("begun", timeout=60)


def test_waiting_gives_up():
    with pytest.raises(TimeoutError, match="a miracle did not come about within 0 seconds"):
        servers.wait_for(lambda: False, timeout=0, what="a miracle")


def test_a_rabbitmq_of_its_own_takes_messages(rabbitmq_url):
    with kombu.Connection(rabbitmq_url) as connection, connection.SimpleQueue("tests") as queue:
        queue.put("here")

        assert "here" == queue.get(timeout=5).payload
