"""A year of a hundred routines of every kind, with all that befalls a scheduler in it.

The scheduler's own loop on a real database, its clock moved by hand, lives through outages of the
scheduler, its host and its broker, through kills with claims in hand, a clock that is set, and
what people do to the table, all of it drawn from a seed. Afterwards the ledger is what `year`
makes of it by the rules: each occurrence has run once, at its time, or is covered by one record.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter
from datetime import datetime, timedelta
from functools import cache, partial
from random import Random
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL
from year import DAYS, UTC, At, Calendar, Delay, Expected, Grid, Row, cron, crontab, rrule

from celery_sqlalchemy_kit import loop, schedules
from celery_sqlalchemy_kit.clock import SettableClock
from celery_sqlalchemy_kit.routines import Declared, Run, State
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tables import routines, runs
from celery_sqlalchemy_kit.testing import ManualBeat

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)


def on(month, day, hour=0, minute=0):
    """An instant of the year."""
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


# -- the routines -----------------------------------------------------------------------------


def every(seconds):
    return {"timedelta": seconds}, Grid(timedelta(seconds=seconds))


def fields(zone, minutes, hours, days=lambda day: True, *, wildcard=False, between=DAYS, **written):
    """Crontab fields as *written*, and what they mean."""
    rule = crontab(zone, minutes, hours, days, wildcard=wildcard, between=between)
    return written | ({} if zone == "UTC" else {"timezone": zone}), rule


def text(expression, zone="UTC", *, means=None, between=DAYS):
    return {"cron": expression, "timezone": zone}, cron(means or expression, zone, between)


def recurring(rule, zone="UTC", start=datetime(1970, 1, 1), *, wildcard=False):
    written = rule if start.year == 1970 else f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:{rule}"
    return {"rrule": written, "timezone": zone}, rrule(rule, zone, start, wildcard=wildcard)


def sun(event, latitude, longitude, begin, end):
    """The kit says itself where the sun stands; where it is wrong, its own tests tell."""
    written = {"solar": event, "latitude": latitude, "longitude": longitude}
    instants, schedule = [schedules.parse(written).next_after(begin)], schedules.parse(written)
    while instants[-1] < end:
        instants.append(schedule.next_after(instants[-1]))
    return written, Calendar(tuple(instants))


def once(at):
    return {"once": at.isoformat()}, At(at)


def after(seconds):
    return {"after": seconds}, Delay(timedelta(seconds=seconds))


SUNDAY, FRIDAY = 6, 4


def weekday(*numbers):
    return lambda day: day.weekday() in numbers


def of_month(*numbers):
    return lambda day: day.day in numbers


CHANGES = (3, 4, 9, 10, 11)


def changing(number):
    """That weekday, in the months in which clocks are changed."""
    return lambda day: day.weekday() == number and day.month in CHANGES


MONTHS = ",".join(map(str, CHANGES))


@cache
def calm():
    """Schedules of at most two runs a day: also what the schedule of a routine is changed to."""
    return [
        every(259_200),
        every(604_800),
        every(1_000_003),
        every(650_000.25),
        every(2_592_000),
        fields("UTC", [0], range(0, 24, 12), wildcard=True, minute=0, hour="*/12"),
        fields("UTC", [0], [12], weekday(0, 1, 2, 3, 4), minute=0, hour=12, day_of_week="mon-fri"),
        fields("UTC", [0], [0], lambda d: d.day == 13 and d.weekday() == FRIDAY, minute=0, hour=0, day_of_month=13, day_of_week="fri"),
        fields("UTC", [0], [0], lambda d: d.day < 8 and d.weekday() == 0, minute="0", hour="0", day_of_month="1-7", day_of_week="mon"),
        fields("UTC", [0], [12], of_month(31), minute=[0], hour=[12], day_of_month=31),
        fields("UTC", [0], [0], lambda d: (d.month, d.day) == (2, 29), minute=0, hour=0, month_of_year="feb", day_of_month=29),
        fields("UTC", [0], [0, 12], lambda d: d.month in (12, 1, 2), minute=0, hour="0,12", month_of_year="12-2"),
        fields("Europe/Berlin", [0], [13], minute=0, hour=[13]),
        fields("America/New_York", [0], [7], weekday(1, 2, 3, 4, 5), minute=0, hour="7", day_of_week="tue-sat"),
        fields("America/Los_Angeles", [0], [4], minute=0, hour=4),
        fields("Asia/Kolkata", [30], [5, 17], minute=30, hour="5-17/12"),
        fields("Asia/Kathmandu", [45], [17], minute=45, hour=17),
        fields("Africa/Casablanca", [0], [13], minute=0, hour=13),
        fields("Australia/Sydney", [0], [11], weekday(2), minute=0, hour=11, day_of_week=3),
        fields("Europe/Berlin", [30], [2], changing(SUNDAY), minute=30, hour=2, day_of_week="sun", month_of_year=MONTHS),
        fields("America/New_York", [30], [1, 2], changing(SUNDAY), minute=30, hour="1,2", day_of_week=0, month_of_year=MONTHS),
        fields("America/Santiago", [30], [0], changing(SUNDAY), minute=30, hour=0, day_of_week="sun", month_of_year=MONTHS),
        fields("Australia/Lord_Howe", [45], [1, 2], changing(SUNDAY), minute=45, hour="1-2", day_of_week="sun", month_of_year=MONTHS),
        fields("Africa/Cairo", [30], range(24), lambda d: d.weekday() == FRIDAY and d.month in (4, 10) and d.day > 23, wildcard=True, minute=30, day_of_week="fri", month_of_year="4,10", day_of_month="24-31"),
        text("0 */12 * * *"),
        text("0 13 L * *", "Europe/Berlin"),
        text("0 0 * * FRI#2"),
        text("0 12 13 * FRI"),
        text("0 12 LW * *"),
        text("0 0 * * 5L"),
        text("0 0 1-7 * 1"),
        text("0 7 * * MON-FRI", "America/New_York"),
        text("0 12 */2 * *"),
        text("30 2 * 3,10 SUN", "Europe/Berlin"),
        text("0 0 * 3,9,10,11 SAT,SUN", "America/Asuncion"),
        text("15 0 * 3,10 SUN", "Asia/Beirut"),
        text("@daily", means="0 0 * * *"),
        text("@weekly", "Asia/Tokyo", means="0 0 * * 0"),
        text("@monthly", "America/New_York", means="0 0 1 * *"),
        text("@yearly", "Pacific/Auckland", means="0 0 1 1 *"),
        recurring("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=12;BYMINUTE=0;BYSECOND=0"),
        recurring("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU;BYMONTH=3,10", "Europe/London", datetime(2025, 1, 5, 1, 30)),
        recurring("FREQ=DAILY;INTERVAL=3", "Europe/Berlin", datetime(2025, 12, 30, 13)),
        recurring("FREQ=DAILY;COUNT=40", start=datetime(2026, 2, 1, 12)),
        recurring("FREQ=YEARLY;BYMONTH=5;BYMONTHDAY=-1,1"),
        recurring("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", start=datetime(2026, 1, 1, 12)),
    ]  # fmt: skip


#: Some hours about changes of clocks, in which routines run every quarter of an hour.
CLOCKS = {
    "Europe/Berlin": [(on(3, 29), on(3, 29, 3)), (on(10, 25), on(10, 25, 3))],
    "America/New_York": [(on(3, 8, 6), on(3, 8, 9)), (on(11, 1, 5), on(11, 1, 8))],
    "Australia/Lord_Howe": [(on(4, 4, 14), on(4, 4, 16)), (on(10, 3, 14), on(10, 3, 16))],
}


def dense(zone, begin):
    near = {"between": (begin.date() - 2 * DAY, begin.date() + 3 * DAY)}
    return [
        fields(zone, range(0, 60, 15), range(24), wildcard=True, **near, minute="*/15"),
        fields(zone, [0, 30], range(6), **near, minute="0,30", hour="0-5"),
        text("*/15 * * * *", zone, **near),
        text("5,35 1-3 * * *", zone, **near),
        recurring(
            "FREQ=HOURLY;BYMINUTE=0,45", zone, datetime(begin.year, begin.month, 1), wildcard=True
        ),
    ]


@cache
def population():
    """Names, schedules as they stand in the table and as they are meant, and other columns."""
    made = []
    policies = itertools.cycle(["latest", "skip", "all"])
    for n, (written, rule) in enumerate(calm()):
        made.append((f"calm-{n}", written, rule, {"catch_up": next(policies)}))
    for catch_up in ("latest", "skip", "all"):
        made += [
            (f"half-days-{catch_up}", *every(43_200), {"catch_up": catch_up}),
            (f"days-{catch_up}", *every(86_400), {"catch_up": catch_up}),
            (f"nights-{catch_up}", *text("0 0 * * *"), {"catch_up": catch_up}),
            (f"noons-{catch_up}", *text("0 12 * * *"), {"catch_up": catch_up}),
            (f"stars-{catch_up}", *text("0 */12 * * *"), {"catch_up": catch_up}),
            (f"hours-{catch_up}", *fields("UTC", [0], [0, 12], minute=0, hour="12,0"), {"catch_up": catch_up}),
            (f"walls-{catch_up}", *fields("Asia/Kolkata", [30], [5, 17], minute=30, hour="5,17"), {"catch_up": catch_up}),
            (f"rules-{catch_up}", *recurring("FREQ=HOURLY;INTERVAL=12", start=datetime(2026, 1, 1), wildcard=True), {"catch_up": catch_up}),
            (f"jittered-{catch_up}", *every(1_209_600), {"catch_up": catch_up, "jitter": 7200}),
            (f"late-{catch_up}", *once(on(6, 1, 12)), {"catch_up": catch_up}),
            (f"past-{catch_up}", *once(on(1, 1) - 9 * DAY), {"catch_up": catch_up}),
            (f"drain-{catch_up}", *after(259_200), {"catch_up": catch_up}),
        ]  # fmt: skip
    for zone, windows in CLOCKS.items():
        for n, (begin, end) in enumerate(windows):
            for kind, (written, rule) in enumerate(dense(zone, begin)):
                bounds = {"starts_at": begin, "ends_at": end, "catch_up": next(policies)}
                made.append((f"{zone}-{n}-{kind}", written, rule, bounds))
    return [
        *made,
        ("jittered", *every(345_600), {"jitter": 3600.5}),
        ("jittered-beyond", *fields("UTC", [0], [0], of_month(1, 2, 15), minute=0, hour=0, day_of_month="1,2,15"), {"jitter": 1e6, "catch_up": "all"}),
        ("jittered-once", *once(on(8, 1)), {"jitter": 86_400}),
        ("from-april", *every(129_600), {"starts_at": on(4, 1, 12)}),
        ("from-before", *every(259_200), {"starts_at": on(1, 1) - 30 * HOUR}),
        ("until-may", *every(43_200), {"ends_at": on(5, 1)}),
        ("five-times", *every(86_400), {"max_runs": 5, "catch_up": "all"}),
        ("forty-times", *text("0 12 * * *"), {"max_runs": 40, "starts_at": on(5, 5, 12)}),
        ("never", *every(40_000_000), {}),
        ("flood", *every(600), {"starts_at": on(6, 10), "ends_at": on(6, 10, 23), "catch_up": "all"}),
        ("burst", *every(0.25), {"starts_at": on(6, 20, 12), "ends_at": on(6, 20, 12) + 45 * SECOND}),
        ("once-at-the-start", *once(BEGIN), {}),
        ("once-at-christmas", *once(on(12, 24, 17)), {"catch_up": "skip"}),
        ("once-after-the-year", *once(END + DAY), {}),
        ("drain-jittered", *after(518_400), {"jitter": 7200}),
        ("drain-ten", *after(86_400), {"max_runs": 10, "starts_at": on(9, 1)}),
        ("drain-until-june", *after(345_600), {"ends_at": on(6, 1)}),
        ("drain-stuck", *after(259_200), {}),
        ("sunrise", *sun("sunrise", 52.52, 13.4, BEGIN, on(2, 9)), {"ends_at": on(2, 1)}),
        ("polar-night", *sun("sunrise", 69.65, 18.96, BEGIN, on(2, 9)), {"ends_at": on(2, 1)}),
        ("noon", *sun("solar_noon", -33.9, 151.2, on(7, 1), on(8, 9)), {"starts_at": on(7, 1), "ends_at": on(8, 1), "catch_up": "all"}),
        ("dusk", *sun("dusk_civil", 40.7, -74, on(11, 1), on(12, 9)), {"starts_at": on(11, 1), "ends_at": on(12, 1), "jitter": 900}),
    ]  # fmt: skip


#: Outages that are always there: longer than what `max_runs` leaves, about the grace, over changes
#: of clocks, over a flood, and within the grace.
FIXED = [
    (on(1, 2, 6), on(1, 8, 6)),
    (on(2, 2) - 5 * SECOND, on(2, 2) + 60 * SECOND),
    (on(2, 9) - 5 * SECOND, on(2, 9) + 61 * SECOND),
    (on(3, 29, 0, 20), on(3, 29, 1, 3)),
    (on(10, 25, 0, 40), on(10, 25, 1, 15) + 20 * SECOND),
    (on(4, 4, 14, 50), on(4, 4, 15, 5)),
    (on(6, 1, 11), on(6, 1, 14)),
    (on(6, 10, 1), on(6, 10, 21, 30)),
    (on(6, 20, 11), on(6, 20, 12) + 44 * SECOND),
]
#: During the first of them this one is switched off, on, off and on.
SWITCHED = [(on(1, 4, 6), False), (on(1, 5, 3), True), (on(1, 6, 6), False), (on(1, 7, 18), True)]


# -- the year ---------------------------------------------------------------------------------


class Killed(BaseException):
    """The scheduler is gone, with claims in its hand."""


class Year:
    """What happens to the database, and to what is expected of it.

    Moments are true time; the database's clock is off by ``skew``.
    """

    def __init__(self, url: URL, seed: int) -> None:
        self.url, self.random = url, Random(seed)
        self.clock, self.skew = SettableClock(BEGIN), timedelta(0)
        self.people = self.on_this_clock(make_engine(url))
        self.beat: ManualBeat | None = None
        self.is_up = False
        #: None, or whether a scheduler that is about to die publishes its claims before.
        self.dies: bool | None = None
        self.expected: dict[str, Expected] = {}
        self.edited: set[str] = set()
        self.published: list[Run] = []
        self.happened: Counter[str] = Counter()
        self._events: list[tuple] = []
        self._number = itertools.count()

    def on_this_clock(self, engine):
        """The database's own clock, too, is the year's: triggers and defaults take it."""

        def connected(dbapi_connection, connection_record):
            dbapi_connection.execute("PRAGMA synchronous = OFF")
            dbapi_connection.execute("PRAGMA journal_mode = MEMORY")
            dbapi_connection.create_function("strftime", 2, strftime)

        def strftime(form, instant):
            assert instant == "now"
            return self.clock.now().strftime("%Y-%m-%d %H:%M:%S.%f")

        sa.event.listen(engine, "connect", connected)
        return engine

    @property
    def now(self):
        return self.clock.now() - self.skew

    def plan(self, moment, deed, *args):
        heapq.heappush(self._events, (moment, next(self._number), deed, args))

    def live(self):
        while self.now < END:
            while self._events and self._events[0][0] <= self.now:
                _, _, deed, args = heapq.heappop(self._events)
                self.happened[getattr(deed, "func", deed).__name__] += 1
                deed(*args)
            self._pass_time()

    def _next(self):
        """When something happens next, by the database's clock."""
        return min([END, *(moment for moment, *_ in self._events[:1])]) + self.skew

    def _pass_time(self):
        begin = self.clock.now()
        if not self.is_up:
            if self.beat.publisher.away:
                self.beat.loop.turn()
            self.clock.set(self._next())
            return
        try:
            self._work()
        except Killed:
            self._note_published()
            self.stop(ManualBeat.kill)
        for routine in self.expected.values():
            routine.work(begin, self.clock.now())
        if not self.is_up:
            self._strand()

    def _work(self):
        """Turn and wait, until before something happens."""
        while self.clock.now() < self._next():
            seconds = self.beat.loop.turn()
            self._note_published()
            if seconds > 0:
                # Less than a microsecond would not move the clock at all.
                wakes_at = self.clock.now() + timedelta(seconds=max(seconds, 1e-6))
                self.clock.set(min(wakes_at, self._next()))

    def _note_published(self):
        """Runs that others wait for end, some time after they were published."""
        sent, self.beat.publisher.sent = self.beat.publisher.sent, []
        self.published += sent
        for run in sent:
            draw = Random(f"{run.routine_name}/{run.scheduled_for}")
            endless = run.routine_name == "drain-stuck" and draw.random() < 0.1
            if run.routine_name.startswith("drain") and not endless:
                takes = draw.choice([5 * SECOND, 12 * HOUR, 30 * HOUR])
                state = draw.choice([State.SUCCEEDED, State.FAILED, State.LOST])
                self.plan(self.now + takes, self.end, run, state)

    def _strand(self):
        """The last claim of the scheduler that died was not published, or not known to be."""
        ready = True
        while ready:
            ready = [each for each in self.expected.values() if each.is_ready(self.clock.now())]
            for each in ready:
                each.stranded = each.claim(self.clock.now())
            if any(each.stranded for each in ready):
                break

    # -- what happens --

    def start(self):
        self.dies = None
        if self.is_up:
            return
        declared = [Declared(n, n, schedules.parse(each)) for n, (each, _) in DECLARED.items()]
        if self.beat is not None:
            self.beat.engine.dispose()
        self.beat = ManualBeat(self.url, self.clock, declared, **LONG_SLEEPS)
        self.on_this_clock(self.beat.engine)
        publish = self.beat.publisher.publish

        def publish_or_die(claimed, since, sent, **_):
            if self.dies is False:
                raise Killed
            faults = publish(claimed, since, sent)
            if self.dies:
                raise Killed
            return faults

        self.beat.publisher.publish = publish_or_die
        self.beat.start()
        self.is_up = True

    def stop(self, how):
        self.is_up, self.dies = False, None
        how(self.beat)

    def die_at_the_next_claim(self, publishes):
        self.dies = publishes

    def lose_the_broker(self):
        self.is_up, self.beat.publisher.away = False, True

    def find_the_broker(self):
        self.is_up, self.beat.publisher.away = True, False

    def set_the_clock(self, by):
        self.skew += by
        self.clock.advance(by)

    def end(self, run, state):
        routine = self.expected[run.routine_name]
        row = next(
            row
            for row in routine.rows
            if (row.scheduled_for, row.cause) == (run.scheduled_for, run.cause)
        )
        ends = row.state == "sent"
        assert ends == self.beat.finish(run, state)
        if ends:
            routine.end(row, self.clock.now(), state.value)

    def add(self, name, written, rule, columns):
        key, schedule = UUID(int=self.random.getrandbits(128)), json.dumps(written)
        values = {"id": key, "name": name, "task": name, "schedule": schedule, "origin": "db"}
        with self.people.begin() as connection:
            connection.execute(routines.insert().values(values | columns))
        self.expected[name] = Expected(str(key), schedule, rule, self.clock.now(), **columns)

    def adopt_declared(self):
        with self.people.begin() as connection:
            keys = dict(connection.execute(sa.select(routines.c.name, routines.c.id)).all())
        for declared, (written, rule) in DECLARED.items():
            key, schedule = str(keys[declared]), json.dumps(written)
            self.expected[declared] = Expected(key, schedule, rule, self.clock.now())

    def delete(self, name):
        with self.people.begin() as connection:
            connection.execute(routines.delete().where(routines.c.name == name))
        self.expected[name].remove()

    def edit(self, name, rule=None, **values):
        """One UPDATE; ``next_run_at`` is an order."""
        if self.expected[name].removed:
            return
        self.edited.add(name)
        with self.people.begin() as connection:
            mine = routines.c.name == name
            connection.execute(routines.update().where(mine).values(values))
        expected = {"order" if n == "next_run_at" else n: v for n, v in values.items()}
        if rule is not None:
            expected["rule"] = rule
        self.expected[name].edit(self.clock.now(), **expected)

    # -- what people do --

    def meddle(self):
        names = [n for n, each in self.expected.items() if not each.removed and n not in LEFT_ALONE]
        deeds = [self.pause, self.reschedule, self.order, self.bound, self.put_off, self.change]
        self.random.choices(deeds, [4, 4, 5, 3, 2, 2])[0](self.random.choice(names))

    def pause(self, name):
        if self.expected[name].active:
            self.edit(name, active=False)
        pause = self.random.choice([0, 1, 40, 4000, 90_000, 900_000]) * SECOND
        self.plan(self.now + pause, partial(self.edit, name, active=True))

    def reschedule(self, name):
        self.edit(name, **self._another_schedule(name))

    def order(self, name):
        seconds = self.random.choice([-9000, 0, 0, 80, 5000, 200_000])
        order = {"next_run_at": self.clock.now() + seconds * SECOND + timedelta(microseconds=137)}
        also = [{}, {}, {"active": True}, self._another_schedule(name)]
        self.edit(name, **order, **self.random.choice(also))

    def bound(self, name):
        instant = self.now + self.random.choice([-3, 0, 0.5, 10, 60]) * DAY
        most = self.expected[name].total + self.random.choice([0, 1, 3, 90])
        bounds = [{"starts_at": instant}, {"ends_at": instant}, {"max_runs": most}]
        self.edit(name, **self.random.choice(bounds))
        free = {"starts_at": None, "ends_at": None, "max_runs": None, "active": True}
        self.plan(self.now + self.random.randrange(500) * HOUR, partial(self.edit, name, **free))

    def plan_anew(self):
        names = [n for n, each in self.expected.items() if not each.removed and n not in LEFT_ALONE]
        for name in self.random.sample(names, 10):
            self.edit(name, next_run_at=None)

    def put_off(self, name):
        self.edit(name, jitter=self.random.choice([1, 600, 4000]))
        self.plan(self.now + 9 * DAY, partial(self.edit, name, jitter=0))

    def change(self, name):
        catch_up = self.random.choice(["latest", "skip", "all"])
        chosen = self.random.choice([{"next_run_at": None}, {"catch_up": catch_up}, None])
        if chosen is not None:
            self.edit(name, **chosen)
        elif not name.startswith("declared"):
            self.delete(name)

    def _another_schedule(self, name):
        rule = self.expected[name].rule
        if isinstance(rule, At):
            written, rule = once(self.now + self.random.choice([-30, 0, 1, 900]) * HOUR)
        elif isinstance(rule, Delay):
            written, rule = after(self.random.choice([172_800, 345_600, 600_000]))
        else:
            written, rule = self.random.choice(calm())
        return {"schedule": json.dumps(written), "rule": rule, "jitter": 0}


