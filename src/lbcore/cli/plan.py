"""`lbcore plan`: what would happen, touching nothing; the gate for a change of pools."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from lbcore.adapters.kubernetes.documents import Ignored, Refused, read_text
from lbcore.cli.options import class_option
from lbcore.cli.show import Column, print_structure, print_table
from lbcore.daemons.planning import Plan, PlannedService, World, plan
from lbcore.daemons.snapshot import list_folder
from lbcore.events import Event

__all__ = ["plan_command"]

_UNREADABLE = 2


@click.command("plan", short_help="What an edit of the cluster would do to addresses.")
@click.argument("states", metavar="STATE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--speakers", metavar="NODE,...", help="Nodes with a living speaker [default: every Node].")
@class_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="table is for people; json and yaml for scripts.",
)
def plan_command(states: tuple[Path, ...], speakers: str | None, load_balancer_class: str | None, output: str) -> None:
    """What would happen to Services' addresses if the cluster looked like STATE.

    A STATE is a folder or file of manifests: the whole cluster at one moment. With several, each
    follows on the one before, and the answer is about the last: `lbcore plan now/ edited/` says what
    an edit would do. A Service's own status.loadBalancer counts as held; a Service that is absent was
    deleted; configuration that is not valid leaves the last valid one in force.

    Exit status: 0 if no address is lost, moved or waited for; 1 if one is; 2 if a STATE cannot be read.
    """
    worlds = []
    for state in states:
        try:
            worlds.append(World.of(_read(state)))
        except OSError as error:
            click.echo(f"lbcore: cannot read {state}: {error.strerror or error}", err=True)
            sys.exit(_UNREADABLE)
    named = [name.strip() for name in speakers.split(",") if name.strip()] if speakers is not None else None
    found = plan(worlds, load_balancer_class=load_balancer_class, speakers=named)
    if output == "table":
        _print(found)
    else:
        print_structure(_structure(found), output)
    sys.exit(0 if found.is_harmless else 1)


def _read(state: Path) -> list[Event]:
    if state.is_dir():
        return asyncio.run(list_folder(state))
    entries = read_text(state.read_text(encoding="utf-8", errors="replace"), state.name)
    return [entry.event if isinstance(entry, Refused) else entry for entry in entries if not isinstance(entry, Ignored)]


def _print(found: Plan) -> None:
    for problem in found.problems:
        click.echo(f"problem: {problem}", err=True)
    columns = [Column("NAMESPACE"), Column("NAME"), Column("CHANGE"), Column("BEFORE"), Column("AFTER")]
    columns += [Column("POOL"), Column("ANNOUNCED BY"), Column("WHY", fold=True)]
    print_table(columns, [_row(service) for service in found.services])


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
    }
