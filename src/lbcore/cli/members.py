"""`lbcore get members`, and what `explain` adds of members: who lives, who is dead, by whose verdict and since when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from attrs import evolve, frozen

from lbcore.adapters.views import Sight, SightState, View, view_document
from lbcore.announcement import NotAnnounced
from lbcore.backends.asking import ask_members
from lbcore.cli.options import output_option, place_options, require_folder
from lbcore.cli.show import Column, age, print_structure, print_table
from lbcore.daemons.assembly import Place
from lbcore.daemons.snapshot import list_views, living_members
from lbcore.verdicts import NodeVerdict, Reason

__all__ = ["get_members", "with_sights"]


@click.command("members", short_help="Speakers: who lives, who is held for dead, by whose verdict and since when.")
@place_options(writes=False)
@click.option(
    "--ask",
    "asked",
    multiple=True,
    metavar="HOST:PORT",
    help="Ask this speaker itself, at its --metrics-port; may be given several times.",
)
@output_option
def get_members(place: Place, asked: tuple[str, ...], output: str) -> None:
    """Who the speakers are, as those that gossip see each other.

    Of an API server what they write into their Leases, at most a second old; or, with --ask, what speakers say
    themselves. BY names the nodes whose verdict it is. SEEN BY names those that see it so: where they differ, a
    network is parted. Below stands which detector is in force on which node, and why.
    """
    members, views = _look(place, asked)
    if output in ("json", "yaml"):
        names = None if members is None else sorted(members)
        print_structure({"members": names, "views": [view_document(each) for each in views]}, output)
        return
    if not members and not views:
        click.echo(f"note: {_NOBODY.format(place)}", err=True)
    columns = [Column(each) for each in ("NAME", "STATE", "SINCE", "BY", "PROGRAM", "SEEN BY")]
    print_table(columns, [*_rows(views, datetime.now(UTC)), *_by_records(members, views)])
    for line in _detectors(views):
        click.echo(line)


def _look(place: Place, asked: Sequence[str]) -> tuple[frozenset[str] | None, tuple[View, ...]]:
    """The members, and what is seen of them."""
    if asked:
        views = tuple(ask_members(each) for each in asked)
        return frozenset[str]().union(*(each.members for each in views)), views
    if isinstance(place, Path):
        require_folder(place)
        return asyncio.run(living_members(place)), ()
    live = asyncio.run(list_views(place))
    return live.members, live.views


@frozen
class _Seen:
    """What several speakers may say alike."""

    name: str
    state: SightState
    by: tuple[str, ...]
    release: str


def _rows(views: Iterable[View], now: datetime) -> Iterable[list[str]]:
    """One for each thing that is said of a member: those who say the same of it share one."""
    said: dict[_Seen, dict[str, Sight]] = {}
    for view in views:
        for sight in view.sights:
            # Each learns of a verdict from another one; who held it for dead first is one of them.
            by = sight.by if sight.state is SightState.SUSPECT else ()
            said.setdefault(_Seen(sight.name, sight.state, by, sight.release), {})[view.node] = sight
    for seen, by_node in sorted(said.items(), key=lambda each: (each[0].name, each[0].state.value)):
        sights = list(by_node.values())
        since = datetime.fromtimestamp(min(each.since for each in sights), UTC).isoformat()
        judges = sorted({name for each in sights for name in each.by})
        program = seen.release or "another's"
        yield [seen.name, seen.state.value, age(since, now), _listed(judges), program, _listed(by_node)]


def _by_records(members: frozenset[str] | None, views: Sequence[View]) -> Iterable[list[str]]:
    """Members that nobody gossips about: they renew a record, in a folder or in a Lease."""
    seen = frozenset[str]().union(*(each.members for each in views))
    for name in sorted((members or frozenset()) - seen):
        yield [name, "alive", "<unknown>", "-", "lbcore, by records", "-"]


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names)) or "-"


def _detectors(views: Iterable[View]) -> Iterable[str]:
    """Which is in force where."""
    found: dict[tuple[str, str], list[str]] = {}
    for view in views:
        found.setdefault(("fast" if view.fast else "memberlist alone", view.why), []).append(view.node)
        if view.cut_off:
            yield f"{view.node} holds itself for cut off, and announces nothing."
    for (detector, why), nodes in sorted(found.items()):
        yield f"Detector on {', '.join(sorted(nodes))}: {detector} ({why})."


_NOBODY = (
    "no speaker keeps a record or a Lease in {}; one that gossips is asked by --ask HOST:PORT (its --metrics-port)"
)

Announcers = tuple[tuple[Any, tuple[NodeVerdict, ...]], ...] | NotAnnounced | None


def with_sights(who: Announcers, views: Sequence[View]) -> Announcers:
    """The same, with what the others say of a node whose speaker is no member."""
    if not views or who is None or isinstance(who, NotAnnounced):
        return who
    return tuple((address, tuple(_with_sight(each, views) for each in verdicts)) for address, verdicts in who)


def _with_sight(verdict: NodeVerdict, views: Sequence[View]) -> NodeVerdict:
    if verdict.reason is not Reason.NOT_A_MEMBER:
        return verdict
    sights = [
        each
        for view in views
        for each in view.sights
        if each.name == verdict.node and view.node != verdict.node and not each.state.is_member
    ]
    if not sights:
        return verdict
    first = min(sights, key=lambda each: each.since)
    since = datetime.fromtimestamp(first.since, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    judges = sorted({name for each in sights for name in each.by})
    by = f", by the verdict of {', '.join(judges)}" if judges else ""
    return evolve(verdict, detail=f"its speaker is {first.state.value} since {since}{by}; look after that node")