#: Nobody meddles with what is known for some days only.
LEFT_ALONE = {f"{zone}-{n}-{kind}" for zone in CLOCKS for n in range(2) for kind in range(5)}
LEFT_ALONE |= {"sunrise", "polar-night", "noon", "dusk", "flood", "burst"}
DECLARED = {"declared-0": every(43_200), "declared-1": text("0 12 * * *")}
#: Of simulated time; nothing else than what is due wakes the scheduler.
SLEEP = 7 * 86_400
LONG_SLEEPS = {"scheduler_max_interval": SLEEP, "scheduler_sync_every": SLEEP}
#: And nothing is tidied up, as there are no workers that would begin what was sent.
LONG_SLEEPS |= {"scheduler_unstarted_after": 365 * 86_400, "scheduler_keep_runs": 0}
LONG_SLEEPS |= {"scheduler_keep_runs_for": 3650 * 86_400}


def outages(random):
    """Beginnings and ends; about one in eight days, each of another kind."""
    for day in range(4, 362, 8):
        half_days = random.randrange(1, 9)
        begin = BEGIN + day * DAY + half_days * 12 * HOUR
        begin += random.choice([timedelta(0), -5 * SECOND, random.random() * 11 * HOUR])
        begin = begin.replace(microsecond=0)
        lasts = random.choice([8 * SECOND, 14 * SECOND, 50 * SECOND, 66 * SECOND, 10 * MINUTE])
        if random.random() < 0.6:
            lasts = random.choice([5, 12, 13, 24, 36, 80]) * HOUR
            lasts += random.choice([0, 0, 30]) * SECOND
        end = begin + lasts
        others = [*FIXED, (on(2, 16), on(2, 16))]
        if not any(first - HOUR < end and begin < last + HOUR for first, last in others):
            yield begin, end


