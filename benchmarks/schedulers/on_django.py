"""django-celery-beat, with connections that Django keeps open: ``CONN_MAX_AGE``."""

from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings

from benchmarks.schedulers import database
from benchmarks.schedulers.program import TASK, main, make_app

AT_A_TIME = 5000


def _database(url):
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname])[0]
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.strip("/"),
        "USER": parts.username,
        "HOST": host,
        "PORT": parts.port or "",
        # By its default of 0 it would connect anew each time beat looks for changes.
        "CONN_MAX_AGE": None,
    }


settings.configure(
    DATABASES={"default": _database(database())},
    INSTALLED_APPS=["django_celery_beat"],
    USE_TZ=True,
    TIME_ZONE="UTC",
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks  # noqa: E402

app = make_app()


def store(batches):
    call_command("migrate", verbosity=0)
    for batch in batches:
        every, _ = IntervalSchedule.objects.get_or_create(
            every=batch.every, period=IntervalSchedule.SECONDS
        )
        last = datetime.fromtimestamp(batch.last, timezone.utc)
        tasks = (
            PeriodicTask(
                name=name,
                task=TASK,
                interval=every,
                args=f"[{number}]",
                queue=batch.queue,
                enabled=batch.active,
                last_run_at=last,
            )
            for number, name in batch.names()
        )
        PeriodicTask.objects.bulk_create(tasks, batch_size=AT_A_TIME)
    PeriodicTasks.update_changed()


def switch_on(name):
    task = PeriodicTask.objects.get(name=name)
    task.enabled = True
    return task.save  # which marks the change


if __name__ == "__main__":
    main(store=store, switch_on=switch_on)
