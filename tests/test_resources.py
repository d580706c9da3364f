"""Resources: opened once, on the event loop, shared by all coroutines, closed with the loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from celery import Celery
from servers import wait_for

from celery_sqlalchemy_kit import AsyncTask, DeclarationError, aio, resource
from celery_sqlalchemy_kit.aio import loop as aio_loop

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests")


@pytest.fixture(autouse=True)
def _clean(caplog):
    """The loop ends with each test, and asyncio has nothing to complain of."""
    yield
    aio.close()
    gc.collect(1)
    complaints = [each for each in caplog.records if each.name == "asyncio" and each.levelno > 20]
    assert [] == [each.getMessage() for each in complaints]


@pytest.fixture
def events():
    return []


@pytest.fixture
def thing(events):
    """A resource that tells what becomes of it."""

    @resource
    async def thing():
        events.append("opened")
        yield SimpleNamespace(loop=asyncio.get_running_loop(), opened_by=asyncio.current_task())
        events.append("closed")

    return thing


async def get(wanted):
    return await wanted()


def use(wanted):
    return aio.run(lambda: get(wanted))


# -- opened once ------------------------------------------------------------------------------


def test_it_is_the_same_object_for_every_task_and_is_closed_with_the_loop(thing, events):
    assert use(thing) is use(thing)
    assert events == ["opened"]

    aio.close()
    assert events == ["opened", "closed"]


def test_what_is_never_used_is_never_opened(thing, events):
    aio.run(lambda: asyncio.sleep(0))
    aio.close()
    assert events == []


def test_many_who_want_it_at_first_wait_for_one_opening(events):
    @resource
    async def slow():
        events.append("opened")
        await asyncio.sleep(0.01)
        yield object()

    async def body():
        return await asyncio.gather(*(slow() for _ in range(100)))

    assert len(set(aio.run(body))) == 1
    assert events == ["opened"]


def test_threads_that_want_it_at_once_share_it(thing, events):
    with ThreadPoolExecutor(8) as threads:
        assert len({id(each) for each in threads.map(lambda _: use(thing), range(8))}) == 1
    assert events == ["opened"]


def test_after_the_loop_was_closed_it_is_opened_anew(thing, events):
    first = use(thing)
    aio.close()
    assert use(thing) is not first
    assert events == ["opened", "closed", "opened"]


def test_a_forked_child_opens_its_own_and_leaves_the_parents_alone(thing, events):
    mine = use(thing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        own = use(thing)
        aio.close()
        as_they_should = own is not mine and events == ["opened", "opened", "closed"]
        os._exit(7 if as_they_should else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert use(thing) is mine
    assert events == ["opened"]


@pytest.mark.parametrize("kind", ["class", "function", "manager"])
def test_what_returns_an_async_context_manager_will_do(kind, events):
    class Client:
        async def __aenter__(self):
            events.append("opened")
            return self

        async def __aexit__(self, *_):
            events.append("closed")

    @asynccontextmanager
    async def manager():
        async with Client() as client:
            yield client

    client = resource({"class": Client, "function": lambda: Client(), "manager": manager}[kind])

    assert isinstance(use(client), Client)
    aio.close()
    assert events == ["opened", "closed"]


@pytest.mark.parametrize("value", [None, 0, ()])
def test_it_may_be_any_value(value):
    @resource
    async def odd():
        yield value

    assert use(odd) is value


def test_it_may_need_another_which_is_closed_after_it(events):
    @resource
    async def pool():
        yield "pool"
        events.append("pool closed")

    @resource
    async def client():
        yield f"client of {await pool()}"
        assert await pool() == "pool"
        events.append("client closed")

    assert use(client) == "client of pool"
    aio.close()
    assert events == ["client closed", "pool closed"]


def test_the_last_one_opened_is_closed_first(events):
    def make(name):
        @resource
        async def each():
            yield name
            events.append(name)

        return each

    for name in "abc":
        use(make(name))
    aio.close()
    assert events == ["c", "b", "a"]


# -- failures ---------------------------------------------------------------------------------


def test_a_failure_is_raised_in_all_who_wait_and_the_next_use_tries_again(events):
    @resource
    async def shaky():
        events.append("tried")
        await asyncio.sleep(0.01)
        if len(events) == 1:
            raise ConnectionError("not yet")
        yield "open"

    async def body():
        failed = await asyncio.gather(*(shaky() for _ in range(5)), return_exceptions=True)
        return [str(error) for error in failed], await shaky()

    assert aio.run(body) == (["not yet"] * 5, "open")
    assert events == ["tried", "tried"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_would_end_the_loop_fails_those_who_wait(error):
    @resource
    async def broken():
        raise error
        yield

    with pytest.raises(RuntimeError, match=f"broken was ended by {type(error).__name__}") as raised:
        use(broken)
    assert raised.value.__cause__ is error


def test_one_that_yields_nothing_fails():
    @resource
    async def empty():
        return
        yield

    with pytest.raises(RuntimeError, match="didn't yield"):
        use(empty)


def test_a_first_user_who_is_cancelled_cancels_the_opening_for_nobody(events):
    @resource
    async def slow():
        events.append("opened")
        await asyncio.sleep(0.05)
        yield "open"
        events.append("closed")

    async def body():
        first = asyncio.ensure_future(slow())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(slow())
        await asyncio.sleep(0)
        first.cancel()
        got = await second
        return got, first.cancelled()

    assert aio.run(body) == ("open", True)
    aio.close()
    assert events == ["opened", "closed"]


def test_it_is_opened_and_closed_in_one_task_which_is_nobodys():
    """Cancel scopes and timeouts have to be left in the task that has entered them."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    @resource
    async def thing():
        seen.append((asyncio.current_task(), variable.get(), aio.ident()))
        async with asyncio.Lock():
            yield
        seen.append((asyncio.current_task(), variable.get(), aio.ident()))

    async def body():
        variable.set("the first user's")
        await thing()
        return asyncio.current_task(), aio.ident()

    task, ident = aio.run(body)
    aio.close()
    opened, closed = seen
    assert opened == closed
    assert opened[0] is not task
    assert opened[1] == "unset"
    assert opened[2] != ident


