"""The text of what is wrong with a run."""

from __future__ import annotations

from ..routines import ERROR_LIMIT


def cut(text: str | None) -> str | None:
    """As much of *text* as is kept; PostgreSQL holds neither NUL nor half a surrogate pair."""
    if text is None:
        return None
    octets = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace")
    return octets[:ERROR_LIMIT].decode("utf-8", "ignore")
