"""Run SQL on the example's database: ``python -m example.sql "SELECT * FROM routines"``."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from celery_sqlalchemy_kit.config import Settings
from example.app import app

#: No cell is shown wider than this.
WIDTH = 50


class Database:
    """Runs statements; each commits by itself."""

    def __init__(self) -> None:
        settings = Settings.load(app.conf, scheduler=True)
        assert settings.scheduler_db_uri is not None
        self.url = settings.scheduler_db_uri
        self._engine = sa.create_engine(self.url, future=True)

    def run(self, statement: str) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Names of columns and rows; neither, for a statement that returns none."""
        with self._engine.begin() as connection:
            # Without it, the `%` of a LIKE would be taken for a parameter.
            plain = connection.execution_options(no_parameters=True)
            result = plain.exec_driver_sql(statement)
            if not result.returns_rows:
                return (), ()
            return tuple(result.keys()), [tuple(row) for row in result]

    def value(self, statement: str) -> Any:
        """The first column of the first row."""
        return self.run(statement)[1][0][0]


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as text, in columns under their names."""
    cells = [[_shown(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    lines = [names, ["─" * width for width in widths], *cells]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        value = json.dumps(value)
    text = "" if value is None else str(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


if __name__ == "__main__":
    names, rows = Database().run(" ".join(sys.argv[1:]))
    print(table(names, rows) if names else "done")
