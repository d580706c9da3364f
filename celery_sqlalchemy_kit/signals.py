"""What happens to runs and routines, for whoever wants to be told.

    from celery_sqlalchemy_kit.signals import routine_failed

    @routine_failed.connect
    def page_somebody(sender, name, reason, **_):
        ...

The sender is the routine's name. Each signal is sent once, by whichever process finds out first: a
scheduler, and `task_lost` by a worker too, when a process of its pool has died, or when the message
of a dead worker's run comes again. Receivers run there, in the middle of the work, so they have to
return quickly; what one of them raises is logged and stops nobody. A process that is killed between
its COMMIT and the signal sends none: who must not miss any reads ``routines.alert`` and
``routine_runs`` as well.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

#: A run's worker has died, or nobody began the run in time. ``again``: it is sent once more.
task_lost = Signal(
    name="task_lost",
    providing_args={"run_id", "routine_name", "task", "worker", "reason", "again"},
)
#: A routine is later than ``scheduler_overdue_after``; ``since`` is when it was due.
routine_overdue = Signal(
    name="routine_overdue",
    providing_args={"routine_id", "name", "task", "reason", "since"},
)
#: The last run of a routine that ended did so failed, lost or missed, at ``since``.
routine_failed = Signal(
    name="routine_failed",
    providing_args={"routine_id", "name", "task", "reason", "run_id", "since"},
)
#: A routine that was overdue or failed has had a run that succeeded, which ended at ``since``.
routine_recovered = Signal(
    name="routine_recovered",
    providing_args={"routine_id", "name", "task", "run_id", "since"},
)
