"""A stop in the middle of something is obeyed as soon as that is done, and never much later."""

from __future__ import annotations

import os
import select
import signal
import threading
import time

import pytest

from celery_sqlalchemy_kit.stops import STOP_SECONDS, held


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT])
def stop(request):
    """Sends a stop; the process obeys by SystemExit, and counts how often."""
    obeyed = []

    def obey(number, frame):
        obeyed.append(number)
        raise SystemExit

    stops = (signal.SIGTERM, signal.SIGINT)
    before = {each: signal.getsignal(each) for each in stops}
    signal.signal(request.param, obey)

    def send():
        os.kill(os.getpid(), request.param)

    send.obeyed = obeyed
    yield send
    for each in stops:
        signal.signal(each, before[each])


@held()
def work(*steps):
    for step in steps:
        step()


def test_it_is_obeyed_when_what_is_under_way_is_done(stop):
    done = []
    with pytest.raises(SystemExit):
        work(stop, lambda: done.append(len(stop.obeyed)))
    assert [0] == done
    assert len(stop.obeyed) == 1


def test_it_is_obeyed_when_what_is_under_way_has_failed(stop):
    with pytest.raises(SystemExit):
        work(stop, lambda: 1 / 0)
    assert len(stop.obeyed) == 1


def test_without_one_nothing_is_obeyed_and_the_next_is_at_once(stop):
    with held():
        pass
    assert not stop.obeyed
    with pytest.raises(SystemExit):
        stop()


def test_it_does_not_wait_for_ever(stop):
    nothing, writer = os.pipe()
    began = time.monotonic()
    with pytest.raises(SystemExit):
        work(stop, lambda: select.select([nothing], [], []))
    assert time.monotonic() - began >= STOP_SECONDS
    assert len(stop.obeyed) == 1
    os.close(nothing)
    os.close(writer)


def test_a_second_one_is_obeyed_at_once(stop):
    went_on = []
    with pytest.raises(SystemExit):
        work(stop, stop, lambda: went_on.append(True))
    assert not went_on
    assert len(stop.obeyed) == 1


def test_who_ignores_them_goes_on_to(stop):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with held():
        os.kill(os.getpid(), signal.SIGTERM)
    assert not stop.obeyed


def test_another_thread_is_not_stopped(stop):
    done = []

    thread = threading.Thread(target=work, args=[lambda: done.append(True)])
    thread.start()
    thread.join()
    assert done
