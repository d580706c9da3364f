"""Crontab fields: minute, hour, day_of_week, day_of_month, month_of_year, in a time zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from datetime import timezone as fixed_zone
from functools import cached_property, lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import crontab as celery_crontab

from ..clock import as_utc
from .fields import FIELDS, Fields, Spec, read_fields, read_spec
from .reckoning import Reckoning, reckoning
from .schedule import quoted, refused, shown
from .zones import zone_named

KEYS = (*FIELDS, "timezone")


@dataclass(frozen=True)
class Crontab:
    """Whenever all five fields match the wall clock of its zone.

    Equal to another that matches the same times and names the same zone, however either is
    written. The default zone, in force where none is named, is the application's: no part of
    the value, of its JSON or of equality. Reckoned for the years 2 to 9998; after: never again.
    """

    fields: Fields
    #: The zone that the schedule names itself; None: the default.
    timezone: str | None
    #: The fields as they were written, in their order.
    written: tuple[tuple[str, Spec], ...] = field(compare=False)
    default_timezone: str = field(default="UTC", compare=False)

    @property
    def zone(self) -> str:
        """The name of the zone in force."""
        return self.default_timezone if self.timezone is None else self.timezone

    def next_after(self, instant: datetime, *, anchor: datetime | None = None) -> datetime | None:
        return self._reckoning.next_after(as_utc(instant))

    def latest(
        self, until: datetime, *, after: datetime, anchor: datetime | None = None
    ) -> datetime | None:
        return self._reckoning.latest(as_utc(until), as_utc(after))

    def count(self, *, after: datetime, until: datetime, anchor: datetime | None = None) -> int:
        return self._reckoning.count(as_utc(after), as_utc(until))

    def to_json(self) -> dict[str, Any]:
        return {key: list(spec) if isinstance(spec, tuple) else spec for key, spec in self.written}

    def words(self) -> str:
        """Such as ``minute 0, hour 9 (Europe/Berlin)``; the zone only if it is named."""
        written = dict(self.written)
        texts = [f"{name} {_text(written[name])}" for name in FIELDS if name in written]
        zone = "" if self.timezone is None else f" ({self.timezone})"
        return ", ".join(texts) + zone

    @cached_property
    def _reckoning(self) -> Reckoning:
        return reckoning(self.fields, ZoneInfo(self.zone))


def from_json(value: Mapping[str, Any], timezone: str) -> Crontab:
    """Read ``{"minute": 0, "hour": 9, "timezone": "Europe/Berlin"}``; *timezone* is the default.

    Raises:
        ScheduleError: a key, a field or the zone is not allowed, or nothing ever matches.
    """
    for key in value:
        if key not in KEYS:
            raise refused(value, f"unknown key {quoted(key)}; allowed are {', '.join(KEYS)}")
    named: Any = value.get("timezone")
    _check_zone(value, named if "timezone" in value else timezone)
    specs = {name: read_spec(value, name) for name in value if name in FIELDS}
    fields = read_fields(value, specs)
    written = tuple((key, named if key == "timezone" else specs[key]) for key in value)
    return Crontab(fields, named, written, timezone)


def from_code(value: object, timezone: str) -> Crontab | None:
    """Read a `Crontab` or celery's own `crontab`; None for anything else."""
    if isinstance(value, Crontab):
        _check_zone(value.to_json(), value.timezone or timezone)
        return replace(value, default_timezone=timezone)
    if type(value) is celery_crontab:
        return _from_celery(value, timezone)
    return None


def to_celery(crontab: Crontab) -> celery_crontab:
    """Celery's own `crontab` with the same fields, its ``tz`` the zone in force."""
    return _celery_crontab(crontab.fields, crontab.written, crontab.zone)


@lru_cache(maxsize=1024)
def _celery_crontab(
    fields: Fields, written: tuple[tuple[str, Spec], ...], zone: str
) -> celery_crontab:
    texts = dict(written)
    made = celery_crontab(
        **{name: _celery_text(texts.get(name, "*"), getattr(fields, name)) for name in FIELDS}
    )
    made.tz = ZoneInfo(zone)
    return made


def _celery_text(spec: Spec, numbers: tuple[int, ...]) -> str:
    """As it is written, unless with names, lists or blanks: what reads a celery crontab back
    into cron syntax understands numbers and commas, and old versions know no months by name."""
    text = _text(spec)
    return text if set(text) <= set("0123456789*/,-") else ",".join(map(str, numbers))


def _from_celery(value: Any, timezone: str) -> Crontab:
    if value.nowfun is not None:
        # A common way to give celery's crontab a zone; dropped in silence it would move the runs.
        raise refused(value, 'nowfun cannot be kept; use a dict with "timezone"')
    fields = {name: _celery_spec(value, name) for name in FIELDS}
    stated = {name: spec for name, spec in fields.items() if spec != "*"} or {"minute": "*"}
    named = _celery_zone(value)
    # Celery keeps the app's zone in the same place once anybody has asked for it.
    if named is not None and named != timezone:
        stated["timezone"] = named
    return from_json(stated, timezone)


def _celery_spec(value: Any, name: str) -> Any:
    spec = getattr(value, f"_orig_{name}")
    if isinstance(spec, (int, str, list)):
        return spec
    # A set, a tuple, a range, or an iterator that is spent by now: what it came to.
    return sorted(getattr(value, name))


def _celery_zone(value: Any) -> str | None:
    """The name of the zone that was set on a celery crontab, or that it took from its app."""
    zone: tzinfo | str | None = vars(value).get("tz")
    if zone is None or isinstance(zone, str):
        return zone
    if zone is fixed_zone.utc:
        return "UTC"
    # zoneinfo calls it key, pytz zone; a mere offset has no name.
    name: str | None = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return name


def _check_zone(value: Mapping[str, Any], name: object) -> None:
    if not isinstance(name, str) or zone_named(name) is None:
        raise refused(value, f"unknown time zone {shown(name)}; a name such as Europe/Berlin")


def _text(spec: Spec) -> str:
    return ",".join(map(str, spec)) if isinstance(spec, tuple) else str(spec)
