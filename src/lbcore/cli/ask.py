"""`lbcore get` and `lbcore explain`: what there is, and why. They read a cluster and write nothing."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from lbcore import announcement, assignment
from lbcore.addresses import Address
from lbcore.announcement import NotAnnounced
from lbcore.assignment import AddressStory, PendingReason, usage_of
from lbcore.backends.statuses import PeerDocument, read_peers
from lbcore.cli.members import get_members, with_sights
from lbcore.cli.options import class_option, output_option, place_options, require_folder
from lbcore.cli.progress import reading
from lbcore.cli.routes import has_routes, print_routes, route_structures
from lbcore.cli.show import Column, age, print_structure, print_table
from lbcore.config import Pool
from lbcore.daemons.assembly import Place
from lbcore.daemons.snapshot import GOSSIP, NO_LEASES, Snapshot, take
from lbcore.duties import Duty, duties
from lbcore.errors import AddressError, LbcoreError
from lbcore.ledger import Ledger
from lbcore.model import Service, ServiceKey
from lbcore.verdicts import NodeVerdict, PoolVerdict, Reason

__all__ = ["explain_command", "get_group"]


@click.group("get", short_help="Services, pools, nodes, members or BGP peers, in the columns of kubectl.")
def get_group() -> None:
    """Show services, pools, nodes, members or BGP peers, in the columns of kubectl."""


get_group.add_command(get_members)


@get_group.command("services")
@place_options(writes=False)
@class_option
@click.option("-n", "--namespace", metavar="NAME", help="Only this namespace [default: all].")
@output_option
def get_services(place: Place, load_balancer_class: str | None, namespace: str | None, output: str) -> None:
    """Services and the addresses they have.

    EXTERNAL-IP is <pending> for a Service of type LoadBalancer that waits: `lbcore explain` says why.
    With -o wide also who announces it: of an API server the nodes that say so, of a folder the nodes
    that are to.
    """
    snapshot = _look(place, load_balancer_class, announcing=output != "table")
    services = [
        service
        for key, service in sorted(snapshot.assignment.services.items())
        if namespace is None or key.namespace == namespace
    ]
    who = snapshot.announcers() if output != "table" else {}
    if output in ("json", "yaml"):
        structures = [_service_structure(snapshot, each, who.get(each.key, ())) for each in services]
        print_structure({"services": structures}, output)
        return
    columns = [Column("NAMESPACE"), Column("NAME"), Column("TYPE"), Column("CLUSTER-IP"), Column("EXTERNAL-IP")]
    columns += [Column("PORT(S)"), Column("AGE")]
    rows = [_service_row(each) for each in services]
    if output == "wide":
        columns += [Column("SELECTOR"), Column("POOL"), Column("ANNOUNCED BY")]
        more = [_more_of_service(snapshot, each, who.get(each.key, ())) for each in services]
        rows = [[*row, *others] for row, others in zip(rows, more, strict=True)]
    print_table(columns, rows)


def _service_row(service: Service) -> list[str]:
    ports = ",".join(f"{port.number}/{port.protocol}" for port in service.ports) or "<none>"
    addresses = ",".join(str(address) for address in service.held)
    waiting = "<pending>" if service.is_load_balancer else "<none>"
    row = [service.key.namespace, service.key.name, service.type, ",".join(service.cluster_ips) or "<none>"]
    return [*row, addresses or waiting, ports, age(service.created, datetime.now(UTC))]


def _more_of_service(snapshot: Snapshot, service: Service, announcers: Sequence[str]) -> list[str]:
    selector = ",".join(f"{name}={value}" for name, value in sorted(service.selector.items()))
    return [each or "<none>" for each in (selector, _pool_of(snapshot, service), ",".join(announcers))]


def _pool_of(snapshot: Snapshot, service: Service) -> str | None:
    catalog = snapshot.assignment.catalog
    owners = [catalog.owner(address) for address in service.held] if catalog is not None else []
    return ",".join(dict.fromkeys(owner.name for owner in owners if owner is not None)) or None


def _service_structure(snapshot: Snapshot, service: Service, announcers: Sequence[str]) -> dict[str, Any]:
    why = assignment.explain(snapshot.assignment, service.key)
    return {
        "namespace": service.key.namespace,
        "name": service.key.name,
        "type": service.type,
        "addresses": [str(address) for address in service.held],
        "pool": _pool_of(snapshot, service),
        "announcedBy": list(announcers),
        "ports": [{"port": port.number, "protocol": port.protocol} for port in service.ports],
        "reason": why.refusal.reason.value if why is not None and why.refusal is not None else None,
        "message": why.refusal.detail if why is not None and why.refusal is not None else None,
    }


@get_group.command("nodes", short_help="Nodes: who has a living speaker, who is drained, what each announces.")
@place_options(writes=False)
@class_option
@output_option
def get_nodes(place: Place, load_balancer_class: str | None, output: str) -> None:
    """Nodes, whether a speaker lives there, whether they are drained, and how many addresses each is to announce."""
    snapshot = _look(place, load_balancer_class)
    nodes = duties(snapshot.announcement)
    if output in ("json", "yaml"):
        print_structure({"nodes": [_node_structure(each) for each in nodes]}, output)
        return
    columns = [Column("NAME"), Column("SPEAKER"), Column("DRAINED"), Column("LAYER2", right=True)]
    columns += [Column("BGP", right=True)]
    words = {True: "yes", False: "no"}
    print_table(
        columns,
        [[each.node, words[each.lives], words[each.drained], str(each.layer2), str(each.bgp)] for each in nodes],
    )


def _node_structure(duty: Duty) -> dict[str, Any]:
    return {
        "name": duty.node,
        "speaker": duty.lives,
        "drained": duty.drained,
        "layer2Addresses": duty.layer2,
        "bgpAddresses": duty.bgp,
    }


@get_group.command("peers", short_help="BGP sessions of every node: state, since when, prefixes, last error.")
@place_options(writes=False)
@output_option
def get_peers(place: Place, output: str) -> None:
    """BGP sessions, as the speakers have told of them in FOLDER/.lbcore/peers.

    ADVERTISED counts the prefixes that the router has from the node; ERROR says what keeps a session down. BFD is
    the state of the BFD session with the router, where a BFDProfile asks for one. Of a speaker that was killed STATE is
    Unknown until another begins on its node, and the rest is what it told last.
    """
    if not isinstance(place, Path):
        raise LbcoreError(f"an API server does not know how sessions are; ask {_SESSIONS}")
    require_folder(place)
    sessions = read_peers(place)
    if output in ("json", "yaml"):
        print_structure({"peers": sessions}, output)
        return
    columns = [Column("NODE"), Column("PEER"), Column("ROUTER"), Column("STATE"), Column("SINCE")]
    columns += [
        Column("BFD"),
        Column("ADVERTISED", right=True),
        Column("RECEIVED", right=True),
        Column("ERROR", fold=True),
    ]
    now = datetime.now(UTC)
    print_table(columns, [_peer_row(each, now) for each in sessions])


_SESSIONS = "each speaker's /metrics (metallb_bgp_session_up), or `kubectl get events` of the BGPPeers"


def _peer_row(session: PeerDocument, now: datetime) -> list[str]:
    row = [session["node"], session["peer"], session["router"], session["state"], age(session["since"], now)]
    return [
        *row,
        session.get("bfd") or "-",
        str(session["prefixesAdvertised"]),
        str(session["prefixesReceived"]),
        session["error"],
    ]


@get_group.command("pools", short_help="Address pools, and how much of each is in use.")
@place_options(writes=False)
@output_option
def get_pools(place: Place, output: str) -> None:
    """Address pools: what they may give out, and how much of it is in use."""
    snapshot = _look(place, None, announcing=False)
    pools = snapshot.assignment.catalog.pools if snapshot.assignment.catalog is not None else ()
    if output in ("json", "yaml"):
        print_structure({"pools": [_pool_structure(snapshot, pool) for pool in pools]}, output)
        return
    columns = [Column("NAME"), Column("AUTO ASSIGN"), Column("AVOID BUGGY IPS"), Column("ADDRESSES")]
    columns += [Column("ASSIGNED", right=True), Column("AVAILABLE", right=True)]
    print_table(columns, [_pool_row(snapshot, pool) for pool in pools])


def _pool_row(snapshot: Snapshot, pool: Pool) -> list[str]:
    usage = usage_of(pool, _in_effect(snapshot))
    return [
        pool.name,
        str(pool.auto_assign).lower(),
        str(pool.avoid_buggy_ips).lower(),
        ",".join(str(each) for each in pool.ranges),
        str(usage.assigned_ipv4 + usage.assigned_ipv6),
        str(usage.available_ipv4 + usage.available_ipv6),
    ]


def _pool_structure(snapshot: Snapshot, pool: Pool) -> dict[str, Any]:
    usage = usage_of(pool, _in_effect(snapshot))
    return {
        "name": pool.name,
        "autoAssign": pool.auto_assign,
        "avoidBuggyIPs": pool.avoid_buggy_ips,
        "addresses": [str(each) for each in pool.ranges],
        "assignedIPv4": usage.assigned_ipv4,
        "assignedIPv6": usage.assigned_ipv6,
        "availableIPv4": usage.available_ipv4,
        "availableIPv6": usage.available_ipv6,
    }


def _in_effect(snapshot: Snapshot) -> Ledger:
    """Who holds what, without what a controller would give to those that wait."""
    services, ledger = snapshot.assignment.services, snapshot.assignment.ledger
    waiting = (key for key, service in services.items() if not service.held and ledger.of(key) is not None)
    return functools.reduce(Ledger.release, waiting, ledger)


@click.command("explain", short_help="Why a Service has its address or waits, who announces it; or who has an address.")
@click.argument("subject", metavar="[NAMESPACE/]NAME|ADDRESS")
@place_options(writes=False)
@class_option
@output_option
def explain_command(subject: str, place: Place, load_balancer_class: str | None, output: str) -> None:
    """Why a Service has its address or waits, and which node announces it and why each other does not.

    The answer is the decision itself: the functions that the controller and the speakers use, asked
    for every pool and every node. NAMESPACE is "default" when left out. For an ADDRESS: who has it,
    who announces it, and what a Service that asked for it would be told. Of an API server it is told,
    too, which nodes say that they announce it.
    """
    snapshot = _look(place, load_balancer_class)
    if not snapshot.speakers_known:
        click.echo(f"note: {GOSSIP if isinstance(place, Path) else NO_LEASES.format(place.namespace)}", err=True)
    try:
        address = Address.parse(subject.removeprefix("[").removesuffix("]"))  # as it stands in a URL, too
    except AddressError as error:
        if not _NAME.fullmatch(subject):
            if "IPv4-mapped" in str(error):
                raise  # it says how else to write that address
            text = f"{subject!r} is neither an address nor a Service's name"
            raise LbcoreError(f"{text}; write 192.0.2.1, 2001:db8::1 or [NAMESPACE/]NAME") from None
        _explain_service(snapshot, ServiceKey.parse(subject), place, output)
    else:
        _explain_address(snapshot, address, output)


def _explain_service(snapshot: Snapshot, key: ServiceKey, place: Place, output: str) -> None:
    why = assignment.explain(snapshot.assignment, key)
    if why is None:
        known = ", ".join(str(each) for each in sorted(snapshot.assignment.services)[:5]) or "none"
        raise LbcoreError(f"there is no Service {key} in {place}; Services: {known}")
    who = with_sights(announcement.explain(snapshot.announcement, key), snapshot.views)
    why = evolve(why, pools=_pools_to_show(why, who))
    held = snapshot.assignment.services[key].held
    if output in ("json", "yaml"):
        routes = {"routes": route_structures(snapshot.announcement, key, place)}
        print_structure(_explanation(why, who, held) | _announced(snapshot, key) | routes, output)
        return
    _print_assignment(why, held, "folder" if isinstance(place, Path) else "cluster")
    _print_announcement(who, "on Layer 2" if has_routes(snapshot.announcement, key) else "")
    print_routes(snapshot.announcement, key, place)
    if not isinstance(place, Path) and held:
        _print_announced(snapshot, key)


def _explain_address(snapshot: Snapshot, address: Address, output: str) -> None:
    story = assignment.explain_address(snapshot.assignment, address)
    if story is None:
        raise LbcoreError("no valid configuration is in force, so nothing can be said of an address; see the problems")
    living = [key for key in story.holders if key in snapshot.announcement.services]  # it may be kept for one deleted
    announced = {key: _nodes_of(announcement.explain(snapshot.announcement, key), address) for key in living}
    if output in ("json", "yaml"):
        print_structure(_address_structure(story, announced), output)
        return
    where = f"in pool {story.pool}" if story.pool is not None else "in no pool"
    holders = ", ".join(str(key) for key in story.holders)
    click.echo(f"{address} is {where}, {f'held by {holders}' if holders else 'held by no Service'}")
    asked = "it would get it" if story.verdict.reason is Reason.OK else story.verdict.detail
    click.echo(f"  A Service that asked for it now: {asked}")
    for key, (nodes, nobody) in announced.items():
        click.echo()
        if nobody is not None:
            click.echo(f"For {key} announced by nobody. {nobody.reason.value}: {nobody.detail}")
            continue
        rows = [[str(key), verdict.node, _verdict(verdict), verdict.detail] for verdict in nodes]
        print_table([Column("SERVICE"), Column("NODE"), Column("VERDICT"), Column("WHY", fold=True)], rows)


def _nodes_of(who: Announcers, address: Address) -> tuple[tuple[NodeVerdict, ...], NotAnnounced | None]:
    """Every node's verdict on one address of a Service, or why there is none."""
    if who is None or isinstance(who, NotAnnounced):
        return (), who
    return next((nodes for each, nodes in who if each == address), ()), None