def plan_outage(year, begin, end, of):
    random = year.random
    if of == "scheduler":
        year.plan(begin, year.stop, random.choice([ManualBeat.stop, ManualBeat.kill]))
        year.plan(end, year.start)
    elif of == "broker":
        year.plan(begin, year.lose_the_broker)
        year.plan(end, year.find_the_broker)
    else:
        year.plan(begin, year.die_at_the_next_claim, random.random() < 0.3)
        year.plan(end, year.start)
    for _ in range(2 if end - begin > HOUR else 0):
        year.plan(begin + random.random() * (end - begin), year.meddle)


def planned(url, seed):
    year = Year(url, seed)
    random = year.random
    year.plan(BEGIN, year.start)
    year.plan(BEGIN, year.adopt_declared)
    for case in population():
        year.plan(BEGIN, year.add, *case)
    year.plan(on(2, 16) - SECOND, year.die_at_the_next_claim, False)
    year.plan(on(2, 16) + 3 * SECOND, year.start)
    for begin, end in FIXED:
        plan_outage(year, begin, end, "scheduler")
    for begin, end in outages(random):
        plan_outage(year, begin, end, random.choice(["scheduler", "broker", "claims", "claims"]))
    for moment, active in SWITCHED:
        year.plan(moment, partial(year.edit, "nights-all", active=active))
    for month in range(1, 13):
        begin = on(month, random.randrange(2, 28)) - random.choice([MINUTE, 30 * MINUTE, 5 * HOUR])
        by = random.choice([-HOUR, -5 * MINUTE, 70 * SECOND, 10 * MINUTE, HOUR, HOUR, 13 * HOUR])
        year.plan(begin, year.set_the_clock, by)
        end = begin + random.choice([MINUTE, HOUR, 20 * HOUR])
        year.plan(end, year.set_the_clock, -by)
        year.plan(end + random.random() * HOUR, year.plan_anew)
    for n in range(20):
        begin = BEGIN + random.randrange(1, 700) * 12 * HOUR
        written, rule = random.choice(calm())
        catch_up = random.choice(["latest", "skip", "all"])
        year.plan(begin, year.add, f"new-{n}", written, rule, {"catch_up": catch_up})
    for _ in range(170):
        moment = BEGIN + random.randrange(10, 730) * 12 * HOUR
        if random.random() < 0.7:
            moment += random.randrange(43_200_000) * timedelta(milliseconds=1)
        year.plan(moment, year.meddle)
    return year


