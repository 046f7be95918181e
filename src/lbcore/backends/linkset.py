"""The open interfaces of the reflex process: exactly those that were asked for, as far as they can be had.

Which ones, and what goes over them, is decided elsewhere. What cannot be opened, or breaks, is
tried again once a second: an interface may be renamed, re-created or moved at any moment.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from functools import partial

from lbcore.addresses import Address
from lbcore.backends.base import FrameLink, LinkFault
from lbcore.backends.troubles import Troubles
from lbcore.model import Link

__all__ = ["LinkSet"]

_NEVER = float("inf")
_RETRY = 1.0  # seconds; netlink tells the speaker of most changes sooner


class LinkSet:
    """Interfaces by index. `hear(index, frames)` is called from `selector` with what has arrived.

    `open_link` returns a link, or the fault that keeps it from being one.
    """

    def __init__(
        self,
        open_link: Callable[[Link], FrameLink | LinkFault],
        *,
        selector: selectors.BaseSelector,
        hear: Callable[[int, list[bytes]], None],
        troubles: Troubles,
    ) -> None:
        self._open_link = open_link
        self._selector = selector
        self._hear = hear
        self._troubles = troubles
        self._wanted: dict[int, Link] = {}
        self._open: dict[int, tuple[FrameLink, tuple[int, ...]]] = {}
        self._missing: dict[int, str] = {}  # why a wanted link is not open
        self.retry_at = _NEVER

    def set(self, links: tuple[Link, ...], now: float) -> str | None:
        """Have exactly these open; what is missing and why, or None.

        A link with a new name or MAC is opened anew, and one that came up again joins its groups anew.
        """
        before = self._wanted
        self._wanted = {link.index: link for link in links}
        for index, link in before.items():
            if not _is_same_device(link, self._wanted.get(index)):
                self._close(index)
                self._missing.pop(index, None)
                self._troubles.forget(_unusable(link))
        self.retry(now)
        for index, link in self._wanted.items():
            if index in before and index in self._open and _works(link) and not _works(before[index]):
                self._open[index][0].rejoin()
        missing = [f"{self._wanted[index].name}: {why}" for index, why in sorted(self._missing.items())]
        return "; ".join(missing) or None

    def retry(self, now: float) -> bool:
        """Open what is wanted and not open; whether that was anything."""
        opened = [self._try(link) for index, link in self._wanted.items() if index not in self._open]
        self.retry_at = now + _RETRY if self._missing else _NEVER
        return any(opened)

    def send(self, frame: bytes, index: int) -> bool:
        """Whether the frame went out; ARP and Neighbor Discovery are made to lose some."""
        held = self._open.get(index)
        if held is None:
            return False
        try:
            return held[0].send(frame) is None
        except OSError:
            return False

    def set_groups(self, groups_of: Callable[[int], frozenset[Address]]) -> None:
        """Let every open link be a member of the groups that `groups_of` tells for its index."""
        for index, (link, _) in self._open.items():
            fault = link.set_groups(groups_of(index))
            self._troubles.note(_groupless(self._wanted[index]), None if fault is None else fault.value)

    def close(self) -> None:
        """Close all; nothing is wanted any more."""
        self._wanted = {}
        self._missing = {}
        self.retry_at = _NEVER
        for index in tuple(self._open):
            self._close(index)

    def _try(self, link: Link) -> bool:
        try:
            opened = self._open_link(link)
        except OSError as error:
            self._lack(link, str(error))
            return False
        if isinstance(opened, LinkFault):
            self._lack(link, opened.value)
            return False
        self._missing.pop(link.index, None)
        self._troubles.note(_unusable(link), None)
        self._open[link.index] = (opened, opened.readers)
        for handle in opened.readers:
            self._selector.register(handle, selectors.EVENT_READ, partial(self._readable, link.index, opened))
        return True

    def _lack(self, link: Link, why: str) -> None:
        self._missing[link.index] = why
        self._troubles.note(_unusable(link), why)

    def _close(self, index: int) -> None:
        held = self._open.pop(index, None)
        if held is None:
            return
        link, handles = held
        for handle in handles:
            self._selector.unregister(handle)
        link.close()

    def _readable(self, index: int, link: FrameLink, _events: int) -> None:
        held = self._open.get(index)
        if held is None or held[0] is not link:
            return  # closed earlier in this turn
        try:
            frames = link.receive()
        except OSError:
            frames = LinkFault.GONE
        if not isinstance(frames, LinkFault):
            self._hear(index, frames)
        elif frames is LinkFault.GONE:
            self._close(index)
            self._lack(self._wanted[index], frames.value)
            self.retry_at = 0.0  # at once: if it is really gone, then once a second


def _is_same_device(old: Link, new: Link | None) -> bool:
    return new is not None and (old.mac, old.name) == (new.mac, new.name)


def _works(link: Link) -> bool:
    return link.up and link.carrier


def _unusable(link: Link) -> str:
    return f"interface {link.name} cannot be used"


def _groupless(link: Link) -> str:
    return f"IPv6 on interface {link.name} may not be answered"
