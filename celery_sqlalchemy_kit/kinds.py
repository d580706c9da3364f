"""Which kinds of messages are worth a template: those that come again, and not all at once."""

from __future__ import annotations

from collections.abc import Hashable

#: Kinds that are remembered; beyond that many, all are forgotten.
MOST_KNOWN = 10_000
#: Templates that may be made at once; and for how many messages one more may be, once so many are:
#: to make one takes as long as to send two messages without.
AT_ONCE, MESSAGES_EACH = 1000, 10
#: How often at most a kind is tried of which no template comes.
TRIES = 3


class Kinds:
    """Those of one connection to the broker. Only their hashes are kept."""

    def __init__(self) -> None:
        #: Of each kind that has come, how often it was tried in vain.
        self._failed: dict[int, int] = {}
        #: What may be spent on templates, of which each takes `MESSAGES_EACH`.
        self._left = _MOST_LEFT

    def meet(self, kind: Hashable) -> None:
        """A message of *kind* comes."""
        if hash(kind) not in self._failed:
            if len(self._failed) >= MOST_KNOWN:
                self._failed.clear()
            self._failed[hash(kind)] = 0

    def has_come(self, kind: Hashable) -> bool:
        """Whether one of *kind* came before, and it is not hopeless."""
        return self._failed.get(hash(kind), TRIES) < TRIES

    def take(self, kind: Hashable) -> bool:
        """Whether the message of *kind* that comes now is to become a template."""
        worth = self.has_come(kind) and self._left >= MESSAGES_EACH
        self.meet(kind)
        if worth:
            self._left -= MESSAGES_EACH
        return worth

    def fail(self, kind: Hashable) -> None:
        """It was to, and did not."""
        self._failed[hash(kind)] = self._failed.get(hash(kind), 0) + 1

    def sent(self) -> None:
        """A message of any kind is sent."""
        self._left = min(_MOST_LEFT, self._left + 1)


_MOST_LEFT = AT_ONCE * MESSAGES_EACH