def _address_structure(
    story: AddressStory, announced: dict[ServiceKey, tuple[tuple[NodeVerdict, ...], NotAnnounced | None]]
) -> dict[str, Any]:
    return {
        "address": str(story.address),
        "pool": story.pool,
        "reason": story.verdict.reason.value,
        "message": story.verdict.detail,
        "services": [
            {
                "namespace": key.namespace,
                "name": key.name,
                "notAnnounced": None if nobody is None else {"reason": nobody.reason.value, "message": nobody.detail},
                "announcers": [
                    {"node": each.node, "reason": each.reason.value, "message": each.detail} for each in nodes
                ],
            }
            for key, (nodes, nobody) in announced.items()
        ],
    }


_LABEL = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAME = re.compile(f"(?:{_LABEL}/)?{_LABEL}")

Announcers = tuple[tuple[Address, tuple[NodeVerdict, ...]], ...] | NotAnnounced | None


def _pools_to_show(why: PendingReason, who: Announcers) -> tuple[PoolVerdict, ...]:
    """What pools say to it: nothing to a Service that asks for no address, and an address in no pool is no pool."""
    if isinstance(who, NotAnnounced) and who.reason is Reason.NOT_LOAD_BALANCER:
        return ()
    return tuple(verdict for verdict in why.pools if verdict.pool)


