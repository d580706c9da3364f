from __future__ import annotations

import asyncio
import sys
import textwrap
import warnings
from datetime import timedelta
from uuid import uuid4

import pytest
from celery import Celery, Task, current_task, signals, states
from celery.app.trace import build_tracer
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject, Retry
from celery.schedules import crontab
from celery.worker import state as worker_state
from servers import wait_for

from celery_sqlalchemy_kit import (
    AsyncTask,
    DeclarationError,
    SettingsError,
    SyncTask,
    aio,
    declarations,
    routine,
)
from celery_sqlalchemy_kit.tasks import declared_tasks

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests", "workers_leave_logging_alone")


@pytest.fixture
def make_app():
    apps = []

    def make(**conf):
        app = Celery(f"app{len(apps)}", broker="memory://", backend="cache+memory://")
        app.conf.update(task_default_queue=f"queue-{uuid4()}", celery_retry_delay=0, **conf)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def app(make_app):
    return make_app()


def declare(base=SyncTask, /, **attributes):
    """A class as a user would write it."""
    return type(
        "Written", (base,), {"__module__": __name__, "__qualname__": "Written"} | attributes
    )


def answer(self, *args, **kwargs):
    return self.app.main


async def async_answer(self, *args, **kwargs):
    await asyncio.sleep(0)
    return self.app.main


def trace(task, *args, retries=0, **request):
    """Run *task* with Celery's own tracer, as a worker does; returns its state and its result."""
    request = {
        "id": str(uuid4()),
        "task": task.name,
        "retries": retries,
        "hostname": "celery@here",
        "delivery_info": {"exchange": "", "routing_key": task.app.conf.task_default_queue},
        **request,
    }
    traced = build_tracer(task.name, task, app=task.app)(request["id"], args, {}, request)
    if traced.info is None:
        return states.SUCCESS, traced.retval
    return traced.info.state, traced.info.retval


# How apps come by their tasks.


@pytest.mark.parametrize(
    ("base", "body"), [(SyncTask, {"run": answer}), (AsyncTask, {"execute": async_answer})]
)
def test_defining_a_class_registers_it_with_apps_of_now_and_later_of_which_each_has_its_own(
    make_app, base, body
):
    finalized, open_ = make_app(), make_app()
    finalized.finalize()
    declare(base, name="report", **body)
    later = make_app()

    apps = finalized, open_, later
    assert [each.tasks["report"].app for each in apps] == list(apps)
    assert [each.tasks["report"].apply().get() for each in apps] == ["app0", "app1", "app2"]
    assert len({type(each.tasks["report"]) for each in apps}) == 3


def test_an_apps_task_is_an_instance_of_the_class_that_was_written(app):
    written = declare(name="report", run=answer, __doc__="What it does.")
    task = app.tasks["report"]

    assert isinstance(task, written)
    assert (type(task).__name__, type(task).__module__) == ("Written", __name__)
    assert (type(task).__qualname__, task.__doc__) == ("Written", "What it does.")


def test_the_settings_of_one_app_do_not_reach_the_task_of_another(make_app):
    conf = {"task_serializer": "pickle", "task_ignore_result": True, "celery_max_retry": 7}
    first, second = make_app(**conf), make_app()
    declare(name="report", run=answer)

    tasks = first.tasks["report"], second.tasks["report"]
    assert [each.serializer for each in tasks] == ["pickle", "json"]
    assert [each.ignore_result for each in tasks] == [True, False]
    assert [each.max_retries for each in tasks] == [7, 3]


def test_defining_a_class_reads_no_configuration_and_finalises_nothing(app):
    declare(name="report", run=answer, schedule=15)
    routine(name="tidy", schedule=15)(function)

    assert not app.configured
    assert not app.finalized
    app.conf.celery_max_retry = 9
    assert app.tasks["report"].max_retries == app.tasks["tidy"].max_retries == 9


def test_a_class_with_a_schedule_and_no_name_has_celerys_automatic_name(app):
    declare(run=answer, schedule=15)
    task = app.tasks[f"{__name__}.Written"]

    assert task.name == type(task).name == f"{__name__}.Written"


