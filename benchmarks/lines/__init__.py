"""What the kit is measured by, a line each: a module with a ``TITLE`` and ``measure``.

``measure(database, broker, *, scale)`` empties the database, a SQLAlchemy URL, and the broker's
queue named ``benchmark``, runs real beats or workers, and returns figures, each by its name with
its unit. A *scale* of less than 1 is for a quick try: less of it, or less long.
"""
