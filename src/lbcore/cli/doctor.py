"""`lbcore doctor`: what in a cluster keeps load balancing from working, and the cure."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import click
from attrs import asdict

from lbcore.adapters.kubernetes.documents import Decoded, read
from lbcore.addresses import Address, AddressRange
from lbcore.backends.kubernetes.access import Access
from lbcore.backends.kubernetes.client import Client
from lbcore.backends.netlink import local_networks
from lbcore.backends.probing import answering, probe_ports
from lbcore.cli.options import class_option, place_options
from lbcore.cli.show import print_structure
from lbcore.config import Config, InvalidConfig, build
from lbcore.daemons.assembly import Place
from lbcore.daemons.diagnosis import Facts, Finding, Level, diagnose
from lbcore.errors import AddressError, LbcoreError, ManifestError
from lbcore.events import ConfigSeen

__all__ = ["doctor_command"]

_FOUND = 1
_GOSSIP = 7946
_MOST_PROBED = 256  # addresses of each pool

_WISHES = (
    ("v1beta1", "ipaddresspools"),
    ("v1beta1", "l2advertisements"),
    ("v1beta1", "bgpadvertisements"),
    ("v1beta2", "bgppeers"),
    ("v1beta1", "bfdprofiles"),
    ("v1beta1", "communities"),
)


@click.command("doctor", short_help="What keeps load balancing from working, and the cure.")
@place_options(writes=False)
@class_option
@click.option(
    "--probe",
    "interface",
    metavar="INTERFACE",
    help="Ask on this interface by ARP and NDP who has the pools' free addresses, the first 256 of each (root only).",
)
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print it."
)
def doctor_command(place: Place, load_balancer_class: str | None, interface: str | None, output: str) -> None:
    """What in a cluster keeps load balancing from working, and the cure.

    Looks at kube-proxy, the nodes' labels and addresses, the pools, other load balancers and CNIs that speak BGP, and
    tries port 7946 of each node from here. Only reads. Where it may not read something, it says so and goes on.

    Exit status: 0 if nothing is wrong, 1 if something is.
    """
    if not isinstance(place, Access):
        raise click.UsageError("doctor looks at a cluster: give --kubeconfig, or use `lbcore check` for a folder")
    facts = asyncio.run(_facts(place, load_balancer_class, interface))
    findings = diagnose(facts)
    if output == "json":
        print_structure({"findings": [asdict(each) | {"level": each.level.value} for each in findings]}, output)
    else:
        _print(findings)
    sys.exit(_FOUND if any(each.level is not Level.NOTE for each in findings) else 0)


def _print(findings: Iterable[Finding]) -> None:
    found = list(findings)
    for each in found:
        click.echo(f"{each.level.value}: {each.about} {each.message}\n  cure: {each.cure}")
    if not found:
        click.echo("nothing found")


async def _facts(access: Access, load_balancer_class: str | None, interface: str | None) -> Facts:
    client = Client(access, agent="lbcore-doctor")
    try:
        await client.sign_in()
        return await _ask(client, access.namespace, load_balancer_class, interface)
    finally:
        await client.close()


async def _ask(client: Client, namespace: str, load_balancer_class: str | None, interface: str | None) -> Facts:
    wishes = [(f"metallb.io/{version}", plural) for version, plural in _WISHES]
    listed = [await _list(client, f"/apis/{version}/namespaces/{namespace}/{plural}") for version, plural in wishes]
    documents = [
        {"apiVersion": version, "kind": kind, **each}
        for (version, _), (kind, items) in zip(wishes, listed, strict=True)
        for each in items
    ]
    nodes = (await _list(client, "/api/v1/nodes"))[1]
    services = (await _list(client, "/api/v1/services"))[1]
    config = _config(documents)
    targets = [(name, address, _GOSSIP) for name, address in _addresses_of(nodes)]
    heard = await asyncio.to_thread(answering, interface, _free(config, services)) if interface is not None else {}
    return Facts(
        config=config,
        nodes=tuple(nodes),
        config_maps=tuple((await _list(client, "/api/v1/namespaces/kube-system/configmaps"))[1]),
        daemon_sets=tuple((await _list(client, "/apis/apps/v1/daemonsets"))[1]),
        deployments=tuple((await _list(client, "/apis/apps/v1/deployments"))[1]),
        ports=await probe_ports(targets),
        answering=heard,
        networks=_networks(nodes, await asyncio.to_thread(local_networks)),
        load_balancer_class=load_balancer_class,
    )


async def _list(client: Client, path: str) -> tuple[str, list[Mapping[str, Any]]]:
    """The kind and the objects of a list; nothing, and a line about it, where it cannot be read."""
    answer = await client.request("GET", path)
    if answer.status == 0 and answer.setback is not None:
        raise LbcoreError(f"the API server does not answer: {answer.setback.message}")
    if answer.setback is not None and answer.status != 404:
        click.echo(f"lbcore: cannot read {path}: {answer.setback.message}; what it would tell is left out", err=True)
    document = answer.document()
    items = document.get("items")
    kind = str(document.get("kind") or "").removesuffix("List")
    return kind, [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []


def _config(documents: Iterable[dict[str, Any]]) -> Config:
    seen: list[Decoded] = []
    for each in documents:
        try:
            seen.append(read(each, "the API server"))
        except ManifestError:
            continue
    built = build(each.document for each in seen if isinstance(each, ConfigSeen))
    if isinstance(built, InvalidConfig):
        for problem in built.problems:
            click.echo(f"lbcore: {problem}", err=True)
        return Config()
    return built


def _addresses_of(nodes: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, Address]]:
    for node in nodes:
        for each in node.get("status", {}).get("addresses", []):
            if each.get("type") == "InternalIP":
                try:
                    yield node["metadata"]["name"], Address.parse(each["address"])
                except AddressError:
                    continue
                break


def _networks(nodes: Iterable[Mapping[str, Any]], networks: Iterable[AddressRange]) -> tuple[AddressRange, ...]:
    """The subnets of this machine that a node is in: for whoever runs it there."""
    inside = {address for _, address in _addresses_of(nodes)}
    return tuple(each for each in networks if any(address in each for address in inside))


def _free(config: Config, services: Iterable[Mapping[str, Any]]) -> list[Address]:
    """The first addresses of each pool that no Service shows."""
    shown = {
        str(each.get("ip"))
        for service in services
        for each in service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    }
    found = []
    for pool in config.pools:
        every = (Address(part.version, value) for part in pool.ranges for value in range(part.first, part.last + 1))
        found += [address for address in islice(every, _MOST_PROBED) if str(address) not in shown]
    return found
