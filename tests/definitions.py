"""What a database is made of; scripts that make it; and an Alembic of one's own that writes them."""

from __future__ import annotations

import io

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

ENV = """
import sqlalchemy as sa
from alembic import context

attributes = context.config.attributes
if context.is_offline_mode():
    context.configure(url=attributes["url"], literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = sa.create_engine(attributes["url"], future=True)
    with engine.connect() as connection:
        context.configure(connection=connection, **attributes["options"])
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()
"""


class Environment:
    """Alembic's, with its files in *directory*: one migration, or none yet."""

    def __init__(self, directory, engine, migration=None, **options):
        home = directory / "alembic"
        self._engine = engine
        self._versions = home / "versions"
        self._config = Config(str(directory / "alembic.ini"), stdout=io.StringIO())
        command.init(self._config, str(home))
        (home / "env.py").write_text(ENV)
        if migration is not None:
            (self._versions / "1.py").write_text(migration)
        self._config.set_main_option("script_location", str(home))
        self._config.set_main_option("path_separator", "os")
        self._config.attributes["url"] = engine.url
        self._config.attributes["options"] = {"target_metadata": None, **options}

    def autogenerate(self):
        """The migration that Alembic writes: its file."""
        command.revision(self._config, autogenerate=True, rev_id="1")
        (written,) = self._versions.glob("1_*.py")
        return written

    def upgrade(self):
        command.upgrade(self._config, "head")

    def downgrade(self):
        command.downgrade(self._config, "base")
        # Empty now, and in the way of a script.
        with self._engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE alembic_version")

    def upgrade_script(self):
        """What ``alembic upgrade head --sql`` prints."""
        return self._script(command.upgrade, "head")

    def downgrade_script(self):
        return self._script(command.downgrade, "1:base")

    def _script(self, do, revisions):
        self._config.output_buffer = io.StringIO()
        do(self._config, revisions, sql=True)
        return self._config.output_buffer.getvalue()


def apply(engine, script):
    """Carry out a script as the database's own client would."""
    driver = engine.raw_connection()
    try:
        if engine.dialect.name == "sqlite":
            driver.driver_connection.executescript(script)
        elif engine.dialect.name == "postgresql":
            driver.cursor().execute(script)
        else:
            for statement in _statements(script):
                driver.cursor().execute(statement)
        driver.commit()
    finally:
        driver.close()


def _statements(script):
    """Those that MySQL's client would send, which obeys DELIMITER."""
    end, lines = ";", []
    for line in script.splitlines():
        if line.startswith("DELIMITER "):
            end = line.removeprefix("DELIMITER ")
        elif not line.startswith("--"):
            lines.append(line)
            if line.endswith(end):
                yield "\n".join(lines).removesuffix(end)
                lines = []
    assert not "".join(lines)


_POSTGRESQL = """
    WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = :schema)
    SELECT relname, attname, CAST(CAST(atttypid AS regtype) AS text), CAST(atttypmod AS text),
        CAST(attnotnull AS text), pg_get_expr(adbin, adrelid)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relkind = 'r' AND attnum > 0 AND relnamespace IN (TABLE here)
    UNION SELECT relname, pg_get_indexdef(pg_class.oid), '', '', '', '' FROM pg_class
        WHERE relkind = 'i' AND relnamespace IN (TABLE here)
    UNION SELECT tgname, pg_get_triggerdef(pg_trigger.oid), '', '', '', ''
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE relnamespace IN (TABLE here)
    UNION SELECT proname, pg_get_functiondef(oid), '', '', '', ''
        FROM pg_proc WHERE pronamespace IN (TABLE here)"""
_MYSQL = """
    SELECT table_name, column_name, column_type, collation_name, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = database()
    UNION SELECT table_name, index_name, seq_in_index, column_name, non_unique, ''
        FROM information_schema.statistics WHERE table_schema = database()
    UNION SELECT trigger_name, event_manipulation, event_object_table, action_timing,
        action_statement, '' FROM information_schema.triggers WHERE trigger_schema = database()"""
_SQLITE = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'"


def made(engine, schema="public"):
    """Columns, indexes, triggers and functions, but for Alembic's own table; and the version."""
    everything = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "sqlite": _SQLITE}
    query, here = sa.text(everything[engine.dialect.name]), ""
    if engine.dialect.name == "postgresql":
        query, here = query.bindparams(schema=schema), f'"{schema}".'
    with engine.connect() as connection:
        rows = [
            tuple(" ".join(str(value).split()) for value in row)
            for row in connection.execute(query)
        ]
        found = {row for row in rows if not row[0].startswith("alembic_version")}
        if found:
            versions = connection.execute(sa.text(f"SELECT version FROM {here}routine_schema"))
            found |= {("version", version) for version in versions.scalars()}
    return found
