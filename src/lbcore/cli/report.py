"""`lbcore report ingress`: which annotations of which Ingress would hold, before anything is moved."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from lbcore.backends.kubernetes import Access
from lbcore.cli.ingress_options import chosen_options
from lbcore.cli.options import output_option, require_folder, server_options
from lbcore.cli.progress import reading
from lbcore.cli.show import Column, print_structure, print_table
from lbcore.daemons.reporting import IngressReport, StreamReport, Verdict, report, report_streams
from lbcore.daemons.snapshot import list_routing
from lbcore.intents import RecordEvent
from lbcore.routing import RoutingSettings

__all__ = ["report_group"]


@click.group("report", short_help="What would become of Ingresses.")
def report_group() -> None:
    """What would become of objects that another controller serves."""


@report_group.command("ingress", short_help="Which annotations of which Ingress hold, and how.")
@click.argument("folder", metavar="[FOLDER]", required=False, type=click.Path(path_type=Path, file_okay=False))
@server_options
@chosen_options
@output_option
def ingress_command(folder: Path | None, live: Access | None, output: str, **settings: Any) -> None:
    """What would become of each Ingress of a FOLDER of manifests, or of what an API server has.

    \b
    supported   everything holds
    partial     some of it does, or it means something else: how, is said
    ignored     it has no effect; of an Ingress: it is not served
    dangerous   taken, it could harm others, or passed over, let somebody in: it is refused

    With --kubeconfig or --context the API server is asked, and only read (ClusterRole lbcore-viewer;
    --configmap needs the right to read that one, too). Secrets are not read there, so that what they
    lack is not in the report. -o wide names what is supported, too.
    """  # noqa: D301 - \b keeps click from folding the lines
    if (folder is None) is (live is None):
        raise click.UsageError("which Ingresses? Name a FOLDER of manifests or an API server (--kubeconfig PATH)")
    wanted = RoutingSettings(**settings)
    if folder is not None:
        require_folder(folder)
        state, said, unread = asyncio.run(list_routing(folder, wanted))
    else:
        assert live is not None
        access = live
        state, said, unread = reading(lambda tell: list_routing(access, wanted, tell))
    for problem in unread:
        click.echo(f"not in the report: {problem}", err=True)
    for each in said:
        if isinstance(each, RecordEvent) and each.reason == "BadOption":
            click.echo(f"{each.about}: {each.message}", err=True)
    found = report(state, secrets=live is None)
    ports = report_streams(state)
    if output in {"json", "yaml"}:
        print_structure(_structure(found, ports), output)
    else:
        _print(found, wide=output == "wide")
        _print_ports(ports)


def _structure(found: tuple[IngressReport, ...], ports: tuple[StreamReport, ...]) -> dict[str, Any]:
    return {
        "summary": {verdict.value: number for verdict, number in _summary(found).items()},
        "ingresses": [
            {
                "namespace": each.key.namespace,
                "name": each.key.name,
                "verdict": each.verdict.value,
                "problems": list(each.problems),
                "notes": list(each.notes),
                "annotations": [
                    {"name": one.name, "verdict": one.verdict.value, "how": one.how} for one in each.annotations
                ],
            }
            for each in found
        ],
        "ports": [
            {
                "namespace": each.config_map.namespace,
                "configMap": each.config_map.name,
                "field": each.path,
                "verdict": each.verdict.value,
                "how": each.how,
            }
            for each in ports
        ],
    }


def _print_ports(ports: tuple[StreamReport, ...]) -> None:
    if ports:
        click.echo()
        columns = [Column("CONFIGMAP"), Column("FIELD"), Column("VERDICT"), Column("HOW", fold=True)]
        print_table(columns, [[str(each.config_map), each.path, each.verdict.value, each.how] for each in ports])


def _summary(found: tuple[IngressReport, ...]) -> dict[Verdict, int]:
    counted = Counter(each.verdict for each in found)
    return {verdict: counted[verdict] for verdict in Verdict}


def _print(found: tuple[IngressReport, ...], *, wide: bool) -> None:
    columns = [Column("INGRESS"), Column("VERDICT"), *(Column(each.value.upper(), right=True) for each in Verdict)]
    rows = [[str(each.key), each.verdict.value, *(str(each.count(verdict)) for verdict in Verdict)] for each in found]
    print_table(columns, rows)
    details = [row for each in found for row in _details(each, wide=wide)]
    if details:
        click.echo()
        print_table([Column("INGRESS"), Column("VERDICT"), Column("ABOUT"), Column("HOW", fold=True)], details)
    if found:
        summary = ", ".join(f"{number} {verdict.value}" for verdict, number in _summary(found).items())
        click.echo(f"\n{len(found)} {'Ingress' if len(found) == 1 else 'Ingresses'}: {summary}")


def _details(each: IngressReport, *, wide: bool) -> Iterator[list[str]]:
    for one in each.annotations:
        if wide or one.verdict is not Verdict.SUPPORTED:
            yield [str(each.key), one.verdict.value, one.name, one.how]
    verdict = Verdict.IGNORED if each.verdict is Verdict.IGNORED else Verdict.PARTIAL
    for problem in each.problems:
        yield [str(each.key), verdict.value, "-", problem]
    for note in each.notes:
        yield [str(each.key), "-", "-", note]