def _print_announced(snapshot: Snapshot, key: ServiceKey) -> None:
    """What the speakers themselves say."""
    rows = [
        [each.node, each.protocol, ",".join(each.peers or each.interfaces) or "every usable interface"]
        for each in snapshot.announced or ()
        if each.service == key
    ]
    click.echo()
    if rows:
        print_table([Column("SPEAKER"), Column("SAYS IT ANNOUNCES BY"), Column("TO, OR ON", fold=True)], rows)
    else:
        click.echo("No speaker says that it announces it (ServiceL2Status, ServiceBGPStatus).")


def _announced(snapshot: Snapshot, key: ServiceKey) -> dict[str, Any]:
    if snapshot.announced is None:
        return {}
    return {
        "announcedBy": [
            {
                "node": each.node,
                "protocol": each.protocol,
                "interfaces": list(each.interfaces),
                "peers": list(each.peers),
            }
            for each in snapshot.announced
            if each.service == key
        ]
    }


def _print_assignment(why: PendingReason, held: tuple[Address, ...], where: str) -> None:
    click.echo(f"Service {why.key}: {_listed(held) or 'no address'}")
    if why.addresses and set(why.addresses) != set(held):
        click.echo(f"  A controller would give it {_listed(why.addresses)} now; is one running on this {where}?")
    if why.refusal is not None:
        click.echo(f"  {why.refusal.reason.value}: {why.refusal.detail}")
    if why.pools:
        click.echo()
        rows = [[verdict.pool or "<none>", _verdict(verdict), verdict.detail] for verdict in why.pools]
        print_table([Column("POOL"), Column("VERDICT"), Column("WHY", fold=True)], rows)


