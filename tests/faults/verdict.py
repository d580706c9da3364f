"""What a trial has come to: the ledger and the effects, held against what the schedules say."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from population import Planned

UNFINISHED = {"waiting", "claimed", "sent", "running", "retrying"}
UNCOUNTED = {"missed", "skipped"}


@dataclass(frozen=True)
class Effect:
    """A line that a task wrote."""

    what: str
    run: UUID
    name: str
    retries: int
    blind: bool
    at: float
    pid: int


@dataclass(frozen=True)
class Trial:
    """*rows* of ``routine_runs`` and the routines' *counts*, by id, once all had settled.

    *lost*: what schedulers said to be, whatever it ended as later. *since*: when each routine was
    made, by id. *until*: what was due by then was dealt with before everything was switched off.
    """

    planned: Sequence[Planned]
    rows: Sequence[Any]
    counts: Mapping[UUID, int]
    effects: Sequence[Effect]
    lost: set[UUID]
    since: Mapping[UUID, datetime]
    until: datetime


@dataclass(frozen=True)
class Verdict:
    """*wrong*: broken promises. *limits*: what DESIGN, section 11, says cannot be promised."""

    wrong: list[str]
    limits: list[str]
    states: Counter[str]
    reasons: Counter[str]
    effects: int


def judge(trial: Trial) -> Verdict:
    rows = defaultdict(list)
    for row in trial.rows:
        rows[row.routine_id].append(row)
    wrong, limits = [], []
    for routine in trial.planned:
        own = sorted(rows.pop(routine.id, []), key=lambda row: row.scheduled_for)
        wrong += [f"{routine.name}: {fault}" for fault in _faults(routine, own, trial)]
    wrong += [f"{len(own)} runs of an unknown routine {key}" for key, own in rows.items()]
    for fault, told in _runs(trial):
        (limits if told else wrong).append(fault)
    wrong += _together(trial)
    return Verdict(
        wrong,
        limits,
        Counter(row.state for row in trial.rows),
        Counter(
            # However long it took, and whichever worker it was.
            f"{row.state}: {re.sub(r'[0-9]+', 'N', row.reason or '')}"
            for row in trial.rows
            if row.state in ("missed", "skipped", "lost")
        ),
        sum(effect.what == "done" for effect in trial.effects),
    )


def _faults(routine: Planned, own: Sequence[Any], trial: Trial) -> Iterator[str]:
    for row in own:
        if row.state in UNFINISHED:
            yield f"run {row.id} is stuck: {row.state}"
        if row.state in ("missed", "skipped", "lost") and not row.reason:
            yield f"run {row.id} is {row.state} without a reason"
    for row, following in itertools.pairwise(own):
        if (row.until or row.scheduled_for) >= following.scheduled_for:
            yield f"{following.scheduled_for} is in the ledger twice: {row.id}, {following.id}"
    counted = sum(row.state not in UNCOUNTED for row in own)
    if counted != trial.counts[routine.id]:
        yield f"total_run_count is {trial.counts[routine.id]}, runs are {counted}"
    if routine.every is not None:
        # What is put off by jitter may be still to come.
        until = trial.until - timedelta(seconds=routine.columns.get("jitter", 0))
        yield from _gaps(own, timedelta(seconds=routine.every), trial.since[routine.id], until)
    elif "once" in routine.schedule and len(own) != 1:
        yield f"runs once, and is in the ledger {len(own)} times"
    elif "after" in routine.schedule and not own:
        yield "never ran"


def _gaps(own: Sequence[Any], every: timedelta, since: datetime, until: datetime) -> Iterator[str]:
    """From the beginning to the end one occurrence follows the other."""
    at = since
    for row in own:
        if not at < row.scheduled_for <= at + every:
            yield f"nothing tells of what was due between {at} and {row.scheduled_for}"
        last = row.until or row.scheduled_for
        if row.count != 1 + (last - row.scheduled_for) // every:
            yield f"{row.scheduled_for} to {last} is told as {row.count}"
        at = last
    if at + every <= until:
        yield f"nothing tells of what was due between {at} and {until}"


def _runs(trial: Trial) -> Iterator[tuple[str, bool]]:
    """What is wrong with single runs, and whether that is a limit."""
    effects = defaultdict(list)
    for effect in trial.effects:
        effects[effect.run].append(effect)
    for row in trial.rows:
        own = effects.pop(row.id, [])
        done = [effect for effect in own if effect.what == "done"]
        goes = Counter(effect.retries for effect in own if effect.what == "begin")
        blind = any(effect.blind for effect in own)
        told = f"{row.routine_name}: run {row.id}, {row.state}, attempts {row.attempts}"
        if row.task == "again":
            # Each further go is an attempt that the ledger tells of.
            if sum(goes.values()) > max(row.attempts, 1):
                yield f"{told}: begun {sum(goes.values())} times", blind
        elif any(times > 1 for times in goes.values()) or len(done) > 1:
            yield f"{told}: begun {dict(goes)}, done {len(done)} times", blind
        if row.state == "succeeded" and not done and row.task != "failing":
            yield f"{told}: nothing was done", False
        if row.state in ("missed", "skipped") and own:
            yield f"{told}, {row.reason}: has run all the same", blind
    for key, own in effects.items():
        yield f"{own[0].name}: run {key} is not in the ledger, and has run", False


def _together(trial: Trial) -> Iterator[str]:
    """Of routines that overlap not, no two runs are at work at once; a lost one blocks nobody."""
    lost = trial.lost | {row.id for row in trial.rows if row.state == "lost"}
    guarded = {routine.name for routine in trial.planned if "overlap" in routine.columns}
    spans = defaultdict(list)
    for key, own in _by_run(trial.effects):
        at = {effect.what: effect.at for effect in own}
        if own[0].name in guarded and key not in lost and len(at) == 2:
            spans[own[0].name].append((at["begin"], at["done"], key))
    for name, each in spans.items():
        for (_, end, one), (begin, _, other) in itertools.pairwise(sorted(each)):
            if begin < end:
                yield f"{name}: runs {one} and {other} were at work at once"


def _by_run(effects: Iterable[Effect]) -> list[tuple[UUID, list[Effect]]]:
    found = defaultdict(list)
    for effect in effects:
        found[effect.run].append(effect)
    return list(found.items())
