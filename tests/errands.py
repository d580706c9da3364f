"""What `test_worker_pools` asks of its workers; the environment says where they are asked."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import os
import signal
import time

import asyncpg
import redis
from celery import Celery, current_task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from sqlalchemy import text

from celery_sqlalchemy_kit import AsyncTask, ShellTask, SyncTask, resource, routine

#: Seconds after which what waits for a test gives up.
PATIENCE = 30

URL = os.environ["ERRANDS_REDIS"]
app = Celery("errands", broker=URL, backend=URL)
app.conf.update(json.loads(os.environ["ERRANDS_CONF"]))
#: Where errands leave word of what neither result nor state shows.
notes = redis.Redis.from_url(URL, decode_responses=True)


def errand(name, **options):
    return app.task(name=name, base=AsyncTask, bind=True, **options)


def note(task_id, words):
    notes.rpush(f"notes:{task_id}", words)


async def until_told(task_id):
    """Say that it has begun, and wait until the test says that it may end."""
    notes.set(f"begun:{task_id}", 1)
    await until(lambda: notes.exists(f"told:{task_id}"))


async def until(condition):
    for _ in range(100 * PATIENCE):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


# The ways to write one.


class Written(AsyncTask):
    name = "written"

    async def execute(self, number, *, to=0):
        await asyncio.sleep(0)
        return number + to


class WrittenSync(SyncTask):
    name = "written sync"

    def run(self, number, *, to=0):
        return number + to


@app.task(name="function on AsyncTask", base=AsyncTask)
async def function_on_async_task(number, *, to=0):
    await asyncio.sleep(0)
    return number + to


@app.task(name="function on SyncTask", base=SyncTask)
def function_on_sync_task(number, *, to=0):
    return number + to


@app.task(name="plain function")
def plain_function(number, *, to=0):
    return number + to


@routine(name="async routine", schedule=3600)
async def async_routine(number, *, to=0):
    await asyncio.sleep(0)
    return number + to


@routine(name="sync routine", schedule=3600)
def sync_routine(number, *, to=0):
    return number + to


# Outcomes.

ERRORS = {
    each.__name__: each
    for each in (KeyError, TimeoutError, SystemExit, KeyboardInterrupt, asyncio.CancelledError)
}


async def fail_deep_down(kind):
    await asyncio.sleep(0)
    raise ERRORS[kind]("x")


@errand("fail", autoretry_for=())
async def fail(self, kind):
    await fail_deep_down(kind)


@errand("cancel itself", autoretry_for=())
async def cancel_itself(self):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


@errand("fail in a child", autoretry_for=())
async def fail_in_a_child(self, kind):
    """Not awaited: what it raises is nobody's but the loop's."""
    child = asyncio.ensure_future(fail_deep_down(kind))
    await asyncio.wait([child])
    return type(child.exception()).__name__


shared = []


@errand("share an error", autoretry_for=())
async def share_an_error(self, *, caught):
    if not shared:
        shared.append(asyncio.get_running_loop().create_future())
    notes.set(f"begun:{self.request.id}", 1)
    try:
        await shared[0]
    except KeyError:
        if not caught:
            raise
    await until_told(self.request.id)
    return "told"


@errand("give an error")
async def give_an_error(self):
    shared.pop().set_exception(KeyError("x"))


readers = []


async def read_and_fail(answer):
    """As drivers do: an error goes to whoever waits, and the reading goes on."""
    try:
        await fail_deep_down("KeyError")
    except KeyError as error:
        answer.set_exception(error)
    await asyncio.sleep(0.2)
    return "read on"


@errand("wait for a reader", autoretry_for=())
async def wait_for_a_reader(self):
    answer = asyncio.get_running_loop().create_future()
    readers.append(asyncio.create_task(read_and_fail(answer)))
    await answer


@errand("ask the reader", autoretry_for=())
async def ask_the_reader(self):
    return await asyncio.wait_for(readers.pop(), 5)


@errand("retry", max_retries=2)
async def retry(self, times):
    await asyncio.sleep(0)
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return self.request.retries


@errand("retry with the error", max_retries=1)
async def retry_with_the_error(self):
    raise self.retry(exc=KeyError("x"), countdown=0)


@errand("autoretry", autoretry_for=(KeyError,), max_retries=2, default_retry_delay=0)
async def autoretry(self, times):
    if self.request.retries < times:
        await fail_deep_down("KeyError")
    return self.request.retries


@errand("ignore")
async def ignore(self):
    await asyncio.sleep(0)
    raise Ignore


@errand("reject", acks_late=True)
async def reject(self, *, requeue):
    await asyncio.sleep(0)
    if self.request.delivery_info["redelivered"]:
        return "redelivered"
    raise Reject("so", requeue=requeue)


@errand("replace")
async def replace(self, number):
    await asyncio.sleep(0)
    raise self.replace(function_on_async_task.s(number, to=1))


@errand("without a result", ignore_result=True)
async def without_a_result(self, kind=None):
    note(self.request.id, "body")
    if kind:
        await fail_deep_down(kind)


@errand("with errors only", ignore_result=True, store_errors_even_if_ignored=True, autoretry_for=())
async def with_errors_only(self, kind=None):
    if kind:
        await fail_deep_down(kind)


# What a body sees of its task.


def seen(task):
    request = task.request
    return {
        "id": request.id,
        "args": list(request.args),
        "kwargs": request.kwargs,
        "retries": request.retries,
        "root": request.root_id,
        "queue": request.delivery_info["routing_key"],
        "task": current_task.name,
        "current": current_task.request.id,
    }


async def seen_by_child(task):
    await asyncio.sleep(0.01)
    return seen(task)


@errand("look", max_retries=1)
async def look(self, *args, **kwargs):
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    before = seen(self)
    await asyncio.sleep(0.02)
    return {
        "before": before,
        "after": seen(self),
        "child": await asyncio.create_task(seen_by_child(self)),
        "thread": await asyncio.to_thread(seen, self),
    }


@errand("family")
async def family(self, generations):
    await asyncio.sleep(0)
    if generations:
        family.delay(generations - 1)
    note(self.request.root_id, json.dumps([generations, self.request.id, self.request.parent_id]))


variable = contextvars.ContextVar("variable", default="unset")
of_prerun = contextvars.ContextVar("of_prerun", default=None)


@errand("set a variable")
async def set_a_variable(self):
    before = variable.get()
    variable.set("set")
    await asyncio.sleep(0)
    return [before, variable.get(), of_prerun.get() == self.request.id]


@errand("show state")
async def show_state(self):
    self.update_state(state="HALFWAY", meta={"done": 1})
    await until_told(self.request.id)


@errand("call another")
async def call_another(self):
    """What cannot work: the loop would wait for itself."""
    return function_on_async_task(1)


@app.task(name="call from sync", base=SyncTask, bind=True)
def call_from_sync(self):
    """Directly, eagerly, and both from within a loop of its own."""

    async def main():
        return function_on_async_task(3), function_on_async_task.apply((4,)).result

    return [
        function_on_async_task(1),
        function_on_async_task.apply((2,)).result,
        *asyncio.run(main()),
    ]


# Canvas.


@app.task(name="add", base=AsyncTask)
async def add(*numbers):
    await asyncio.sleep(0)
    return sum(numbers)


@app.task(name="add all", base=AsyncTask)
async def add_all(numbers):
    await asyncio.sleep(0)
    return sum(numbers)


@errand("take note")
async def take_note(self, result, key):
    note(key, json.dumps(result))


@app.task(name="mourn", base=AsyncTask)
async def mourn(request, error, traceback):
    """An errback of the kind that the tracer calls as a function."""
    await asyncio.sleep(0)
    note(request.id, f"mourned {type(error).__name__}")


class MournById(AsyncTask):
    """And one of the kind that is sent."""

    name = "mourn by id"

    async def execute(self, task_id):
        note(task_id, "mourned")


# Hooks and signals.


class Hooks:
    abstract = True
    max_retries = 1
    default_retry_delay = 0.2  # until the first attempt has left its notes

    def before_start(self, task_id, args, kwargs):
        note(task_id, f"before_start {self.request.id == current_task.request.id == task_id}")

    def on_success(self, retval, task_id, args, kwargs):
        note(task_id, f"on_success {retval}")

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note(task_id, f"on_failure {exc!r}")

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        note(task_id, f"on_retry {exc!r}")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note(task_id, f"after_return {status}")


class Hooked(Hooks, AsyncTask):
    name = "hooked"

    async def execute(self, *, failures=0):
        await asyncio.sleep(0)
        note(self.request.id, "body")
        if self.request.retries < failures:
            raise KeyError("x")


class HookedSync(Hooks, SyncTask):
    name = "hooked sync"

    def run(self, *, failures=0):
        note(self.request.id, "body")
        if self.request.retries < failures:
            raise KeyError("x")


@signals.task_prerun.connect(weak=False)
def _(task_id, **_):
    note(task_id, "task_prerun")
    of_prerun.set(task_id)


@signals.task_postrun.connect(weak=False)
def _(task_id, state, **_):
    note(task_id, f"task_postrun {state}")


@signals.task_success.connect(weak=False)
def _(sender, result, **_):
    note(sender.request.id, f"task_success {result}")


@signals.task_failure.connect(weak=False)
def _(task_id, exception, **_):
    note(task_id, f"task_failure {exception!r}")


@signals.task_retry.connect(weak=False)
def _(request, reason, **_):
    note(request.id, f"task_retry {reason.exc!r}")


@signals.task_revoked.connect(weak=False)
def _(request, terminated, expired, **_):
    note(request.id, f"task_revoked {'terminated' if terminated else 'expired' if expired else ''}")


# Time.


@errand("wait", track_started=True, autoretry_for=())
async def wait(self):
    try:
        await until_told(self.request.id)
    finally:
        note(self.request.id, "finally")
    return "told"


@errand("wait and make do", autoretry_for=())
async def wait_and_make_do(self):
    try:
        await until_told(self.request.id)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0)
        return "partial"


@errand("wait on", autoretry_for=())
async def wait_on(self):
    while True:
        with contextlib.suppress(SoftTimeLimitExceeded):
            await until_told(self.request.id)
            return


@errand("wait with a soft limit", autoretry_for=(), soft_time_limit=0.4)
async def wait_with_a_soft_limit(self):
    await until_told(self.request.id)


@errand("wait with a hard limit", autoretry_for=(), time_limit=0.4)
async def wait_with_a_hard_limit(self):
    await until_told(self.request.id)


@errand("wait unacknowledged", acks_late=True)
async def wait_unacknowledged(self):
    if self.request.delivery_info["redelivered"]:
        return "redelivered"
    await until_told(self.request.id)
    return "told"


@errand("tell the time")
async def tell_the_time(self):
    return time.time()


# Commands.


class Print(ShellTask):
    name = "print"
    command = ["printf", "%s", "{text}"]


class HoldOn(ShellTask):
    name = "hold on"
    command = ["sleep", "60"]
    command_limit_seconds = 0.2


# The loop, and what lives on it.


@errand("say where")
async def say_where(self):
    return [os.getpid(), id(asyncio.get_running_loop())]


@errand("meet")
async def meet(self, place, company):
    """Ends once as many as *company* are there at once."""
    notes.sadd(place, self.request.id)
    await until(lambda: notes.scard(place) >= company)


lock = asyncio.Lock()
holders = []


@errand("hold the lock")
async def hold_the_lock(self):
    async with lock:
        holders.append(self.request.id)
        await asyncio.sleep(0.002)
        return holders.pop() == self.request.id and not holders


making = asyncio.Lock()
pools = []


@errand("query", autoretry_for=())
async def query(self, dsn, number):
    """Over a pool that nobody but this module knows of."""
    async with making:
        if not pools:
            pools.append(await asyncpg.create_pool(dsn, min_size=0, max_size=2))
    return await ask(pools[0], number)


@resource
async def connections():
    async with asyncpg.create_pool(notes.get("dsn"), min_size=0, max_size=2) as pool:
        yield pool


@errand("query a resource", autoretry_for=())
async def query_a_resource(self, dsn, number):
    notes.set("dsn", dsn)
    return await ask(await connections(), number)


async def ask(pool, number):
    async with pool.acquire() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.001)")
        return [await connection.fetchval("SELECT $1::int", number), pid]


@errand("write down", autoretry_for=())
async def write_down(self, number, *, fail):
    async with self.session() as session:
        await session.execute(text("CREATE TABLE IF NOT EXISTS written (number INTEGER)"))
        await session.execute(text("INSERT INTO written VALUES (:number)"), {"number": number})
        if fail:
            await fail_deep_down("KeyError")


@errand("read")
async def read(self):
    async with self.session() as session:
        written = await session.execute(text("SELECT number FROM written ORDER BY number"))
        return list(written.scalars())


@errand("kill its process", acks_late=True, reject_on_worker_lost=True)
async def kill_its_process(self):
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "redelivered"
