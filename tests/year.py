"""What a year of any routine has to come to: the rules of schedules and policies, by hand.

Nothing of the kit's own reckoning and deciding is used here, but for where the sun stands: times
of day are walked through, day by day; cron strings are read by ``cronsim``, recurrence rules by
``dateutil``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from hashlib import blake2b
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim
from dateutil.rrule import rrulestr

UTC = timezone.utc
MOMENT = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Between which days calendars are known, if nobody says otherwise: past the next 29 February.
DAYS = date(2025, 12, 20), date(2028, 3, 5)

GRACE = timedelta(seconds=60)
LIMIT = 100
RESCUE = timedelta(seconds=10)
LONGEST_WAIT = timedelta(hours=24)


# -- when a routine is due ----------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Every so much time, counted from a phase."""

    step: timedelta

    def next(self, after: datetime, phase: datetime) -> datetime | None:
        return phase + ((after - phase) // self.step + 1) * self.step


@dataclass(frozen=True)
class Calendar:
    """Instants that are known beforehand, ascending."""

    instants: tuple[datetime, ...]

    def next(self, after: datetime, phase: datetime) -> datetime | None:
        index = bisect_right(self.instants, after)
        return self.instants[index] if index < len(self.instants) else None


@dataclass(frozen=True)
class At:
    """At one instant."""

    at: datetime

    def next(self, after: datetime, phase: datetime) -> datetime | None:
        return self.at if self.at > after else None


@dataclass(frozen=True)
class Delay:
    """That long after the end of the run before."""

    delay: timedelta

    def next(self, after: datetime, phase: datetime) -> datetime | None:
        return after + self.delay


Rule = Grid | Calendar | At | Delay


def crontab(
    zone: str,
    minutes: Iterable[int],
    hours: Iterable[int],
    days: Callable[[date], bool] = lambda day: True,
    *,
    wildcard: bool = False,
    between: tuple[date, date] = DAYS,
) -> Calendar:
    """The minutes of the hours of the days; *wildcard*: one of the fields began with a star."""
    first, last = between
    found = (first + n * DAY for n in range((last - first).days))
    walls = (
        datetime(day.year, day.month, day.day, hour, minute)
        for day in found
        if days(day)
        for hour in hours
        for minute in minutes
    )
    return _calendar(zone, walls, wildcard=wildcard)


def cron(expression: str, zone: str, between: tuple[date, date] = DAYS) -> Calendar:
    first, last = between
    begin = datetime.combine(first, time(), ZoneInfo(zone))
    found = takewhile(lambda instant: instant.date() < last, CronSim(expression, begin))
    return Calendar(tuple(instant.astimezone(UTC) for instant in found))


def rrule(text: str, zone: str, start: datetime, *, wildcard: bool = False) -> Calendar:
    """*wildcard*: a rule by the hour or less."""
    first, last = (datetime.combine(day, time()) for day in DAYS)
    walls = rrulestr(text, dtstart=start).between(first, last)
    return _calendar(zone, walls, wildcard=wildcard)


def _calendar(zone: str, walls: Iterable[datetime], *, wildcard: bool) -> Calendar:
    info = ZoneInfo(zone)
    return Calendar(tuple(sorted({i for w in walls for i in _instants(info, w, wildcard)})))


def _instants(zone: ZoneInfo, wall: datetime, wildcard: bool) -> set[datetime]:
    """When a clock in *zone* shows *wall*: cron's rule for the days on which it is changed."""
    sides = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    shown = {instant for instant in sides if _shows(zone, instant) == wall}
    if wildcard:
        return shown
    if shown:
        return {min(shown)}
    skipped_to = min(sides)
    while _shows(zone, skipped_to) < wall:
        skipped_to += MINUTE
    return {skipped_to}


def _shows(zone: ZoneInfo, instant: datetime) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


# -- what becomes of it -------------------------------------------------------------------------


@dataclass
class Row:
    """A row of ``routine_runs``. *at*: when it was claimed, or recorded."""

    scheduled_for: datetime
    cause: str
    state: str
    at: datetime
    reason: str | None = None
    count: int = 1
    until: datetime | None = None


@dataclass
class Expected:
    """One routine by the rules, and the rows that it has to have in the ledger."""

    key: str
    schedule: str
    rule: Rule
    edited_at: datetime
    jitter: float = 0
    catch_up: str = "latest"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_runs: int | None = None

    active: bool = True
    removed: bool = False
    paused_at: datetime | None = None
    last_run_at: datetime | None = None
    total: int = 0
    #: The occurrence that is to be dealt with next, and whether that is settled.
    pending: datetime | None = None
    planned: bool = False
    #: What somebody set ``next_run_at`` to.
    order: datetime | None = None
    #: Of a `Delay`: the run whose end it waits for, and when the one before ended.
    waits: Row | None = None
    ended_at: datetime | None = None
    rows: list[Row] = field(default_factory=list)
    #: Claimed by a scheduler that was killed before it could publish them.
    stranded: list[Row] = field(default_factory=list)

    # -- what is done to it --

    def edit(self, now: datetime, **values: object) -> None:
        """One UPDATE. ``order`` is ``next_run_at``; None clears it."""
        planning = {"schedule", "active", "jitter", "starts_at", "ends_at", "max_runs"}
        was_active, was_set = self.active, self.planned or self.order is not None
        changed = any(getattr(self, name) != values[name] for name in planning & values.keys())
        for name in values.keys() - {"order"}:
            setattr(self, name, values[name])
        if changed or ("order" in values and values["order"] is None and was_set):
            self.edited_at, self.planned, self.order = now, False, None
        if was_active and not self.active:
            self.paused_at = self.paused_at or now
        if "order" in values:
            self.order = values["order"]
            self.planned = False

    def remove(self) -> None:
        """The row is deleted; what it has in the ledger stays there."""
        self.active, self.removed, self.pending, self.waits = False, True, None, None

    def end(self, row: Row, now: datetime, state: str) -> None:
        """The run of *row* has ended."""
        row.state = state
        self.stranded = [each for each in self.stranded if each is not row]
        if self.waits is row:
            self.waits, self.ended_at = None, now

    # -- what schedulers do --

    def work(self, begin: datetime, end: datetime) -> None:
        """A scheduler is up from *begin* until before *end*."""
        if self.stranded:
            rescued_at = max(begin, self.stranded[0].at + RESCUE)
            self._claim_all(begin, min(rescued_at, end))
            if rescued_at >= end:
                return
            self._rescue(rescued_at)
            begin = rescued_at
        self._claim_all(begin, end)

    def is_ready(self, now: datetime) -> bool:
        wakes_at = self._wakes_at()
        return wakes_at is not None and wakes_at <= now

    def claim(self, now: datetime) -> list[Row]:
        """One claim; returns the runs that are to be published."""
        before, (ordered, self.order) = len(self.rows), (self.order, None)
        self._decide(now, ordered)
        if ordered is not None:
            self._run([ordered], "manual", now)
        runs = [row for row in self.rows[before:] if row.state == "sent"]
        if runs:
            self.last_run_at = now
            self.total += sum(row.cause != "manual" for row in runs)
        if self.active:
            self.paused_at = None
            if self.pending is None:
                self._end_for_good(now)
        return runs

    def _claim_all(self, now: datetime, end: datetime) -> None:
        while (wakes_at := self._wakes_at()) is not None and max(now, wakes_at) < end:
            now = max(now, wakes_at)
            self.claim(now)

    def _wakes_at(self) -> datetime | None:
        if not self.active:
            return None
        if self.order is not None:
            return self.order
        if self.waits:
            return None
        return self._due(self.pending) if self.planned and self.pending else EPOCH

    def _rescue(self, now: datetime) -> None:
        """Another scheduler finds what one that was killed had claimed."""
        for row in self.stranded:
            following = None if self.pending == row.scheduled_for else self.pending
            over = following is None and self.waits is None
            by_hand = row.cause == "manual"
            late = now - row.scheduled_for
            waited = late if row.cause == "schedule" else now - max(row.scheduled_for, row.at)
            overtaken = late > GRACE and following is not None and following <= now
            if not by_hand and (self.removed or not (self.active or over)):
                self._give_up(row, now, "skipped", "removed" if self.removed else "inactive")
            elif waited > LONGEST_WAIT:
                self._give_up(row, now, "missed", "not published within 24 hours")
            elif overtaken and not by_hand and self.catch_up != "all":
                self._give_up(row, now, "missed", "not published before the next occurrence")
            else:
                row.state, row.at = "sent", now
        self.stranded = []

    def _give_up(self, row: Row, now: datetime, state: str, reason: str) -> None:
        row.reason = reason
        self.total -= state == "missed" and row.cause != "manual"
        self.end(row, now, state)

    def _decide(self, now: datetime, ordered: datetime | None) -> None:
        if isinstance(self.rule, At):
            self._decide_once(now, self.rule.at)
        elif isinstance(self.rule, Delay):
            self._decide_after(now, self.rule, ordered)
        elif ordered is None and self.planned:
            self._deal_with_backlog(now)
        elif ordered is not None and self._keeps_its_rhythm(now):
            pass
        else:
            self._plan(now)

    # -- intervals and calendars --

    def _deal_with_backlog(self, now: datetime) -> None:
        came = self._through(self.pending, min(now, self.ends_at or now))
        if len(came) > 1 and self._due(came[-1]) > now:
            came.pop()
        late = now - self._due(came[0]) > GRACE
        reason = "more than the catch-up limit"
        if late and self.catch_up != "all":
            reason = f"late: catch_up = {self.catch_up}"
        most = {"latest": 1, "skip": 0, "all": LIMIT}[self.catch_up] if late else LIMIT
        first = max(0, len(came) - most)
        running = came[first:][: self._left()]
        self._miss(came[:first], reason, now)
        self._run(running, "catch_up" if late else "schedule", now)
        self._pend_after(came[-1], came[0], len(running))

    def _keeps_its_rhythm(self, now: datetime) -> bool:
        """An order by hand leaves what is pending where it is, unless that changed as well."""
        paused = self.paused_at is not None
        if self.pending is None or (self.pending > now and not paused):
            since = max(now, self.last_run_at or now)
            self._pend_after(since, self.pending or self._phase(since), 0)
            return True
        self.planned = not paused and self._is_occurrence(self.pending)
        return self.planned

    def _plan(self, now: datetime) -> None:
        """New, edited, or on again: the first occurrence since then; the phase is kept."""
        since = max(self.edited_at, self.last_run_at or self.edited_at)
        pending, paused = self.pending, self.paused_at is not None
        if pending is not None and pending <= since and not paused:
            to_come = pending > self.edited_at or self._due(pending) > now
            if to_come and self._is_occurrence(pending):
                self.planned = True
                return
        came = []
        if pending is not None:
            came = self._through(pending, self.paused_at or self.edited_at)
        runs = came[:1]
        if paused or (runs and (now - self._due(pending) > GRACE or not self._is_within(pending))):
            runs = []
        self._run(runs, "schedule", now)
        self._miss(came[len(runs) :], "paused" if paused else "edited", now)
        self._pend_after(since, pending or self._phase(since), len(runs))

    def _through(self, first: datetime, last: datetime) -> list[datetime]:
        """*first* and all occurrences after it, at or before *last*."""
        found: list[datetime] = []
        instant: datetime | None = first
        while instant is not None and instant <= last:
            found.append(instant)
            instant = self.rule.next(instant, first)
        return found

    def _phase(self, otherwise: datetime) -> datetime:
        return self.last_run_at or self.starts_at or otherwise

    def _pend_after(self, after: datetime, phase: datetime, running: int) -> None:
        if self.starts_at is not None:
            after = max(after, self.starts_at - MOMENT)
        found = self.rule.next(after, phase)
        left = self._left()
        if found is None or (self.ends_at and found > self.ends_at) or left in range(running + 1):
            self.pending = None
        else:
            self.pending, self.planned = found, True

    # -- once, and after the run before --

    def _decide_once(self, now: datetime, at: datetime) -> None:
        spent = any(row.scheduled_for == at and row.cause != "manual" for row in self.rows)
        if not spent and self._is_within(at) and self._due(at) > now:
            self.pending, self.planned = at, True
            return
        late = now - self._due(at) > GRACE
        if not spent and self._is_within(at):
            if late and self.catch_up == "skip":
                self._miss([at], "late: catch_up = skip", now)
            else:
                self._run([at], "catch_up" if late else "schedule", now)
        self._end_for_good(now, at)

    def _decide_after(self, now: datetime, rule: Delay, ordered: datetime | None) -> None:
        if self.waits:
            return
        pending, self.planned = self.pending, self.planned and ordered is None
        if not self.planned or pending is None:
            following = self.edited_at
            if self.ended_at is not None:
                following = max(following, self.ended_at + rule.delay)
            self._pend(max(following, self.starts_at or following))
        elif (late := now - self._due(pending) > GRACE) and self.catch_up == "skip":
            self._miss([pending], "late: catch_up = skip", now)
            self.ended_at = now
            self._pend(now + rule.delay)
        else:
            self._run([pending], "catch_up" if late else "schedule", now)
            if self._left() == 1:
                self.pending = None
            else:
                self.waits, self.planned = self.rows[-1], False

    def _pend(self, instant: datetime) -> None:
        over = self._left() == 0 or (self.ends_at is not None and instant > self.ends_at)
        self.pending, self.planned = (None, False) if over else (instant, True)

    # -- what all share --

    def _due(self, occurrence: datetime) -> datetime:
        """Its share of the jitter later: the same for ever, and never at the next occurrence."""
        if not self.jitter:
            return occurrence
        span, following = timedelta(seconds=self.jitter), self.rule.next(occurrence, occurrence)
        if following is not None:
            span = min(span, following - occurrence)
        seed = f"{self.key}/{(occurrence - EPOCH) // MOMENT}".encode()
        share = int.from_bytes(blake2b(seed, digest_size=8).digest(), "big")
        return occurrence + (span // MOMENT * share >> 64) * MOMENT

    def _left(self) -> int | None:
        return None if self.max_runs is None else max(0, self.max_runs - self.total)

    def _is_within(self, occurrence: datetime) -> bool:
        begun = self.starts_at is None or self.starts_at <= occurrence
        return begun and (self.ends_at is None or occurrence <= self.ends_at) and self._left() != 0

    def _is_occurrence(self, instant: datetime) -> bool:
        return self._is_within(instant) and self.rule.next(instant - MOMENT, instant) == instant

    def _run(self, instants: list[datetime], cause: str, now: datetime) -> None:
        self.rows += (Row(instant, cause, "sent", now) for instant in instants)

    def _miss(self, instants: list[datetime], reason: str, now: datetime) -> None:
        if instants:
            first, last = instants[0], instants[-1]
            self.rows.append(Row(first, "schedule", "missed", now, reason, len(instants), last))

    def _end_for_good(self, now: datetime, spent: datetime | None = None) -> None:
        """It turns inactive by itself, which is an edit like any other."""
        self.pending, self.planned, self.waits = spent, False, None
        self.active, self.edited_at, self.paused_at = False, now, now
