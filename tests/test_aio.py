from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from celery.app import trace
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from celery_sqlalchemy_kit import aio
from celery_sqlalchemy_kit.aio import call as aio_call
from celery_sqlalchemy_kit.aio import loop as aio_loop


@pytest.fixture(autouse=True)
def _closed(monkeypatch):
    monkeypatch.setattr(aio_call, "SIGNAL_LIMIT", 0.05)
    yield
    aio.close()


@pytest.fixture
def interrupt():
    """Raises what it is given in the main thread, which waits, as Celery's soft limit does."""
    raised = []

    def handler(signum, frame):
        raise raised[-1]

    before = signal.signal(signal.SIGUSR1, handler)

    def interrupt_with(error):
        raised.append(error)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    yield interrupt_with
    signal.signal(signal.SIGUSR1, before)


async def give(value):
    await asyncio.sleep(0)
    return value


async def fail(error):
    await asyncio.sleep(0)
    raise error


async def for_ever():
    await asyncio.Event().wait()


async def where():
    return asyncio.get_running_loop(), threading.current_thread()


def test_what_the_coroutine_returns_is_returned():
    assert aio.run(lambda: give(42)) == 42


def test_any_awaitable_may_be_run():
    class Awaitable:
        def __await__(self):
            return (yield from give(42).__await__())

    assert aio.run(Awaitable) == 42


def test_what_is_no_awaitable_is_a_type_error():
    with pytest.raises(TypeError, match="await"):
        aio.run(lambda: 42)


@pytest.mark.parametrize("error", [KeyError("x"), TimeoutError(), asyncio.TimeoutError()])
def test_what_the_coroutine_raises_is_raised_a_timeout_error_as_well(error):
    with pytest.raises(type(error)) as raised:
        aio.run(lambda: fail(error))
    assert raised.value is error


def test_an_error_that_two_coroutines_share_has_the_frames_of_the_one_that_let_it_out():
    """Celery clears the frames of an error, which ends a coroutine that waits in one of them."""
    error, caught = KeyError("x"), threading.Event()

    async def catch():
        try:
            raise error
        except KeyError:
            caught.set()
            await for_ever()

    async def let_out():
        try:
            raise error
        finally:
            asyncio.ensure_future(catch())  # noqa: RUF006  it ends with the loop

    call = aio.Call(let_out, None)
    ended = threading.Event()
    call.submit(ended.set)
    assert ended.wait(5)
    assert caught.wait(5)
    with pytest.raises(KeyError) as raised:
        call.outcome()

    names = [entry.name for entry in raised.traceback]
    assert "let_out" in names
    assert "catch" not in names


def test_all_coroutines_share_one_loop_on_a_thread_of_its_own():
    first, second = aio.run(where), aio.run(where)

    assert first == second
    assert first[1] is not threading.current_thread()
    assert first[1].daemon


def test_no_loop_is_started_before_the_first_coroutine():
    assert aio_loop._here.loop is None


def test_what_is_bound_to_the_loop_outlives_a_call():
    async def make():
        return asyncio.Queue()

    queue = aio.run(make)
    aio.run(lambda: queue.put("x"))
    assert aio.run(lambda: asyncio.wait_for(queue.get(), 5)) == "x"


def test_coroutines_of_several_threads_run_at_once():
    everybody = []

    async def meet():
        everybody.append(asyncio.Event())
        if len(everybody) == 5:
            everybody[0].set()
        await asyncio.wait_for(everybody[0].wait(), 10)

    with ThreadPoolExecutor(5) as threads:
        for each in [threads.submit(aio.run, meet) for _ in range(5)]:
            each.result(timeout=20)
    assert len(everybody) == 5


def test_the_coroutine_runs_in_a_copy_of_the_callers_context():
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("the caller's")

    async def body():
        seen = variable.get()
        variable.set("the coroutine's")
        return seen

    assert aio.run(body) == "the caller's"
    assert variable.get() == "the caller's"


