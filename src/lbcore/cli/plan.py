"""`lbcore plan`: what would happen, touching nothing; the gate for a change of pools."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from lbcore.adapters.kubernetes.documents import Ignored, Refused, Seen, read_text, unusable
from lbcore.backends.kubernetes import Access
from lbcore.backends.manifests import text_of
from lbcore.backends.paths import manifests_in
from lbcore.cli.manifests import Applying
from lbcore.cli.options import class_option, live_options
from lbcore.cli.progress import reading
from lbcore.cli.show import Column, print_structure, print_table
from lbcore.daemons.planning import Plan, PlannedRoute, PlannedService, RouteChange, World, plan
from lbcore.daemons.snapshot import NO_LEASES, list_cluster, list_folder
from lbcore.errors import ManifestError
from lbcore.events import ConfigSeen, Event, NodeSeen
from lbcore.routes import Path as RoutePath

__all__ = ["plan_command"]

_UNREADABLE = 2


@click.command("plan", short_help="What an edit of the cluster would do to addresses.")
@click.argument("states", metavar="[STATE...]", nargs=-1, type=click.Path(path_type=Path))
@live_options
@click.option("--speakers", metavar="NODE,...", help="Nodes with a living speaker [default: every Node].")
@click.option("--drained", metavar="NODE,...", help="Nodes that are drained in the last STATE, too.")
@class_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="table is for people; json and yaml for scripts.",
)
def plan_command(
    states: tuple[Path, ...],
    live: Access | None,
    namespace: str,
    speakers: str | None,
    drained: str | None,
    load_balancer_class: str | None,
    output: str,
) -> None:
    """What would happen to Services' addresses, and to the routes that routers are told, if the cluster looked like
    STATE.

    A STATE is a folder or file of manifests: the whole cluster at one moment. With several, each
    follows on the one before, and the answer is about the last: `lbcore plan now/ edited/` says what
    an edit would do. A Service's own status.loadBalancer counts as held; a Service that is absent was
    deleted; configuration that is not valid leaves the last valid one in force.

    With --kubeconfig or --context (as `kubectl lb plan` without either) the first state is what the
    API server has, and each STATE is applied to it: what `kubectl apply -f STATE` would bring. It is
    only read; what a STATE does not name stays. Speakers are those that live [see --speakers].

    Exit status: 0 if no address is lost, moved or waited for; 1 if one is; 2 if a STATE cannot be read, or
    a document in it is no manifest at all, so that nobody knows what it would have done.
    """
    if not states and live is None:
        raise click.UsageError("what is to be planned? Name a STATE, or an API server (--kubeconfig PATH)")
    named, leaving = _names(speakers), _names(drained)
    try:
        if live is None:
            worlds = [World.of(_read(state)) for state in states]
        else:
            worlds, living = _live_worlds(live, namespace, states)
            named = living if named is None else named
    except OSError as error:
        click.echo(f"lbcore: cannot read {error.filename or states[0]}: {error.strerror or error}", err=True)
        sys.exit(_UNREADABLE)
    worlds[-1] = evolve(worlds[-1], drained=worlds[-1].drained.union(leaving or ()))
    found = plan(worlds, load_balancer_class=load_balancer_class, speakers=named)
    empty = _empty_ones(states, worlds) if live is None else ()
    unknown = _unknown_nodes("--speakers", named if speakers is not None else None, worlds[-1])
    for text in [*empty, *unknown, *_unknown_nodes("--drained", leaving, worlds[-1])]:
        click.echo(f"warning: {text}", err=True)
    if output == "table":
        _print(found)
    else:
        print_structure(_structure(found), output)
    if not all(_is_whole(world) for world in worlds):
        click.echo("lbcore: a document is no manifest at all (see the problems), so this may not be all", err=True)
        sys.exit(_UNREADABLE)
    sys.exit(0 if found.is_harmless else 1)


def _live_worlds(live: Access, namespace: str, states: Sequence[Path]) -> tuple[list[World], list[str] | None]:
    """What an API server has, and that after each state was applied; and the nodes whose speaker lives."""
    cluster = reading(lambda tell: list_cluster(live, tell))
    worlds = [World.of(cluster.events)]
    for state in states:
        found = [entry for _, entry in Applying(live, cluster.listing, namespace).entries_in(state)]
        if not found:
            click.echo(f"warning: {state} holds no objects; is it the right path?", err=True)
        worlds.append(worlds[-1].changed_by(World.of(_events(found))))
    if cluster.members is None:
        click.echo(f"note: {NO_LEASES.format(live.namespace)}", err=True)
    return worlds, None if cluster.members is None else sorted(cluster.members)


def _empty_ones(states: Sequence[Path], worlds: Sequence[World]) -> Iterator[str]:
    for state, world in zip(states, worlds, strict=True):
        if not world.seen and not world.problems:
            yield f"{state} holds no objects, so that every Service counts as deleted there; is it the right path?"


def _names(option: str | None) -> list[str] | None:
    return [name.strip() for name in option.split(",") if name.strip()] if option is not None else None


def _unknown_nodes(option: str, named: Sequence[str] | None, world: World) -> Iterator[str]:
    nodes = sorted(event.node.name for event in world.seen.values() if isinstance(event, NodeSeen))
    unknown = [name for name in named or () if name not in nodes]
    if nodes and unknown:
        yield f"{option}: there is no Node {', '.join(unknown)}; Nodes: {', '.join(nodes[:10])}"


def _is_whole(world: World) -> bool:
    """Whether every document says at least which object it is: a problem of one that does names it."""
    config = [event for event in world.seen.values() if isinstance(event, ConfigSeen)]
    problems = [*world.problems, *(problem for event in config for problem in event.document.problems)]
    return all(" " in problem.object for problem in problems)


def _read(state: Path) -> list[Event]:
    if state.is_dir():
        # A daemon waits for a file that cannot be read yet; whoever asks for a plan wants to know of it.
        for file in manifests_in(state):
            file.open("rb").close()
        return asyncio.run(list_folder(state))
    try:
        entries = read_text(text_of(state, state.name), state.name)
    except ManifestError as error:
        return [unusable(error.problem).event]
    return _events(entries)


def _events(entries: Iterable[Seen | Ignored | Refused]) -> list[Event]:
    return [entry.event if isinstance(entry, Refused) else entry for entry in entries if not isinstance(entry, Ignored)]


def _print(found: Plan) -> None:
    for problem in found.problems:
        click.echo(f"problem: {problem}", err=True)
    columns = [Column("NAMESPACE"), Column("NAME"), Column("CHANGE"), Column("BEFORE"), Column("AFTER")]
    columns += [Column("POOL"), Column("ANNOUNCED BY"), Column("WHY", fold=True)]
    print_table(columns, [_row(service) for service in found.services])
    _print_routes(found.routes)


def _print_routes(routes: Sequence[PlannedRoute]) -> None:
    """The routes that change, and how many stay; nothing where there is no BGP."""
    changed = [each for each in routes if each.change is not RouteChange.STAY]
    if not routes:
        return
    click.echo()
    if changed:
        columns = [Column("ROUTE"), Column("NODE"), Column("PEER"), Column("CHANGE"), Column("BEFORE"), Column("AFTER")]
        print_table(columns, [_route_row(each) for each in changed])
    stay = len(routes) - len(changed)
    click.echo(f"{stay} route{'' if stay == 1 else 's'} {'stays' if stay == 1 else 'stay'} as told before")


def _route_row(route: PlannedRoute) -> list[str]:
    row = [str(route.prefix), route.node, route.peer, route.change.value]
    return [*row, _attributes(route.before), _attributes(route.after)]


def _attributes(path: RoutePath | None) -> str:
    if path is None:
        return "<none>"
    parts = [f"localPref {path.local_pref}"] if path.local_pref else []
    parts += [f"communities {' '.join(map(str, path.communities))}"] if path.communities else []
    return ", ".join(parts) or "plain"


def _row(service: PlannedService) -> list[str]:
    announcers = [*service.l2.values(), *service.bgp.values()]
    nodes = list(dict.fromkeys(node for names in announcers for node in names))
    why = f"{service.reason.value}: {service.message}" if service.reason is not None else ""
    return [
        service.key.namespace,
        service.key.name,
        service.change.value,
        ",".join(str(address) for address in service.before) or "<none>",
        ",".join(str(address) for address in service.addresses) or "<none>",
        service.pool or "<none>",
        ",".join(nodes) or "<none>",
        why,
    ]


def _structure(found: Plan) -> dict[str, Any]:
    return {
        "services": [
            {
                "namespace": service.key.namespace,
                "name": service.key.name,
                "change": service.change.value,
                "addresses": [str(address) for address in service.addresses],
                "pool": service.pool,
                "reason": service.reason.value if service.reason is not None else None,
                "message": service.message,
                "announcers": {
                    str(address): {
                        "l2": list(service.l2.get(address, ())),
                        "bgp": list(service.bgp.get(address, ())),
                    }
                    for address in service.addresses
                },
            }
            for service in found.services
        ],
        "problems": [
            {"source": each.source, "object": each.object, "field": each.field, "message": each.message}
            for each in found.problems
        ],
        **({"routes": [_route_structure(each) for each in found.routes]} if found.routes else {}),
    }


def _route_structure(route: PlannedRoute) -> dict[str, Any]:
    return {
        "prefix": str(route.prefix),
        "node": route.node,
        "peer": route.peer,
        "change": route.change.value,
        "before": _path_structure(route.before),
        "after": _path_structure(route.after),
    }


def _path_structure(path: RoutePath | None) -> dict[str, Any] | None:
    if path is None:
        return None
    return {"localPref": path.local_pref, "communities": [str(each) for each in path.communities]}