def test_resources_that_need_each_other_are_told_so():
    @resource
    async def hen():
        yield await egg()

    @resource
    async def egg():
        yield await hen()

    with pytest.raises(RuntimeError, match=r"need each other: .*hen → .*egg → .*hen"):
        use(hen)


def test_one_that_ends_by_itself_is_opened_anew(events, caplog):
    @resource
    async def fragile():
        events.append("opened")
        yield asyncio.current_task()
        events.append("closed")

    async def body():
        (keeper := await fragile()).cancel()
        await asyncio.wait([keeper])
        return keeper is not await fragile()

    assert aio.run(body)
    assert events == ["opened", "opened"]
    assert "fragile has ended, and is opened anew when used" in caplog.text


# -- closing ----------------------------------------------------------------------------------


def test_one_that_cannot_be_closed_is_told_and_the_others_are_closed(events, caplog):
    @resource
    async def first():
        yield
        events.append("first")

    @resource
    async def second():
        yield
        raise OSError("no such line")

    use(first)
    use(second)
    aio.close()
    assert events == ["first"]
    assert "second could not be closed" in caplog.text
    assert "no such line" in caplog.text


def test_one_that_takes_too_long_to_close_is_left_and_the_others_are_closed(
    events, caplog, monkeypatch
):
    monkeypatch.setattr(aio_loop, "CLOSE_LIMIT", 0.05)

    @resource
    async def first():
        yield
        events.append("first")

    @resource
    async def second():
        yield
        try:
            await asyncio.Event().wait()
        finally:
            events.append("second was cancelled")

    use(first)
    use(second)
    aio.close()
    assert sorted(events) == ["first", "second was cancelled"]
    assert "second is not closed after 0.05 s" in caplog.text


def test_what_still_runs_has_it_until_it_has_ended(thing, events):
    begun = threading.Event()

    async def body():
        await thing()
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await thing()
            events.append("task ended")

    def caller():
        with pytest.raises(aio.EscapedError):
            aio.run(body)

    waiting = threading.Thread(target=caller)
    waiting.start()
    assert begun.wait(10)
    aio.close()
    waiting.join(10)
    assert events == ["opened", "task ended", "closed"]


def test_what_it_has_started_runs_until_it_is_closed_what_tasks_have_started_does_not(events):
    @resource
    async def batches():
        queue = asyncio.Queue()

        async def write():
            while (batch := await queue.get()) is not None:
                events.append(batch)

        writer = asyncio.ensure_future(write())
        yield queue
        await queue.put(None)
        await writer

    async def left_over():
        queue = await batches()
        try:
            await asyncio.Event().wait()
        finally:
            await queue.put("last")

    async def body():
        left = asyncio.ensure_future(left_over())
        await asyncio.sleep(0.01)
        return left

    left = aio.run(body)
    aio.close()
    assert left.cancelled()
    assert events == ["last"]


def test_an_opening_is_given_up_when_the_loop_ends(events):
    @resource
    async def slow():
        try:
            events.append("opening")
            await asyncio.Event().wait()
        finally:
            events.append("given up")
        yield

    def caller():
        with pytest.raises(aio.EscapedError):
            use(slow)

    waiting = threading.Thread(target=caller)
    waiting.start()
    wait_for(lambda: events, what="the opening")
    aio.close()
    waiting.join(10)
    assert events == ["opening", "given up"]


def test_none_is_opened_any_more_when_the_loop_ends(thing, events):
    @resource
    async def other():
        yield
        await thing()

    use(other)
    aio.close()
    assert events == []


