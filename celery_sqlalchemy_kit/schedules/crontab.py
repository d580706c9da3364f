"""Crontab fields: minute, hour, day_of_week, day_of_month, month_of_year, in a time zone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timezone as fixed_zone
from datetime import tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import crontab as celery_crontab

from .description import described
from .fields import FIELDS, Fields, Spec, read_fields, read_spec
from .reckoning import Reckoning, reckoning
from .schedule import check_keys, refused
from .wallclock import WallClock, check_zone, zone_in

KEYS = (*FIELDS, "timezone")


@dataclass(frozen=True)
class Crontab(WallClock):
    """Whenever all five fields match the wall clock of its zone.

    Equal to another whose fields mean the same and that names the same zone, however either is
    written. Reckoned for the years 2 to 9998; after: never again.
    """

    fields: Fields
    timezone: str | None
    #: The fields as they were written, in their order.
    written: tuple[tuple[str, Spec], ...] = field(compare=False)
    default_timezone: str = field(default="UTC", compare=False)

    def to_json(self) -> dict[str, Any]:
        return {key: list(spec) if isinstance(spec, tuple) else spec for key, spec in self.written}

    def find_words(self) -> str:
        texts = dict(self.written)
        numbers = _numbers(self.fields)
        cron = (_in_words(texts.get(name, "*"), numbers[name]) for name in _CRON_ORDER)
        return described(" ".join(cron), self.zone, either=False)

    def find_reckoning(self) -> Reckoning:
        return reckoning(self.fields, ZoneInfo(self.zone))


def from_json(value: Mapping[str, Any], timezone: str) -> Crontab:
    """Read ``{"minute": 0, "hour": 9, "timezone": "Europe/Berlin"}``; *timezone* is the default.

    Raises:
        ScheduleError: a key, a field or the zone is not allowed, or nothing ever matches.
    """
    check_keys(value, KEYS)
    named: Any = zone_in(value, timezone)
    specs = {name: read_spec(value, name) for name in value if name in FIELDS}
    fields = read_fields(value, specs)
    written = tuple((key, named if key == "timezone" else specs[key]) for key in value)
    return Crontab(fields, named, written, timezone)


def from_code(value: object, timezone: str) -> Crontab | None:
    """Read a `Crontab` or celery's own `crontab`; None for anything else."""
    if isinstance(value, Crontab):
        check_zone(value.to_json(), value.timezone or timezone)
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
    numbers = _numbers(fields)
    made = celery_crontab(
        **{name: _cron_text(texts.get(name, "*"), numbers[name]) for name in FIELDS}
    )
    made.tz = ZoneInfo(zone)
    return made


def _numbers(fields: Fields) -> dict[str, tuple[int, ...]]:
    return {
        "minute": fields.minute,
        "hour": fields.hour,
        "day_of_week": fields.days.of_week,
        "day_of_month": fields.days.of_month,
        "month_of_year": fields.month_of_year,
    }


def _cron_text(spec: Spec, numbers: tuple[int, ...]) -> str:
    """As it is written, unless with names, lists or blanks: what reads a celery crontab back
    into cron syntax understands numbers and commas, and old versions know no months by name."""
    text = _text(spec)
    return text if set(text) <= set("0123456789*/,-") else ",".join(map(str, numbers))


def _in_words(spec: Spec, numbers: tuple[int, ...]) -> str:
    """As it is written, if a cron string can be written so."""
    text = _text(spec)
    return text if _CRON_TEXT.fullmatch(text) else ",".join(map(str, numbers))


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


def _text(spec: Spec) -> str:
    return ",".join(map(str, spec)) if isinstance(spec, tuple) else str(spec)


_CRON_TEXT = re.compile(r"(?:[0-9*/,-]|\b[a-z]{3}\b)+", re.ASCII | re.IGNORECASE)
_CRON_ORDER = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
