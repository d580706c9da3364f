"""One go at a run, and what of it is to be recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from celery.utils.log import get_logger
from sqlalchemy.exc import DataError

from .book import Book
from .storage import RunLedger
from .storage.values import Begun

#: Age from which what is recorded is recorded with its own time, not the database's present.
LATE_SECONDS = 1.0

logger = get_logger(__name__)


@dataclass
class Attempt:
    """One go at a run, kept on the request, which is the only place where it is remembered."""

    run_id: UUID
    task: str
    worker: str
    retries: int = 0
    id: UUID = field(default_factory=uuid4)
    #: What the database said; None while it could not be reached.
    begun: Begun | None = None
    began: float = field(default_factory=time.monotonic)
    #: What `RunLedger.end` is to be told, and since when.
    ending: dict[str, Any] | None = None
    ended: float = 0.0
    recorded: bool = False

    def __str__(self) -> str:
        return f"{self.task}[{self.run_id}]"

    def end(self, ending: dict[str, Any]) -> None:
        self.ending, self.ended = ending, time.monotonic()

    def record(self, book: Book) -> bool:
        """Write what the database does not know yet; false while it cannot be reached."""
        return book.ask(self._record) is not None

    def _record(self, ledger: RunLedger) -> bool:
        if self.begun is None:
            self.begun = ledger.begin(
                self.run_id,
                self.id,
                retries=self.retries,
                worker=self.worker,
                ago=_seconds_since(self.began),
            )
            if self.begun is not Begun.BEGUN:
                logger.warning(
                    "%s: not recorded as %s: %s",
                    self,
                    self.ending["state"].value if self.ending else "running",
                    "another attempt has begun it, or it is over"
                    if self.begun is Begun.DUPLICATE
                    else "the database has no such run",
                )
        if self.begun is Begun.BEGUN and self.ending is not None and not self.recorded:
            ago = _seconds_since(self.ended)
            try:
                ended = ledger.end(self.run_id, self.id, **self.ending, ago=ago)
            except (DataError, UnicodeError):  # letters that the database does not know
                self.ending = {**self.ending, "error": _ascii(self.ending.get("error"))}
                ended = ledger.end(self.run_id, self.id, **self.ending, ago=ago)
            if not ended:
                logger.warning("%s: ended, but is no longer this attempt's", self)
            self.recorded = True
        return True


def _ascii(text: str | None) -> str | None:
    return None if text is None else text.encode("ascii", "backslashreplace").decode()


def _seconds_since(instant: float) -> float:
    seconds = time.monotonic() - instant
    return seconds if seconds > LATE_SECONDS else 0.0
