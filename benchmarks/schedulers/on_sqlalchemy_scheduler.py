"""celery-sqlalchemy-scheduler 0.3.0: what sqlalchemy-celery-beat was made from."""

from __future__ import annotations

from datetime import datetime, timezone

from celery_sqlalchemy_scheduler.models import IntervalSchedule, PeriodicTask, PeriodicTaskChanged
from celery_sqlalchemy_scheduler.session import SessionManager

from benchmarks.schedulers import database
from benchmarks.schedulers.program import TASK, main, make_app

app = make_app(beat_dburi=database())


def _session():
    return SessionManager().session_factory(database())


def store(batches):
    session = _session()
    for batch in batches:
        every = IntervalSchedule(every=batch.every, period=IntervalSchedule.SECONDS)
        session.add(every)
        session.flush()
        last = datetime.fromtimestamp(batch.last, timezone.utc)
        session.bulk_insert_mappings(
            PeriodicTask,
            [
                {
                    "name": name,
                    "task": TASK,
                    "args": f"[{number}]",
                    "queue": batch.queue,
                    "enabled": batch.active,
                    "last_run_at": last,
                    "interval_id": every.id,
                }
                for number, name in batch.names()
            ],
        )
    session.add(PeriodicTaskChanged(id=1))
    session.commit()


def switch_on(name):
    session = _session()
    task = session.query(PeriodicTask).filter_by(name=name).one()
    task.enabled = True
    return session.commit  # which marks the change


if __name__ == "__main__":
    main(store=store, switch_on=switch_on)
