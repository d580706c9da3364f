"""Messages as they are written to an AMQP broker: octets, in which a run's own is filled in.

A frame says how long it is: what is filled in has to be as long as what stood there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Frames(NamedTuple):
    """A message in parts; those at `slots` are to be filled in."""

    parts: tuple[bytes, ...]
    slots: tuple[tuple[int, str], ...]

    def filled(self, values: Mapping[str, str]) -> bytes:
        parts = list(self.parts)
        for place, name in self.slots:
            parts[place] = values[name].encode()
        return b"".join(parts)


def taken_apart(octets: bytes, values: Mapping[str, str]) -> Frames:
    """The message in parts, wherever one of *values* stands in it."""
    names = {value.encode(): name for name, value in values.items()}
    parts = re.split(b"(" + b"|".join(map(re.escape, names)) + b")", octets)
    return Frames(tuple(parts), tuple((n, names[parts[n]]) for n in range(1, len(parts), 2)))