def test_system_exit_while_it_is_closed_leaves_no_other_open(thing, events, caplog):
    @resource
    async def rude():
        async def leave():
            raise SystemExit(3)

        yield
        leaving = asyncio.ensure_future(leave())
        await asyncio.wait([leaving])
        leaving.exception()

    use(thing)
    use(rude)
    aio.close()
    assert events == ["opened", "closed"]


def test_a_blocked_thread_of_a_task_does_not_hold_up_the_end(monkeypatch, caplog):
    monkeypatch.setattr(aio_loop, "CLOSE_LIMIT", 0.05)
    free = threading.Event()

    async def body():
        loop, held = asyncio.get_running_loop(), asyncio.Event()

        def block():
            loop.call_soon_threadsafe(held.set)
            free.wait(20)

        blocked = asyncio.ensure_future(asyncio.to_thread(block))
        await held.wait()
        return blocked

    aio.run(body)
    loop = aio_loop._here.loop
    began = time.monotonic()
    aio.close()
    assert time.monotonic() - began < 5
    assert not loop.thread.is_alive()
    assert "a thread that an async task has started is blocked" in caplog.text
    free.set()


def test_a_blocked_thread_of_a_task_does_not_keep_the_process_from_its_exit(processes):
    processes.app(
        "blocked",
        "import asyncio, time\n"
        "from celery_sqlalchemy_kit import aio\n"
        "from celery_sqlalchemy_kit.aio import loop\n"
        "loop.CLOSE_LIMIT = 0.1\n"
        "async def body():\n"
        "    asyncio.ensure_future(asyncio.to_thread(time.sleep, 600))\n"
        "    await asyncio.sleep(0.1)\n"
        "aio.run(body)\n"
        "aio.close()\n"
        "print('closed', flush=True)\n",
    )
    started = processes.start("python", sys.executable, "-m", "blocked")
    started.expect("closed")
    assert started.wait(20) == 0


# -- declared wrongly, used in the wrong place ------------------------------------------------


async def returns():
    return 1


async def needs(url):
    yield url


@pytest.mark.parametrize(
    ("function", "told"), [(returns, "has to yield"), (needs, "without arguments")]
)
def test_what_can_be_no_resource_is_refused(function, told):
    with pytest.raises(DeclarationError, match=f"{function.__name__}.*{told}"):
        resource(function)


def test_parameters_with_defaults_are_none_of_its_business():
    @resource
    async def thing(size=2):
        yield size

    assert use(thing) == 2


def test_a_use_outside_of_the_loop_is_an_error_at_once(thing, events):
    with pytest.raises(RuntimeError, match="thing is for the coroutines of async tasks"):
        thing()
    with pytest.raises(RuntimeError, match="thing is for the coroutines of async tasks"):
        asyncio.run(get(thing))
    assert events == []


# -- with tasks, and another loop -------------------------------------------------------------


def test_tasks_of_an_app_share_it(thing, events):
    class Fetch(AsyncTask):
        name = "fetch"

        async def execute(self):
            return id(await thing())

    app = Celery("proj", broker="memory://", backend="cache+memory://")
    fetch = app.tasks["fetch"]

    assert fetch.apply().get() == fetch.apply().get()
    assert events == ["opened"]


def test_a_test_puts_something_else_in_its_place(monkeypatch):
    async def fake():
        return "fake"

    async def execute():
        return await client()

    monkeypatch.setitem(globals(), "client", fake)
    assert asyncio.run(execute()) == "fake"


@resource
async def client():
    yield "real"


@pytest.fixture
def task_with():
    """A task of an app with these settings."""

    def make(**conf):
        class Task(AsyncTask):
            name = "task"

            async def execute(self):
                return type(asyncio.get_running_loop()).__module__.partition(".")[0]

        app = Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=False)
        app.conf.update(conf)
        return app.tasks["task"]

    return make


@pytest.mark.parametrize(("asked", "module"), [(True, "uvloop"), (False, "asyncio")])
def test_uvloop_is_used_if_it_is_asked_for(task_with, asked, module, caplog):
    pytest.importorskip("uvloop")

    assert task_with(worker_async_uvloop=asked).apply().get() == module
    assert caplog.text == ""


def test_without_uvloop_asyncios_own_is_used_with_one_warning(task_with, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    task = task_with(worker_async_uvloop=True)

    assert [task.apply().get() for _ in range(3)] == ["asyncio"] * 3
    assert caplog.text.count("uvloop is not installed") == 1


def test_on_uvloop_too_resources_are_closed_and_nothing_ends_the_loop(task_with, thing, events):
    pytest.importorskip("uvloop")
    task = task_with(worker_async_uvloop=True)
    assert task.apply().get() == "uvloop"

    async def leave():
        raise SystemExit(3)

    async def body():
        child = asyncio.ensure_future(leave())
        await asyncio.wait([child], timeout=10)
        child.exception()
        await asyncio.to_thread(int)
        return await thing()

    assert type(aio.run(body).loop).__module__ == "uvloop"
    aio.close()
    assert events == ["opened", "closed"]
