"""What a router has been told, and what it has yet to be told: the Adj-RIB-Out of one session (RFC 4271 section 1.1).

Only what differs is kept apart, so that one change among 10,000 routes costs one, and an unchanged
table costs nothing: for each prefix that differs, what the router has of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import islice

from lbcore.adapters.bgp.updates import withdrawals
from lbcore.addresses import Family
from lbcore.routes import Path, Prefix

__all__ = ["Announcer", "Outbox"]

Announcer = Callable[[Family, Path, list[Prefix]], Iterator[bytes]]
"""Makes the UPDATEs that announce prefixes of a family with a path, as this session's peer reads them."""


class Outbox:
    """Wishes come in by `offer` at any time; `take` gives messages while a session is `open`."""

    def __init__(self) -> None:
        self._wanted: dict[Prefix, Path] = {}
        self._told: dict[Prefix, Path | None] = {}  # what the router has, where that is not what is wanted
        self._families: frozenset[Family] | None = None
        self.advertised = 0  # prefixes that the router has

    @property
    def pending(self) -> int:
        """How many prefixes the router has to be told about."""
        return len(self._told)

    def offer(self, prefix: Prefix, path: Path | None) -> bool:
        """Advertise a prefix with a path from now on, or with None no more; whether there is something to tell."""
        before = self._wanted.get(prefix)
        if before == path:
            return False
        if path is not None:
            self._wanted[prefix] = path
        else:
            del self._wanted[prefix]
        if self._families is None or prefix.family not in self._families:
            return False
        if self._told.setdefault(prefix, before) == path:
            del self._told[prefix]  # there and back again before anybody was told
            return False
        return True

    def open(self, families: Collection[Family]) -> None:
        """A session is up, for these families, and its router has nothing yet."""
        self._families = frozenset(families)
        self._told = {prefix: None for prefix in self._wanted if prefix.family in self._families}
        self.advertised = 0

    def close(self) -> None:
        """The session is down; wishes stay."""
        self._families = None
        self._told = {}
        self.advertised = 0

    def again(self, family: Family) -> None:
        """The router wants all of a family once more (RFC 2918)."""
        if self._families is None or family not in self._families:
            return
        for prefix, path in self._wanted.items():
            if prefix.family is family:
                # As if it had another path: it is announced, and counts as one that the router has.
                self._told.setdefault(prefix, path)

    def take(self, most: int, announcer: Announcer) -> list[bytes]:
        """UPDATEs about the prefixes that have waited longest, at most so many; withdrawals come first."""
        gone: dict[Family, list[Prefix]] = {}
        new: dict[tuple[int, Path], list[Prefix]] = {}
        last: tuple[int, Path | None] = (0, None)
        group: list[Prefix] = []
        told, wanted = self._told, self._wanted
        for prefix in list(islice(told, most)):
            had = told.pop(prefix) is not None
            path = wanted.get(prefix)
            self.advertised += (path is not None) - had
            if path is not None:
                # Most have the path of the one before: to hash a path takes as long as all the rest.
                if path is not last[1] or prefix.version != last[0]:
                    last = (prefix.version, path)
                    group = new.setdefault((prefix.version, path), [])
                group.append(prefix)
            elif had:
                gone.setdefault(prefix.family, []).append(prefix)
        messages = [message for family, prefixes in gone.items() for message in withdrawals(prefixes, family)]
        for (_, path), prefixes in new.items():
            messages += announcer(prefixes[0].family, path, prefixes)
        return messages
