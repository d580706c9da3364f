"""What a scheduler stands on: SQL, or a store that a setting names."""

from __future__ import annotations

import gc
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery

from celery_sqlalchemy_kit import RoutineScheduler, SettingsError, migrations
from celery_sqlalchemy_kit.book import Book
from celery_sqlalchemy_kit.config import Settings
from celery_sqlalchemy_kit.errors import StoreAwayError, StoreBusyError, StoreError
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.store.faults import Fault, kind_of
from celery_sqlalchemy_kit.store.ledger import Ledger
from celery_sqlalchemy_kit.store.store import Store
from celery_sqlalchemy_kit.wakeups import Polling


@pytest.fixture
def shop(monkeypatch, sqlite):
    """A module of a user's that makes stores: in SQL, but nobody here knows."""
    migrations.migrate(make_engine(sqlite))

    def store(settings, me, *, timezone, clock):
        shop.made.append((settings, me, timezone, clock))
        return Store(make_engine(sqlite), me, timezone=timezone, clock=clock)

    def ledger(settings, *, clock):
        return Ledger(make_engine(sqlite), clock)

    shop = SimpleNamespace(made=[], store=store, Ledgers=SimpleNamespace(make=ledger), text="")
    monkeypatch.setitem(sys.modules, "shop_stores", shop)
    monkeypatch.setattr("celery_sqlalchemy_kit.scheduler._obey_sigterm", lambda: None)
    return shop


@pytest.fixture
def make_app():
    made = []

    def make(**conf):
        made.append(Celery("elsewhere", broker="memory://", set_as_current=False))
        made[-1].conf.update(conf)
        return made[-1]

    yield make
    for app in made:
        app.close()


@pytest.fixture
def scheduler(make_app, shop):
    app = make_app(scheduler_store="shop_stores:store", timezone="Asia/Kathmandu")
    app.conf.beat_schedule = {"poll": {"task": "poll", "schedule": timedelta(seconds=60)}}
    return RoutineScheduler(app, max_interval=0.01)


def test_the_collector_leaves_alone_what_a_scheduler_has_imported(scheduler):
    gc.unfreeze()
    scheduler.tick()

    assert 10_000 < gc.get_freeze_count()
    gc.unfreeze()
    scheduler._leave()


def test_a_scheduler_imports_nothing_that_it_has_no_use_for():
    script = (
        "import sys, celery_sqlalchemy_kit.scheduler\n"
        "names = ('cli', 'client', 'details', 'exchange', 'pool', 'shell', 'store.ledger')\n"
        "print([name for name in names if f'celery_sqlalchemy_kit.{name}' in sys.modules])\n"
    )
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )

    assert "[]\n" == told.stdout


def test_a_scheduler_works_on_the_store_that_the_setting_names(scheduler, shop):
    scheduler.tick()

    running = scheduler._running
    (settings, me, timezone, _), (_, farewell_me, _, _) = shop.made
    assert (scheduler.settings, "Asia/Kathmandu") == (settings, timezone)
    assert me == farewell_me
    assert isinstance(running.storage.wakeups, Polling)
    assert running.storage.store.look().next_run_at is not None
    assert "shop_stores:store" in scheduler.info

    scheduler._leave()

    assert not running.storage.store.beat(timedelta(0))


def test_a_store_that_is_away_is_said_once_and_tried_until_it_is_back(
    scheduler, monkeypatch, caplog
):
    scheduler.tick()
    store = scheduler._running.storage.store
    look = store.look
    outcomes = iter([StoreBusyError("a race"), StoreAwayError("gone"), StoreAwayError("gone")])

    def away(**kwargs):
        for error in outcomes:
            raise error
        return look(**kwargs)

    monkeypatch.setattr(store, "look", away)
    with caplog.at_level("INFO"):
        for _ in range(1000):
            if "is back" in caplog.text:
                break
            scheduler.tick()

    assert 1 == caplog.text.count("cannot be reached")
    assert "is back" in caplog.text


def test_what_a_store_raises_is_sorted():
    kinds = [kind_of(error("x")) for error in (StoreBusyError, StoreAwayError, StoreError)]

    assert [Fault.TRANSIENT, Fault.AWAY, Fault.OTHER] == kinds


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_module:store", "No module named 'no_such_module'"),
        ("shop_stores:no_such_store", "no_such_store"),
        ("shop_stores:text", "text is not callable"),
    ],
)
def test_a_path_to_nothing_is_an_error_that_names_it(make_app, shop, path, said):
    scheduler = RoutineScheduler(make_app(scheduler_store=path))

    with pytest.raises(SettingsError, match="scheduler_store") as caught:
        scheduler.tick()

    assert repr(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("path", ["shop_stores", "shop_stores:", ":store", "shop stores:store"])
def test_a_path_of_another_form_is_refused_with_the_other_settings(path):
    with pytest.raises(SettingsError, match=r"package\.module:factory"):
        Settings.load({"scheduler_store": path}, {}, scheduler=True)


def test_a_scheduler_with_a_store_of_its_own_needs_no_database():
    settings = Settings.load({"scheduler_store": "a.b:c"}, {}, scheduler=True)

    assert (None, "a.b:c") == (settings.scheduler_db_uri, settings.scheduler_store)


def test_a_worker_records_in_the_ledger_that_the_setting_names(make_app, shop):
    book = Book(make_app(worker_ledger="shop_stores:Ledgers.make"))

    assert book.exists
    assert ("", "") == book.ask(lambda ledger: ledger.owner(uuid4()))


def test_a_worker_whose_ledger_cannot_be_made_says_so_and_works(make_app, shop, caplog):
    book = Book(make_app(worker_ledger="shop_stores:nothing"))

    assert not book.exists
    assert "worker_ledger = 'shop_stores:nothing'" in caplog.text