def _print_announcement(who: Announcers, where: str = "") -> None:
    click.echo()
    if who is None:
        return
    if isinstance(who, NotAnnounced):
        click.echo(f"Announced by nobody{' ' if where else ''}{where}. {who.reason.value}: {who.detail}")
        return
    rows = [
        [str(address), verdict.node, _verdict(verdict), verdict.detail] for address, nodes in who for verdict in nodes
    ]
    print_table([Column("ADDRESS"), Column("NODE"), Column("VERDICT"), Column("WHY", fold=True)], rows)


def _verdict(verdict: NodeVerdict | PoolVerdict) -> str:
    if verdict.reason is not Reason.OK:
        return str(verdict.reason.value)
    return "announces" if isinstance(verdict, NodeVerdict) else "OK"


def _listed(addresses: tuple[Address, ...]) -> str:
    return ", ".join(str(address) for address in addresses)


def _explanation(why: PendingReason, who: Announcers, held: tuple[Address, ...]) -> dict[str, Any]:
    parts = () if who is None or isinstance(who, NotAnnounced) else who
    return {
        "namespace": why.key.namespace,
        "name": why.key.name,
        "addresses": [str(address) for address in held],
        "decided": [str(address) for address in why.addresses],
        "reason": why.refusal.reason.value if why.refusal is not None else None,
        "message": why.refusal.detail if why.refusal is not None else None,
        "pools": [{"pool": each.pool, "reason": each.reason.value, "message": each.detail} for each in why.pools],
        "notAnnounced": {"reason": who.reason.value, "message": who.detail} if isinstance(who, NotAnnounced) else None,
        "announcers": {
            str(address): [{"node": each.node, "reason": each.reason.value, "message": each.detail} for each in nodes]
            for address, nodes in parts
        },
    }


def _look(place: Place, load_balancer_class: str | None, *, announcing: bool = True) -> Snapshot:
    if isinstance(place, Path):
        require_folder(place)
    snapshot = reading(lambda tell: take(place, load_balancer_class, tell, announcing=announcing))
    for refused in snapshot.refused:
        click.echo(f"warning: {refused.problem}", err=True)
    for problem in snapshot.assignment.configuration.problems:
        click.echo(f"configuration refused: {problem}", err=True)
    return snapshot
