"""Which node and router can talk, and since when: the book of it for the judge, written at every event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Contact", "Contacts"]


@dataclass
class Contact:
    """A node and a router: `linked` when packets go both ways between machines that run, `joined` when a
    speaker and a BGP daemon run there as well; and since when that is so or not so. `running`: whether the router
    is, and since when.
    """

    node: str
    router: str
    linked: bool = False
    joined: bool = False
    since: float = 0.0
    running: bool = False
    running_since: float = 0.0


@dataclass
class Contacts:
    """All of them. `look` says how two are just now: linked, joined, and whether the router runs; `parted` hears of
    each end.
    """

    now: Callable[[], float]
    look: Callable[[str, str], tuple[bool, bool, bool]]
    parted: Callable[[Contact], None] = lambda contact: None
    pairs: dict[tuple[str, str], Contact] = field(default_factory=dict)

    def add(self, node: str, router: str) -> None:
        """One more pair."""
        self.pairs[node, router] = Contact(node, router)

    def note(self) -> None:
        """Something has happened."""
        now = self.now()
        for (node, router), contact in self.pairs.items():
            linked, joined, running = self.look(node, router)
            if running is not contact.running:
                contact.running, contact.running_since = running, now
            was = contact.linked, contact.joined
            if was != (linked, joined):
                contact.linked, contact.joined, contact.since = linked, joined, now
                if (was[0] and not linked) or (was[1] and not joined):
                    self.parted(contact)