def test_it_works_within_a_running_loop_of_the_callers():
    async def caller():
        return aio.run(where), asyncio.get_running_loop()

    (loop, _), callers = asyncio.run(caller())
    assert loop is not callers


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr
)
def test_what_would_end_the_loop_is_a_failure_of_the_one_coroutine(error):
    loop, _ = aio.run(where)

    with pytest.raises(aio.EscapedError, match=type(error).__name__) as raised:
        aio.run(lambda: fail(error))

    assert raised.value.__cause__ is error
    assert aio.run(where)[0] is loop


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_loop_goes_on_when_a_coroutines_own_task_raises_what_would_end_it(error, caplog):
    async def body():
        child = asyncio.ensure_future(fail(error()))
        done, _ = await asyncio.wait([child], timeout=10)
        return type(done.pop().exception())

    assert aio.run(body) is error
    assert "goes on" in caplog.text
    assert aio.run(lambda: give(1)) == 1


def test_a_loop_that_is_busy_is_woken_once_for_all_that_a_thread_posts(monkeypatch):
    busy, go_on, ended, posted = (*(threading.Event() for _ in range(3)), [])

    def hold_up():
        busy.set()
        go_on.wait(5)

    with aio_loop.another_loop() as loop:
        loop.call_soon(hold_up)
        assert busy.wait(5)
        wake, wakes = loop._loop.call_soon_threadsafe, []
        monkeypatch.setattr(
            loop._loop, "call_soon_threadsafe", lambda *call: wakes.append(call) or wake(*call)
        )

        in_thread(lambda: [loop.call_soon(partial(posted.append, n)) for n in range(50)])
        assert len(wakes) == 1
        loop.call_soon(partial(posted.append, "main"))
        loop.call_soon(ended.set)
        go_on.set()
        assert ended.wait(5)

    assert [*range(50), "main"] == posted


def test_no_thread_relies_on_a_wake_up_that_a_signal_has_kept_the_main_thread_from(monkeypatch):
    def interrupted(*_):
        raise SoftTimeLimitExceeded

    ended = threading.Event()
    with aio_loop.another_loop() as loop:
        with monkeypatch.context() as patch:
            patch.setattr(loop._loop, "call_soon_threadsafe", interrupted)
            with pytest.raises(SoftTimeLimitExceeded):
                loop.call_soon(lambda: None)
        in_thread(lambda: loop.call_soon(ended.set))
        assert ended.wait(5)


def test_a_call_from_a_coroutine_is_refused_with_a_hint():
    async def body():
        aio.run(lambda: give(1))

    with pytest.raises(RuntimeError, match=r"await its execute\(\)"):
        aio.run(body)


def test_a_call_from_a_thread_of_a_coroutine_works():
    async def body():
        return await asyncio.to_thread(aio.run, lambda: give(1))

    assert aio.run(body) == 1


@pytest.mark.parametrize("environment", ["gevent", "eventlet"])
def test_green_threads_are_refused_with_what_to_do(monkeypatch, environment):
    monkeypatch.setattr(aio_loop, "detect_environment", lambda: environment)

    with pytest.raises(RuntimeError, match=f"{environment}.*--pool prefork"):
        aio.run(lambda: give(1))


def test_the_soft_time_limit_is_raised_where_the_coroutine_awaits(interrupt):
    seen = []

    async def body():
        interrupt(SoftTimeLimitExceeded(7))
        try:
            await for_ever()
        except SoftTimeLimitExceeded as limit:
            seen.append(limit)
            await asyncio.sleep(0)
            raise

    with pytest.raises(SoftTimeLimitExceeded) as raised:
        aio.run(body)

    assert type(raised.value) is SoftTimeLimitExceeded
    assert raised.value.args == (7,)
    assert [limit.args for limit in seen] == [(7,)]


def test_a_coroutine_may_catch_the_soft_time_limit_and_return(interrupt):
    async def body():
        interrupt(SoftTimeLimitExceeded())
        try:
            await for_ever()
        except SoftTimeLimitExceeded:
            await asyncio.wait_for(asyncio.sleep(0), 5)
            return "partial", getattr(asyncio.current_task(), "cancelling", int)()

    assert aio.run(body) == ("partial", 0)


def test_the_soft_time_limit_cancels_what_the_coroutine_waits_for(interrupt):
    cancelled = []

    async def child():
        try:
            await for_ever()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def body():
        interrupt(SoftTimeLimitExceeded())
        await asyncio.gather(child(), child())

    with pytest.raises(SoftTimeLimitExceeded):
        aio.run(body)
    assert cancelled == [True, True]


async def stubborn(free):
    """Heeds no cancellation until *free* is set."""
    running = asyncio.ensure_future(asyncio.to_thread(free.wait, 10))
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            continue


