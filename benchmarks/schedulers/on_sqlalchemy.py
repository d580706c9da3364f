"""sqlalchemy-celery-beat: a port of django-celery-beat to SQLAlchemy."""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa
from sqlalchemy_celery_beat.models import (
    IntervalSchedule,
    Period,
    PeriodicTask,
    PeriodicTaskChanged,
)
from sqlalchemy_celery_beat.session import SessionManager

from benchmarks.schedulers import database
from benchmarks.schedulers.program import TASK, main, make_app

app = make_app(beat_dburi=database())


def _session():
    return SessionManager().session_factory(database())


def store(batches):
    with _session() as session:
        for batch in batches:
            every = IntervalSchedule(every=batch.every, period=Period.SECONDS)
            session.add(every)
            session.flush()
            last = datetime.fromtimestamp(batch.last, timezone.utc)
            rows = [
                {
                    "name": name,
                    "task": TASK,
                    "args": f"[{number}]",
                    "queue": batch.queue,
                    "enabled": batch.active,
                    "last_run_at": last,
                    "schedule_id": every.id,
                    "discriminator": every.discriminator,
                }
                for number, name in batch.names()
            ]
            session.execute(sa.insert(PeriodicTask), rows)
        PeriodicTaskChanged.update_from_session(session, commit=False)
        session.commit()


def switch_on(name):
    session = _session()
    task = session.query(PeriodicTask).filter_by(name=name).one()
    task.enabled = True
    return session.commit  # which marks the change


if __name__ == "__main__":
    main(store=store, switch_on=switch_on)
