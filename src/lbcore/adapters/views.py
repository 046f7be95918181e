"""What a member that gossips sees of all others, for people: who lives, who does not, by whose verdict and since when.

It goes from the reflex process to the speaker, and from there to where it is asked for, as one JSON object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from attrs import evolve, frozen

__all__ = ["Sight", "SightState", "View", "read_view", "view_document", "waiting"]


_LATEST = 253_402_300_800  # seconds from 1970 to the year 10,000, which no date of Python's reaches


class SightState(Enum):
    """How a member looks."""

    ALIVE = "alive"
    WAITS = "waits"  # a member, and no candidate for a while: it was held for dead a short time ago
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"

    @property
    def is_member(self) -> bool:
        """Whether it counts as a member."""
        return self not in (SightState.DEAD, SightState.LEFT)


@frozen(kw_only=True)
class Sight:
    """One member as another sees it. `since` is when that became so, in seconds since 1970; `by` are the nodes whose
    verdict it is, sorted; `release` is what it says of its program (empty: it is not lbcore's).
    """

    name: str
    state: SightState
    since: float
    by: tuple[str, ...] = ()
    release: str = ""


@frozen(kw_only=True)
class View:
    """What `node` sees. `fast`: the detector is in force, else memberlist alone decides; `why` says why that is so.
    `cut_off`: it holds itself for cut off. `sights` are sorted by name.
    """

    node: str
    fast: bool
    why: str
    cut_off: bool = False
    sights: tuple[Sight, ...] = ()

    @property
    def members(self) -> frozenset[str]:
        """The members, as `node` sees it."""
        return frozenset(each.name for each in self.sights if each.state.is_member)

    def shifted(self, seconds: float) -> View:
        """The same by another clock."""
        return evolve(self, sights=tuple(evolve(each, since=each.since + seconds) for each in self.sights))


def waiting(views: Iterable[View], members: frozenset[str]) -> frozenset[str]:
    """The members that wait, as at least half of those see it that have the detector; nobody where all members do."""
    judges = [view for view in views if view.fast]  # where memberlist alone decides, nobody waits
    said = Counter(each.name for view in judges for each in view.sights if each.state is SightState.WAITS)
    found = frozenset(name for name, count in said.items() if name in members and 2 * count >= len(judges))
    return found if found != members else frozenset()


def view_document(view: View) -> dict[str, Any]:
    """Plain data."""
    return {
        "node": view.node,
        "detector": "fast" if view.fast else "memberlist",
        "why": view.why,
        "cutOff": view.cut_off,
        "members": [
            {
                "name": each.name,
                "state": each.state.value,
                "since": round(each.since, 3),
                "by": list(each.by),
                "release": each.release,
            }
            for each in view.sights
        ],
    }


def read_view(document: object) -> View:
    """The view in plain data. Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    if not isinstance(document, Mapping):
        raise TypeError("a view is an object")
    if document["detector"] not in ("fast", "memberlist"):
        raise ValueError(f"there is no detector {document['detector']!r}")
    return View(
        node=_text(document["node"]),
        fast=document["detector"] == "fast",
        why=_text(document["why"]),
        cut_off=document["cutOff"] is True,
        sights=tuple(_sight(each) for each in _items(document["members"])),
    )


def _sight(document: object) -> Sight:
    if not isinstance(document, Mapping):
        raise TypeError("a member is an object")
    since = document["since"]
    if isinstance(since, bool) or not isinstance(since, int | float) or not 0 <= since < _LATEST:
        raise ValueError(f"{since!r} is no time")
    return Sight(
        name=_text(document["name"]),
        state=SightState(document["state"]),
        since=float(since),
        by=tuple(_text(each) for each in _items(document["by"])),
        release=_text(document["release"]),
    )


def _items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value
