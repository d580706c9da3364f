"""RedBeat: routines stand in Redis, in another database of the same server than the queue."""

from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import urlsplit, urlunsplit

from celery.schedules import schedule
from redbeat import RedBeatSchedulerEntry
from redbeat.decoder import RedBeatJSONEncoder
from redbeat.schedulers import ensure_conf, get_redis

from benchmarks.schedulers import broker
from benchmarks.schedulers.program import TASK, main, make_app

AT_A_TIME = 1000
app = make_app(redbeat_redis_url=urlunsplit(urlsplit(broker())._replace(path="/1")))


def store(batches):
    """What `RedBeatSchedulerEntry.save` writes, many at a time."""
    for batch in batches:
        last = datetime.fromtimestamp(batch.last, timezone.utc)
        every = schedule(run_every=batch.every, app=app)
        pipe = get_redis(app).pipeline(transaction=False)
        key = ensure_conf(app).schedule_key
        for number, name in batch.names():
            entry = RedBeatSchedulerEntry(
                name,
                TASK,
                every,
                args=[number],
                options={"queue": batch.queue},
                enabled=batch.active,
                app=app,
            )
            pipe.hset(entry.key, mapping=_texts(entry, last))
            pipe.zadd(key, {entry.key: batch.due})
            if len(pipe) >= 2 * AT_A_TIME:
                pipe.execute()
        pipe.execute()


def _texts(entry, last):
    names = ("name", "task", "args", "kwargs", "options", "schedule", "enabled")
    definition = {name: getattr(entry, name) for name in names}
    encode = RedBeatJSONEncoder().encode
    return {"definition": encode(definition), "meta": encode({"last_run_at": last})}


def switch_on(name):
    entry = RedBeatSchedulerEntry.from_key(RedBeatSchedulerEntry.generate_key(app, name), app=app)
    entry.enabled = True
    return entry.save


if __name__ == "__main__":
    ensure_conf(app)
    main(store=store, switch_on=switch_on)