def test_annotations_reach_classes_with_a_name_and_without(app):
    app.conf.task_annotations = {
        "report": {"rate_limit": "1/s"},
        f"{__name__}.Written": {"max_retries": 5},
    }
    declare(name="report", run=answer)
    declare(schedule=15, run=answer)

    assert app.tasks["report"].rate_limit == "1/s"
    assert app.tasks[f"{__name__}.Written"].max_retries == 5


@pytest.mark.parametrize(
    ("base", "attributes"),
    [
        (SyncTask, {"run": answer}),
        (SyncTask, {"name": "report"}),
        (AsyncTask, {"name": "report"}),
        (SyncTask, {"name": "report", "run": answer, "abstract": True}),
    ],
    ids=["no name", "no run", "no execute", "abstract"],
)
def test_an_abstract_class_is_not_registered(app, base, attributes):
    before = set(app.tasks)
    declare(base, **attributes)
    assert set(app.tasks) == before


def test_a_class_derived_from_a_registered_one_is_registered_by_its_own_name_alone(app):
    written = declare(name="report", run=answer, schedule=60)
    declare(written)
    declare(written, name="other report")
    declare(written, schedule=30)

    ours = {name: task.schedule for name, task in app.tasks.items() if isinstance(task, written)}
    assert ours == {"report": 60, "other report": 60, f"{__name__}.Written": 30}


def test_register_task_with_an_instance_or_a_class_registers_nothing_twice_nor_warns(make_app):
    written = declare(name="report", run=answer)
    first, second = make_app(), make_app()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tasks = [app.register_task(each()) for app in (first, second) for each in [written]]
        tasks += [app.register_task(written) for app in (first, second)]

    assert [each.apply().get() for each in tasks] == ["app0", "app1", "app0", "app1"]
    assert first.tasks["report"] is tasks[2]
    assert [name for name in first.tasks if "report" in name] == ["report"]


def test_a_class_with_neither_name_nor_schedule_can_be_registered_by_hand(app):
    written = declare(run=answer)
    task = app.register_task(written())

    assert app.tasks[f"{__name__}.Written"] is task
    assert task.apply().get() == "app0"


def test_an_instance_with_a_state_of_its_own_is_the_one_that_runs(app):
    def init(self, dsn):
        self.dsn = dsn

    written = declare(name="report", run=lambda self: self.dsn, __init__=init)
    assert "report" not in app.tasks

    app.register_task(written("postgresql://"))
    assert app.tasks["report"].apply().get() == "postgresql://"


def test_a_class_whose_arguments_have_defaults_is_registered(app):
    def init(self, dsn="default", *rest, **options):
        self.dsn = dsn

    declare(name="report", run=lambda self: self.dsn, __init__=init)
    assert app.tasks["report"].apply().get() == "default"


def test_an_instance_that_no_app_was_told_of_is_the_current_apps(make_app):
    first, second = make_app(task_always_eager=True), make_app(task_always_eager=True)
    written = declare(name="report", run=answer)

    for app in (first, second, first):
        app.set_current()
        assert written().delay().get() == app.main
        assert written().apply_async().get() == app.main
        assert written().s().apply_async().get() == app.main
    assert written.name == "report"


def test_two_classes_with_one_name_are_refused_naming_both():
    declare(name="report", run=answer)
    with pytest.raises(
        DeclarationError, match=r"'report': test_tasks.Written and test_tasks.Other"
    ):
        declare(name="report", run=answer, __qualname__="Other")


def test_a_class_and_a_function_with_one_name_are_refused_naming_both():
    declare(name="report", run=answer)
    with pytest.raises(DeclarationError, match=r"'report': test_tasks.Written and .*function"):
        routine(name="report", schedule=15)(function)