#: Another seed is another year.
@pytest.fixture(scope="module", params=[2026], ids="seed {}".format)
def year(tmp_path_factory, request):
    url = URL.create("sqlite", database=str(tmp_path_factory.mktemp("year") / "routines.db"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "HEARTBEAT_SECONDS", SLEEP)
        made = planned(url, request.param)
        made.live()
        yield made
    made.beat.engine.dispose()
    made.people.dispose()


def ledger(year):
    """The rows of the ledger, by routine, in the order of their occurrences."""
    at = sa.func.coalesce(runs.c.claimed_at, runs.c.finished_at, type_=runs.c.claimed_at.type)
    columns = (runs.c.scheduled_for, runs.c.cause, runs.c.state, at)
    more = (runs.c.reason, runs.c.count, runs.c.until)
    found = {name: [] for name in year.expected}
    for name, *row in select(year, runs.c.routine_name, *columns, *more):
        found[name].append(Row(*row))
    return {name: in_order(rows) for name, rows in found.items()}


def in_order(rows):
    return sorted(rows, key=lambda row: (row.scheduled_for, row.cause, row.at, row.state))


def select(year, *columns):
    with year.people.begin() as connection:
        return connection.execute(sa.select(*columns)).all()


# -- what came of it --------------------------------------------------------------------------


def test_the_ledger_is_what_the_rules_say(year):
    found = ledger(year)
    expected = {name: in_order(routine.rows) for name, routine in year.expected.items()}

    assert {} == {n: differences(expected[n], found[n]) for n in found if expected[n] != found[n]}


def differences(expected, found):
    return [r for r in expected if r not in found][:3], [r for r in found if r not in expected][:3]


def test_the_routines_stand_where_the_rules_leave_them(year):
    columns = ("name", "total_run_count", "last_run_at", "active", "occurrence_at", "error")
    found = select(year, *(routines.c[name] for name in columns))
    expected = [
        (name, each.total, each.last_run_at, each.active, each.pending, None)
        for name, each in year.expected.items()
        if not each.removed
    ]

    assert sorted(expected, key=str) == sorted(map(tuple, found), key=str)


def test_every_occurrence_ran_once_or_is_covered_by_one_record(year):
    """Of those that nobody meddled with: all from the first on, whatever befell the scheduler."""
    untouched = 0
    for name, rows in ledger(year).items():
        rule = year.expected[name].rule
        settled = [row for row in rows if row.cause != "manual"]
        if name in year.edited or isinstance(rule, Delay) or not settled:
            continue
        untouched += 1
        instant, first = settled[0].scheduled_for, settled[0].scheduled_for
        for row in settled:
            for _ in range(row.count):
                assert row.scheduled_for <= instant <= (row.until or row.scheduled_for), name
                assert instant <= row.at, name
                last, instant = instant, rule.next(instant, first)
            assert last == (row.until or row.scheduled_for), name
    assert untouched > 40


def test_the_counters_agree_with_the_ledger(year):
    counted = {
        name: sum(row.cause != "manual" and row.state != "missed" for row in rows)
        for name, rows in ledger(year).items()
    }
    found = dict(map(tuple, select(year, routines.c.name, routines.c.total_run_count)))

    assert {name: counted[name] for name in found} == found


def test_every_run_was_published_and_again_only_by_who_came_after_a_kill(year):
    published = Counter(run.id for run in year.published)
    columns = (runs.c.id, runs.c.state, runs.c.claimed_at, runs.c.publish_attempts)
    claimed = {key: rest for key, *rest in select(year, *columns) if rest[1] is not None}

    assert published.keys() <= claimed.keys()
    for key, (state, _, attempts) in claimed.items():
        assert published[key] <= attempts <= 2
        assert published[key] or state in ("missed", "skipped")


def test_a_run_that_waits_for_the_end_of_another_never_overlaps_it(year):
    delays = {n for n, each in year.expected.items() if isinstance(each.rule, Delay)}
    columns = (runs.c.routine_name, runs.c.scheduled_for, runs.c.finished_at, runs.c.cause)
    found = [row for row in select(year, *columns) if row[0] in delays and row[3] != "manual"]
    for before, later in itertools.pairwise(sorted(found, key=lambda row: row[:2])):
        if before[0] == later[0]:
            assert before[2] <= later[1], before[0]
    assert len(found) > 200


def test_what_is_to_run_once_ran_once(year):
    of = {n for n, each in year.expected.items() if isinstance(each.rule, At)} - year.edited
    settled = {
        n: [r.cause for r in rows if r.cause != "manual"] for n, rows in ledger(year).items()
    }

    assert {name: int(year.expected[name].rule.at < END) for name in of} == {
        name: len(settled[name]) for name in of
    }


def test_the_year_had_all_of_it(year):
    rows = [row for rows in ledger(year).values() for row in rows]

    assert len(rows) > 15_000
    assert {"schedule", "catch_up", "manual"} == {row.cause for row in rows}
    assert {
        None,
        "edited",
        "paused",
        "late: catch_up = latest",
        "late: catch_up = skip",
        "more than the catch-up limit",
        "not published before the next occurrence",
        "not published within 24 hours",
    } <= {row.reason for row in rows}