def test_a_coroutine_that_will_not_end_is_given_up_after_the_grace(interrupt, monkeypatch, caplog):
    monkeypatch.setattr(aio_call, "GRACE", 0.05)
    free = threading.Event()
    stop = SystemExit()

    async def body():
        interrupt(stop)
        await stubborn(free)

    with pytest.raises(SystemExit) as raised:
        aio.run(body)
    free.set()
    assert raised.value is stop
    assert "still runs" in caplog.text


def test_a_coroutine_that_catches_the_soft_time_limit_has_all_the_time_it_needs(
    interrupt, monkeypatch
):
    monkeypatch.setattr(aio_call, "GRACE", 0.01)

    async def body():
        interrupt(SoftTimeLimitExceeded())
        try:
            await for_ever()
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0.2)
            return "partial"

    assert aio.run(body) == "partial"


def test_a_stop_ends_what_has_caught_the_soft_time_limit(interrupt):
    seen = []

    async def body():
        interrupt(SoftTimeLimitExceeded())
        try:
            await for_ever()
        except SoftTimeLimitExceeded:
            interrupt(SystemExit())
            try:
                await for_ever()
            finally:
                seen.append("finally")

    with pytest.raises(SystemExit):
        aio.run(body)
    assert seen == ["finally"]


def in_thread(call):
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).result(20)


@pytest.fixture(params=["main thread", "another thread"])
def somewhere(request):
    return in_thread if request.param == "another thread" else lambda call: call()


def test_the_soft_limit_of_a_call_is_thrown_where_the_coroutine_awaits(somewhere):
    async def body():
        try:
            await for_ever()
        except SoftTimeLimitExceeded as limit:
            return limit.args

    limits = aio.Limits(soft=0.01)
    assert somewhere(lambda: aio.run(body, limits=limits)) == (0.01,)
    with pytest.raises(SoftTimeLimitExceeded) as raised:
        somewhere(lambda: aio.run(for_ever, limits=limits))
    assert type(raised.value) is SoftTimeLimitExceeded


def test_the_hard_limit_of_a_call_cancels_the_coroutine(somewhere):
    seen = []

    async def body():
        try:
            await for_ever()
        except SoftTimeLimitExceeded:
            await for_ever()
        finally:
            seen.append("finally")

    with pytest.raises(TimeLimitExceeded) as raised:
        somewhere(lambda: aio.run(body, limits=aio.Limits(soft=0.01, hard=0.05)))
    assert raised.value.args == (0.05,)
    assert seen == ["finally"]


def test_a_hard_limit_below_the_soft_one_is_the_one_that_holds(somewhere):
    with pytest.raises(TimeLimitExceeded):
        somewhere(lambda: aio.run(for_ever, limits=aio.Limits(soft=60, hard=0.01)))


def test_a_call_within_its_limits_does_not_notice_them(somewhere):
    limits = aio.Limits(soft=60, hard=120)
    assert somewhere(lambda: aio.run(lambda: give(42), limits=limits)) == 42


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, LookupError])
def test_what_else_interrupts_the_wait_cancels_the_coroutine_and_is_raised(interrupt, error):
    seen = []

    async def body():
        interrupt(error())
        try:
            await for_ever()
        except asyncio.CancelledError as cancelled:
            seen.append(type(cancelled))
            return "ignored"

    with pytest.raises(error):
        aio.run(body)
    assert seen == [asyncio.CancelledError]


def test_a_call_interrupted_before_its_first_step_ends_too(monkeypatch):
    """The signal may strike at any instruction of the waiting thread."""
    steps, held, free = [], threading.Event(), threading.Event()
    wait = aio_call.Call.wait

    def interrupted(call, seconds=None):
        if threading.current_thread() is not threading.main_thread() or "_soon" in vars(free):
            return wait(call, seconds)
        soon = free._soon = call._soon
        # The loop is busy until both the start and the cancellation are queued.
        call._soon = lambda cancel: (soon(cancel), free.set())
        raise SoftTimeLimitExceeded

    async def body():
        steps.append(1)
        await for_ever()

    monkeypatch.setattr(aio_call.Call, "wait", interrupted)
    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(aio.run, lambda: hold(held, free))
        assert held.wait(10)
        with pytest.raises(SoftTimeLimitExceeded):
            aio.run(body)
        holding.result(10)
    assert steps == []