def test_a_module_imported_again_or_under_another_name_replaces_its_tasks(
    app, tmp_path, monkeypatch
):
    (tmp_path / "declares.py").write_text(
        textwrap.dedent(
            """
            from celery_sqlalchemy_kit import SyncTask, routine

            class Report(SyncTask):
                name = "report"

                def run(self):
                    return __name__, id(Report)

            @routine(name="tidy", schedule=15)
            def tidy():
                return __name__, id(Report)
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    app.finalize()
    import declares

    first = declares.Report
    del sys.modules["declares"]
    import declares

    assert declares.Report is not first
    assert app.tasks["report"].apply().get() == ("declares", id(declares.Report))
    assert app.tasks["tidy"].apply().get() == ("declares", id(declares.Report))

    monkeypatch.setitem(sys.modules, "__main__", declares)
    namespace = {"__name__": "__main__", "__file__": declares.__file__}
    exec((tmp_path / "declares.py").read_text(), namespace)
    assert app.tasks["report"].apply().get() == ("__main__", id(namespace["Report"]))


def test_a_class_defined_while_its_app_is_being_finalised_is_registered(
    make_app, tmp_path, monkeypatch
):
    """By a configuration that imports the tasks, which Celery loads when it binds the first."""
    (tmp_path / "configures.py").write_text(
        "from celery_sqlalchemy_kit import SyncTask\n"
        "class Late(SyncTask):\n"
        "    name = 'late'\n"
        "    def run(self): return 'ran'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    declare(name="report", run=answer)
    app = Celery("configured", broker="memory://", config_source="configures")

    assert {"report", "late"} <= set(app.tasks)
    assert app.tasks["late"].apply().get() == "ran"
    app.close()


def test_wrong_settings_are_told_when_the_tasks_are_bound(app):
    app.conf.celery_max_retry = "many"
    declare(name="report", run=answer)

    with pytest.raises(SettingsError, match=r"celery_max_retry = 'many'"):
        app.finalize()


# What a task is declared with.


@pytest.mark.parametrize(
    "schedule", [15, 0.5, timedelta(minutes=5), {"minute": 0, "hour": 9}, crontab(minute=5)]
)
def test_a_schedule_is_kept_as_it_was_written(app, schedule):
    declare(name="report", run=answer, schedule=schedule)
    assert app.tasks["report"].schedule is schedule


@pytest.mark.parametrize(
    ("schedule", "shown"),
    [
        (0, "0"),
        (-1, "-1"),
        ("often", "often"),
        ({"minute": 77}, "77"),
        ({"evry": 3}, "evry"),
        (object(), "object"),
        (True, "rue"),
    ],
)
def test_a_wrong_schedule_is_refused_where_it_is_declared(schedule, shown):
    with pytest.raises(DeclarationError, match=f"task 'report': .*{shown}.*allowed"):
        declare(name="report", run=answer, schedule=schedule)
    with pytest.raises(DeclarationError, match=f"task 'tidy': .*{shown}.*allowed"):
        routine(name="tidy", schedule=schedule)(function)


def test_a_wrong_schedule_of_a_task_without_a_name_names_its_class():
    with pytest.raises(DeclarationError, match=r"task 'test_tasks.Written'"):
        declare(run=answer, schedule="often")


def test_a_wrong_schedule_in_the_apps_own_decorator_is_refused_when_the_task_is_made(app):
    app.task(base=SyncTask, name="tidy", schedule="often")(function)
    with pytest.raises(DeclarationError, match=r"task 'tidy': .*often"):
        app.finalize()


def test_a_coroutine_function_on_sync_task_is_refused_with_what_to_do():
    with pytest.raises(DeclarationError, match=r"'report'.*AsyncTask"):
        declare(name="report", run=async_answer)


def test_a_routine_without_a_schedule_is_refused():
    with pytest.raises(DeclarationError, match=r"'tidy'.*schedule"):
        routine(name="tidy", schedule=None)(function)
    with pytest.raises(DeclarationError, match=r"'function'.*schedule"):
        routine()(function)


def test_what_becomes_of_a_lost_run_is_the_tasks_to_say(app):
    declare(name="report", run=answer)
    declare(name="sync", run=answer, on_worker_lost="again")
    routine(name="tidy", schedule=15, on_worker_lost="again")(function)
    app.task(base=SyncTask, name="decorated", on_worker_lost="again")(function)

    assert {
        "report": "lost",
        "sync": "again",
        "tidy": "again",
        "decorated": "again",
    } == {name: task.on_worker_lost for name, task in app.tasks.items() if "celery." not in name}


@pytest.mark.parametrize("value", ["retry", "", None, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda app, wish: declare(name="report", run=answer, **wish),
        lambda app, wish: routine(schedule=15, **wish)(function),
        lambda app, wish: app.task(base=SyncTask, name="report", lazy=False, **wish)(function),
    ],
    ids=["class", "routine", "app.task"],
)
def test_any_other_wish_for_a_lost_run_is_refused(app, make, value):
    app.finalize()
    with pytest.raises(DeclarationError, match=r"'lost' or 'again', not "):
        make(app, {"on_worker_lost": value})


def test_the_declared_tasks_of_an_app_are_its_routines_with_what_they_say(app):
    declare(name="report", run=answer, schedule=15, kwargs={"x": 1}, options={"queue": "slow"})
    declare(name="unscheduled", run=answer)
    routine(name="tidy", schedule=30, args=[1], options={"expires": 5})(function)
    app.task(base=SyncTask, name="poll", schedule=60, kwargs={"y": 2})(function)
    app.task(name="plain")(function)

    said = {
        task.name: (task.schedule, tuple(task.args), dict(task.kwargs), dict(task.options))
        for task in declared_tasks(app)
    }
    assert said == {
        "report": (15, (), {"x": 1}, {"queue": "slow"}),
        "tidy": (30, (1,), {}, {"expires": 5}),
        "poll": (60, (), {"y": 2}, {}),
    }


# Functions.


def function(x=1, y=2):
    """What it does."""
    return x, y


async def async_function(x=1, y=2):
    await asyncio.sleep(0)
    return x, y


def bound_function(self, x=1):
    return self.name, self.request.id, x


async def async_bound_function(self, x=1):
    await asyncio.sleep(0)
    return self.name, self.request.id, x


@pytest.mark.parametrize("body", [function, async_function])
def test_a_function_becomes_a_task_of_the_current_app(make_app, body):
    tidy = routine(schedule=15, name="tidy")(body)

    apps = make_app(), make_app()
    for app in apps:
        app.set_current()
        assert tidy.app is app
        assert tidy.apply((5,)).get() == (5, 2)
        assert tidy(5, y=6) == (5, 6)
        assert app.tasks["tidy"] == tidy
        app.conf.task_always_eager = True
        assert tidy.delay(7).get() == (7, 2)


@pytest.mark.parametrize("body", [bound_function, async_bound_function])
def test_bind_passes_the_task(app, body):
    tidy = routine(schedule=15, name="tidy", bind=True)(body)
    assert tidy.apply((5,), task_id="id").get() == ("tidy", "id", 5)


def test_a_function_is_named_as_celery_names_it_and_keeps_its_docstring(app):
    tidy = routine(schedule=15)(function)

    assert tidy.name == f"{__name__}.function"
    assert f"{__name__}.function" in app.tasks
    assert tidy.__doc__ == "What it does."
    assert tidy.__name__ == "function"


def test_arguments_are_checked_when_a_function_is_sent(app):
    tidy = routine(schedule=15)(function)
    with pytest.raises(TypeError):
        tidy.delay(1, 2, 3)


def test_a_function_takes_celerys_attributes(app):
    tidy = routine(schedule=15, max_retries=1, queue_name="q", rate_limit="1/m")(function)
    assert (tidy.max_retries, tidy.queue_name, tidy.rate_limit) == (1, "q", "1/m")


def test_two_functions_with_one_name_are_refused():
    routine(schedule=15, name="tidy")(function)
    with pytest.raises(DeclarationError, match="'tidy'"):
        routine(schedule=15, name="tidy")(async_function)


@pytest.mark.parametrize(
    ("base", "bind", "body"),
    [
        (SyncTask, False, function),
        (SyncTask, True, bound_function),
        (AsyncTask, False, async_function),
        (AsyncTask, True, async_bound_function),
        (AsyncTask, False, function),
    ],
)
def test_the_apps_own_decorator_makes_tasks_of_ours(app, base, bind, body):
    task = app.task(base=base, bind=bind, name="tidy", schedule=15)(body)

    assert task.apply((5,), task_id="id").get() == (("tidy", "id", 5) if bind else (5, 2))
    assert app.tasks["tidy"] == task
    assert declared_tasks(app) == [task]
    assert declarations._declarations == {}


def test_a_base_that_was_used_by_itself_lends_its_tasks_no_request(app):
    base = declare(name="base", run=answer)
    assert base.app is not None
    made = [app.task(base=base, name=name)(function) for name in ("first", "second")]

    assert len({id(each.request_stack) for each in (*made, base)}) == 3


def test_all_tasks_of_an_app_can_be_ours(monkeypatch):
    app = Celery("ours", broker="memory://", task_cls=SyncTask)
    task = app.task(name="tidy")(function)

    assert isinstance(app.tasks["tidy"], SyncTask)
    assert task.apply().get() == (1, 2)
    app.close()


# Retries.


@pytest.fixture
def worker(app):
    def start():
        return start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR")

    return start


@pytest.mark.parametrize("base", [SyncTask, AsyncTask])
@pytest.mark.parametrize(("max_retry", "runs"), [(0, 1), (2, 3)])
def test_a_failing_task_runs_once_and_as_often_again_as_the_setting_says(
    app, worker, base, max_retry, runs
):
    app.conf.celery_max_retry = max_retry
    retries = []

    def run(self):
        retries.append(self.request.retries)
        raise OSError("again")

    async def execute(self):
        run(self)

    declare(base, name="failing", **({"run": run} if base is SyncTask else {"execute": execute}))
    with worker(), pytest.raises(OSError, match="again"):
        app.tasks["failing"].delay().get(timeout=20, interval=0.01)
    assert retries == list(range(runs))


@pytest.mark.parametrize("base", [SyncTask, AsyncTask])
@pytest.mark.parametrize(
    ("attributes", "runs"),
    [
        ({}, 3),
        ({"max_retries": 0}, 1),
        ({"max_retries": 1}, 2),
        ({"max_retries": 3}, 4),
        ({"autoretry_for": (KeyError,)}, 1),
        ({"autoretry_for": (OSError,)}, 3),
        ({"autoretry_for": ()}, 1),
        ({"dont_autoretry_for": (OSError,)}, 1),
        ({"dont_autoretry_for": [LookupError, IOError]}, 1),
        ({"dont_autoretry_for": (KeyError,)}, 3),
        ({"retry_kwargs": {"max_retries": 1}}, 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["class", "routine", "app.task"])
def test_celerys_own_attributes_go_before_the_settings(make_app, base, attributes, runs, how):
    app, begun = make_app(celery_max_retry=2), []

    def run():
        begun.append(1)
        raise OSError("again")

    async def execute():
        run()

    body = run if base is SyncTask else execute
    if how == "class":
        method = "run" if base is SyncTask else "execute"
        declare(base, name="failing", **{method: staticmethod(body)}, **attributes)
    elif how == "routine":
        routine(name="failing", schedule=15, **attributes)(body)
    else:
        app.task(base=base, name="failing", **attributes)(body)

    assert app.tasks["failing"].apply().state == states.FAILURE
    assert len(begun) == runs


def test_a_bases_attributes_are_its_subclasses_too(make_app):
    class Patient(SyncTask):
        abstract = True
        max_retries = None
        default_retry_delay = 180

    app = make_app()
    declare(Patient, name="report", run=answer)
    task = app.tasks["report"]
    assert (task.max_retries, task.default_retry_delay) == (None, 180)


def test_the_setting_says_how_long_after_a_failure_a_task_is_retried(make_app):
    app = make_app(celery_max_retry=4)
    app.conf.celery_retry_delay = 7.5

    def run(self):
        raise OSError

    declare(name="failing", run=run)
    declare(name="slower", run=run, default_retry_delay=90)

    state, retry = trace(app.tasks["failing"])
    assert (state, retry.when) == (states.RETRY, 7.5)
    assert trace(app.tasks["slower"])[1].when == 90
    assert trace(app.tasks["failing"], retries=4)[0] == states.FAILURE


def test_backoff_is_celerys(make_app):
    def run(self):
        raise OSError

    declare(name="failing", run=run, retry_backoff=5, retry_jitter=False)
    app = make_app()
    assert [trace(app.tasks["failing"], retries=each)[1].when for each in range(3)] == [5, 10, 20]


@pytest.mark.parametrize("base", [SyncTask, AsyncTask])
@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Ignore(), states.IGNORED),
        (Reject("no"), states.REJECTED),
        (Retry(exc=OSError()), states.RETRY),
    ],
    ids=repr,
)
def test_what_celery_has_a_meaning_for_is_not_retried(app, base, error, state):
    def run(*_):
        raise error

    async def execute(*_):
        raise error

    declare(base, name="task", **({"run": run} if base is SyncTask else {"execute": execute}))
    assert trace(app.tasks["task"]) == (state, error)


def test_reject_is_not_retried_even_if_a_class_forgets_it(app):
    def run(*_):
        raise Reject("no")

    declare(name="task", run=run, dont_autoretry_for=(KeyError,))
    assert trace(app.tasks["task"])[0] == states.REJECTED


def test_what_is_not_retried_by_itself_can_be_retried_by_hand(app):
    def run(self):
        raise self.retry(exc=KeyError(), countdown=3)

    declare(name="task", run=run, dont_autoretry_for=(KeyError,))
    state, retry = trace(app.tasks["task"])
    assert (state, retry.when) == (states.RETRY, 3)


def test_retry_takes_celerys_arguments_by_position(app):
    def run(self, *args):
        raise self.retry(("new",), {}, OSError(), False, None, 11)

    declare(name="task", run=run)
    state, retry = trace(app.tasks["task"])
    assert (state, retry.when, retry.sig.args) == (states.RETRY, 11, ("new",))


# Async tasks.


def test_the_return_value_of_execute_is_the_result(app, worker):
    declare(AsyncTask, name="poll", execute=async_answer)
    with worker():
        assert app.tasks["poll"].delay().get(timeout=20, interval=0.01) == "app0"


def test_request_and_current_task_are_the_tasks_own_in_all_that_it_starts(app):
    async def seen(self):
        await asyncio.sleep(0)
        return self.request.id, current_task.request.id, current_task.name

    async def execute(self):
        direct = await seen(self)
        child = await asyncio.ensure_future(seen(self))
        gathered = await asyncio.gather(seen(self), seen(self))
        thread = await asyncio.to_thread(
            lambda: (self.request.id, current_task.request.id, current_task.name)
        )
        return [direct, child, *gathered, thread]

    declare(AsyncTask, name="poll", execute=execute)
    for task_id in ("first", "second"):
        result = app.tasks["poll"].apply(task_id=task_id).get()
        assert result == [(task_id, task_id, "poll")] * 5
    assert current_task == None  # noqa: E711  a proxy
    assert app.tasks["poll"].request.id is None


def test_tasks_that_run_at_once_have_requests_of_their_own(app):
    both = []

    async def execute(self):
        both.append(asyncio.Event())
        if len(both) == 2:
            both[0].set()
        await asyncio.wait_for(both[0].wait(), 10)
        await asyncio.sleep(0)
        return self.request.id, current_task.request.id

    declare(AsyncTask, name="poll", execute=execute)
    app.finalize()
    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False):
        results = [app.tasks["poll"].apply_async(task_id=f"{n}-{uuid4()}") for n in range(2)]
        for each in results:
            assert each.get(timeout=20, interval=0.01) == [each.id, each.id]


def test_what_an_async_task_sends_has_it_for_its_parent(app):
    sent = []

    @signals.before_task_publish.connect
    def note(headers=None, **_):
        sent.append((headers["parent_id"], headers["root_id"]))

    async def execute(self):
        await asyncio.sleep(0)
        child = app.tasks["child"].delay()
        return [each.id for each in self.request.children] == [child.id]

    declare(AsyncTask, name="poll", execute=execute)
    declare(name="child", run=answer)
    assert trace(app.tasks["poll"], id="parent", root_id="root") == (states.SUCCESS, True)
    assert sent == [("parent", "root")]


def test_retry_works_within_execute_after_an_await(app):
    async def execute(self):
        await asyncio.sleep(0)
        raise self.retry(exc=OSError(), countdown=9)

    declare(AsyncTask, name="poll", execute=execute)
    state, retry = trace(app.tasks["poll"])
    assert (state, retry.when) == (states.RETRY, 9)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_would_end_the_loop_fails_the_task_alone(app, error):
    async def execute(self):
        raise error

    declare(AsyncTask, name="poll", execute=execute, max_retries=0)
    state, result = trace(app.tasks["poll"])
    assert (state, type(result)) == (states.FAILURE, aio.EscapedError)


@pytest.mark.parametrize("error", [TimeoutError("mine"), asyncio.TimeoutError("mine")])
def test_a_timeout_error_of_the_tasks_own_is_its_failure(app, error):
    async def execute(self):
        raise error

    declare(AsyncTask, name="poll", execute=execute, max_retries=0)
    assert trace(app.tasks["poll"]) == (states.FAILURE, error)


def test_an_async_task_called_like_a_function_by_another_is_refused_with_a_hint(app):
    async def execute(self):
        return app.tasks["inner"]()

    declare(AsyncTask, name="outer", execute=execute, max_retries=0)
    declare(AsyncTask, name="inner", execute=async_answer)
    state, error = trace(app.tasks["outer"])
    assert (state, type(error)) == (states.FAILURE, RuntimeError)
    assert "await" in str(error)


def test_an_async_task_may_await_another(app):
    async def execute(self):
        return await app.tasks["inner"].execute()

    declare(AsyncTask, name="outer", execute=execute)
    declare(AsyncTask, name="inner", execute=async_answer)
    assert app.tasks["outer"].apply().get() == "app0"


def test_an_async_task_runs_eagerly_within_a_running_loop(app):
    declare(AsyncTask, name="poll", execute=async_answer)

    async def caller():
        return app.tasks["poll"].apply().get()

    assert asyncio.run(caller()) == "app0"


def test_an_async_task_that_runs_eagerly_may_send_others(app):
    """As tests have it: what the coroutine sends is run at once, and answers."""

    async def count(self, number):
        await asyncio.sleep(0)
        below = (
            app.tasks["count"].delay(number - 1).get(disable_sync_subtasks=False) if number else []
        )
        return [*below, (number, self.request.args[0], app.current_task.request.id)]

    app.conf.task_always_eager = True
    declare(AsyncTask, name="count", execute=count)
    counted = app.tasks["count"].delay(2).get()
    assert [each[:2] for each in counted] == [(0, 0), (1, 1), (2, 2)]
    assert len({each[2] for each in counted}) == 3


def test_a_sync_task_may_call_an_async_one_like_a_function(app):
    declare(AsyncTask, name="inner", execute=async_answer)
    declare(name="outer", run=lambda self: app.tasks["inner"]())
    assert app.tasks["outer"].apply().get() == "app0"


def test_a_class_with_an_async_run_is_one_with_execute(app):
    declare(AsyncTask, name="poll", run=async_answer)
    assert app.tasks["poll"].apply().get() == "app0"


def test_a_worker_closes_the_loop_when_it_stops(app, worker, monkeypatch):
    async def execute(self):
        loops.append(asyncio.get_running_loop())

    loops = []
    declare(AsyncTask, name="poll", execute=execute)
    with worker():
        app.tasks["poll"].delay().get(timeout=20, interval=0.01)
        assert not loops[0].is_closed()
        monkeypatch.setattr(worker_state, "should_stop", 0)
        wait_for(loops[0].is_closed)


def test_stock_tasks_are_left_alone(app):
    class Stock(Task):
        name = "stock"

        def run(self):
            raise OSError

    app.register_task(Stock())
    assert app.tasks["stock"].apply().state == states.FAILURE
    assert app.tasks["stock"].acks_late is False


def test_run_execute_of_a_base_class_goes_round_the_execute_of_its_tasks(app):
    class WithSession(AsyncTask):
        abstract = True

        async def run_execute(self, *args, **kwargs):
            return "opened", await self.execute("session", *args, **kwargs), "closed"

    class Poll(WithSession):
        name = "poll"

        async def execute(self, session, what):
            return session, what

    assert ("opened", ("session", "news"), "closed") == app.tasks["poll"].apply(("news",)).get()