async def hold(held, free):
    held.set()
    free.wait(10)


def test_a_call_interrupted_before_it_was_begun_ends_too(monkeypatch):
    def interrupted(call, ended):
        call._tell = ended
        with aio_loop.open_loop() as loop:
            call._soon, call.submitted = loop.call_soon, True
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(aio_call.Call, "submit", interrupted)
    with pytest.raises(SoftTimeLimitExceeded):
        aio.run(for_ever)


def test_a_loop_whose_start_is_interrupted_ends(monkeypatch):
    start, threads = threading.Thread.start, []

    def interrupted(thread):
        start(thread)
        if threading.current_thread() is threading.main_thread():
            threads.append(thread)
            raise SoftTimeLimitExceeded

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(SoftTimeLimitExceeded):
        aio.run(for_ever)
    monkeypatch.undo()
    for each in threads:
        each.join(10)
        assert not each.is_alive()
    assert aio.run(lambda: give(42)) == 42


def test_an_error_that_went_through_a_coroutine_which_goes_on_does_not_end_it():
    """As of a driver whose task hands an error to whoever waits, and works on."""
    made = {}

    async def drive(waiter, go_on):
        try:
            await fail(KeyError("x"))
        except KeyError as error:
            waiter.set_exception(error)
            await go_on.wait()
            return "went on"

    async def body():
        waiter, made["go on"] = asyncio.get_running_loop().create_future(), asyncio.Event()
        made["driver"] = asyncio.ensure_future(drive(waiter, made["go on"]))
        await waiter

    async def finish():
        made["go on"].set()
        return await made["driver"]

    with pytest.raises(KeyError) as raised:
        aio.run(body)
    trace.traceback_clear(raised.value)
    assert aio.run(finish) == "went on"


def test_a_call_leaves_nothing_for_the_garbage_collector():
    """Which would stop the loop, and every task on it, while it looks for circles."""
    aio.run(lambda: give(1))
    gc.collect()
    gc.disable()
    try:
        assert [aio.run(lambda: give(42)) for _ in range(20)] == [42] * 20
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_closing_cancels_what_still_runs_and_another_loop_can_follow():
    events = []

    async def left_over():
        try:
            await for_ever()
        finally:
            events.append("cancelled")

    async def generate():
        try:
            yield 1
        finally:
            events.append("closed")

    async def body():
        generator = generate()
        await generator.__anext__()
        await asyncio.to_thread(int)
        task = asyncio.ensure_future(left_over())
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), threading.current_thread(), task, generator

    loop, thread, *_ = aio.run(body)
    aio.close()

    assert sorted(events) == ["cancelled", "closed"]
    assert loop.is_closed()
    assert not thread.is_alive()
    assert aio.run(where)[0] is not loop


def test_closing_ends_the_call_that_somebody_waits_for():
    outcome, begun = [], threading.Event()

    async def body():
        begun.set()
        await for_ever()

    def caller():
        try:
            aio.run(body)
        except aio.EscapedError as error:
            outcome.append(error)

    waiting = threading.Thread(target=caller)
    waiting.start()
    assert begun.wait(10)
    aio.close()
    waiting.join(10)
    assert len(outcome) == 1


def test_closing_a_loop_that_is_blocked_leaves_it_behind(monkeypatch, caplog):
    monkeypatch.setattr(aio_loop, "CLOSE_LIMIT", 0.05)
    held, free = threading.Event(), threading.Event()
    blocking = threading.Thread(target=aio.run, args=(lambda: hold(held, free),))
    blocking.start()
    assert held.wait(10)

    aio.close()

    assert "left behind" in caplog.text
    loop_thread = next(each for each in threading.enumerate() if each.name == "async tasks")
    free.set()
    blocking.join(10)
    loop_thread.join(10)
    assert not loop_thread.is_alive()


def test_closing_twice_or_without_a_loop_does_nothing():
    aio.close()
    aio.run(lambda: give(1))
    aio.close()
    aio.close()


def test_a_forked_child_has_a_loop_of_its_own_and_the_parents_goes_on():
    async def ready():
        return asyncio.get_running_loop()

    loop = aio.run(ready)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        mine = aio.run(ready)
        os._exit(7 if mine is not loop and aio.run(lambda: give(1)) == 1 else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert aio.run(ready) is loop
