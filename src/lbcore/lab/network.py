"""One Ethernet segment as network namespaces: a switch, nodes `n1` to `nN` and a client.

The only file of the lab that knows pyroute2 (untyped, so it stays in here). Every station has one
cable, `eth0`, to a port of the switch named after it (`port-n1`). Faults are made at the switch, as
one makes them by hand: a cable pulled, or a port that silently passes nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import frozen
from pyroute2 import IPRoute

from lbcore.addresses import Address, AddressRange
from lbcore.lab.errors import LabError, LabUnavailable
from lbcore.lab.namespaces import Namespace
from lbcore.lab.waiting import wait_for

__all__ = ["Cable", "Neighbour", "Network", "Plan", "Station"]

_CLIENT_HOST = 10  # the client is the tenth host of the network, node N the (10 + N)th
_MOST_NODES = 100
_CARRIER_WAIT = 3.0  # seconds; the kernel may gather such news for one second
_BRIDGE, _APART = "bridge", "apart"  # the segment, and where those are that are parted from it
_PORT_FORWARDING = 3  # if_bridge.h: BR_STATE_FORWARDING
_IFA_F_NODAD = 0x02  # if_addr.h: use the address at once
_NUD = {
    1: "INCOMPLETE",
    2: "REACHABLE",
    4: "STALE",
    8: "DELAY",
    16: "PROBE",
    32: "FAILED",
    64: "NOARP",
    128: "PERMANENT",
}

# IPv4's settings are inherited from the machine (net.core.devconf_inherit_init_net), so all that
# matters is set. Without duplicate address detection an address works at once instead of after a second.
_EVERYWHERE = {
    "ipv4/conf/{}/rp_filter": "0",
    "ipv4/conf/{}/arp_ignore": "0",
    "ipv4/conf/{}/arp_announce": "0",
    "ipv4/conf/{}/arp_accept": "0",
    "ipv4/conf/{}/accept_redirects": "0",
    "ipv4/conf/{}/send_redirects": "0",
    "ipv6/conf/{}/disable_ipv6": "0",
    "ipv6/conf/{}/accept_dad": "0",
    "ipv6/conf/{}/accept_ra": "0",
    "ipv6/conf/{}/router_solicitations": "0",
    "ipv6/conf/{}/accept_redirects": "0",
}
_ON_NODES = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/default/forwarding": "1"}
_ON_SWITCH = {"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}  # it only passes frames


class Cable(Enum):
    """How a station is connected to the switch."""

    PLUGGED = "plugged"
    PULLED = "pulled"  # the station sees it: no carrier
    MUTE = "mute"  # nothing passes, but the carrier stays
    APART = "apart"  # plugged into another switch, with all others that are apart


@frozen(kw_only=True)
class Plan:
    """Who has which address: arithmetic only, nothing is made here.

    `networks` are the segment's networks (one of each family at most), `pods` how the nodes' pod
    networks are called, with `{}` for the node's number.
    """

    nodes: int
    networks: tuple[AddressRange, ...]
    pods: tuple[str, ...] = ("10.244.{}.0/24", "fd00:244:{}::/64")

    @classmethod
    def parse(cls, nodes: int, *networks: str | None) -> Plan:
        """A plan for `nodes` nodes on networks written as CIDRs; None leaves a family out.

        Raises `AddressError` for a text that is no CIDR and `LabError` where there is no room.
        """
        ranges = tuple(AddressRange.parse(text) for text in networks if text is not None)
        if not 1 <= nodes <= _MOST_NODES:
            raise LabError(f"a lab has 1 to {_MOST_NODES} nodes, not {nodes}")
        if not ranges or len({each.version for each in ranges}) < len(ranges):
            raise LabError("a lab has one network, or one of each family")
        for each in ranges:
            if each.size & (each.size - 1) or each.size <= 2 * (_CLIENT_HOST + nodes):
                raise LabError(f"network {each} is no CIDR with room for {nodes} nodes; give a wider one")
        return cls(nodes=nodes, networks=ranges)

    def addresses(self, host: int) -> tuple[Address, ...]:
        """The addresses of a host number on the segment: `192.168.20.11`, and `fd00:20::11` that looks like it."""
        return tuple(
            Address(each.version, each.first + (host if each.version == 4 else int(str(host), 16)))
            for each in self.networks
        )

    def lengths(self) -> Mapping[int, int]:
        """The prefix length of the segment's network of each IP version."""
        return {each.version: each.family.bits - each.size.bit_length() + 1 for each in self.networks}

    def pod_networks(self, number: int) -> tuple[AddressRange, ...]:
        """The networks of the pods on node `number`, of the families that the segment has."""
        versions = {each.version for each in self.networks}
        ranges = (AddressRange.parse(text.format(number)) for text in self.pods)
        return tuple(each for each in ranges if each.version in versions)


class Station:
    """A host on the segment: its name, MAC, addresses and namespace.

    Node N has `number` N, the client 0, what stands beside the nodes (a control plane) a number below 0.
    """

    def __init__(self, plan: Plan, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.mac = f"02:00:00:00:00:{number if number > 0 else 0xC1 - number:02x}"
        self.addresses = plan.addresses(_CLIENT_HOST + number)
        self.pod_networks = plan.pod_networks(number) if number > 0 else ()
        self.namespace = Namespace(name)
        self.cable = Cable.PLUGGED
        self.frozen = False

    @property
    def reachable(self) -> bool:
        """Whether the control plane counts on it: it is connected to others, and its programs run.

        Of those that are apart it would hear no more, nor they of what it thinks of their pods; but that it tells by
        a folder that all share, so it goes on as Kubernetes does for its first 50 s.
        """
        return self.cable in {Cable.PLUGGED, Cable.APART} and not self.frozen

    def address(self, version: int = 4) -> Address:
        """Its own address on the segment; raises `LabError` if it has none of that version."""
        for each in self.addresses:
            if each.version == version:
                return each
        raise LabError(f"{self.name} has no IPv{version} address; the lab was made without that family")

    def pod_addresses(self, number: int) -> tuple[Address, ...]:
        """The addresses of its pod `number`: `10.244.1.12`, and `fd00:244:1::12` that looks like it."""
        return tuple(
            Address(each.version, each.first + (number if each.version == 4 else int(str(number), 16)))
            for each in self.pod_networks
        )

    def __repr__(self) -> str:
        return f"<Station {self.name} {self.mac} {' '.join(map(str, self.addresses))} {self.cable.value}>"


@frozen
class Neighbour:
    """One line of a neighbour table: the MAC (empty while unknown) and the state as `ip neigh` prints it."""

    mac: str
    state: str


class Network:
    """The segment itself. `folder`, if given, is removed when the owner of the network is gone.

    `beside` are the names of more hosts, which are neither node nor client but reach the nodes' pods.
    """

    def __init__(self, plan: Plan, folder: Path | None = None, *, beside: Sequence[str] = ()) -> None:
        self.plan = plan
        self.switch = Namespace("switch", folder)
        self.nodes = {f"n{number}": Station(plan, f"n{number}", number) for number in range(1, plan.nodes + 1)}
        self.client = Station(plan, "client", 0)
        self.beside = tuple(Station(plan, name, -number) for number, name in enumerate(beside, start=1))
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    @property
    def stations(self) -> tuple[Station, ...]:
        """The nodes in order, then the client, then what stands beside them."""
        return (*self.nodes.values(), self.client, *self.beside)

    def _build(self) -> None:
        versions = [each.version for each in self.plan.networks]
        for station in self.stations:
            station.namespace.call(_prepare, _ON_NODES if station.number > 0 else {}, versions)
        self.switch.call(_make_switch, self.stations)
        lengths = self.plan.lengths()
        for station in self.stations:
            others = [node for node in self.nodes.values() if node is not station] if station.number else []
            gateway = self.client if station.number > 0 else None
            station.namespace.call(_configure, station, lengths, others, gateway)
        self.switch.call(_await_ports, [_port(station) for station in self.stations])

    def station(self, name: str) -> Station:
        """A node or the client by name; raises `LabError` with the names there are."""
        for station in self.stations:
            if station.name == name:
                return station
        raise LabError(f"there is no {name!r} here, only {', '.join(each.name for each in self.stations)}")

    def cut(self, name: str) -> None:
        """Pull the cable: the station loses carrier, the others merely hear nothing of it."""
        self._set_cable(self.station(name), Cable.PULLED)

    def cut_silently(self, name: str) -> None:
        """Let the switch drop all that comes from and goes to a station, which keeps its carrier."""
        self._set_cable(self.station(name), Cable.MUTE)

    def part(self, *names: str) -> None:
        """Let these stations reach each other and nobody else, as when a cable between two switches breaks."""
        stations = [self.station(name) for name in names]
        for station in stations:
            station.cable = Cable.APART
        self.switch.call(_set_apart, [_port(station) for station in stations])

    def heal(self, name: str) -> None:
        """Plug the cable in again."""
        self._set_cable(self.station(name), Cable.PLUGGED)

    def kill(self, name: str) -> None:
        """Lose power: no cable, and every process of the station is gone at once."""
        station = self.station(name)
        self._set_cable(station, Cable.PULLED)
        station.namespace.signal_all(signal.SIGKILL)
        station.frozen = False
        station.namespace.reap()

    def freeze(self, name: str) -> None:
        """Stop every process of a station where it is (SIGSTOP); its kernel goes on."""
        station = self.station(name)
        station.frozen = True
        station.namespace.signal_all(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let frozen processes go on."""
        station = self.station(name)
        station.namespace.signal_all(signal.SIGCONT)
        station.frozen = False

    def _set_cable(self, station: Station, cable: Cable) -> None:
        if cable is not Cable.PLUGGED:
            station.cable = cable  # first: nobody shall count on it any more
        self.switch.call(_set_port, _port(station), cable)
        if cable is Cable.PLUGGED:
            station.namespace.call(_await_plugged)
        station.cable = cable

    def neighbours(self, name: str = "client") -> dict[Address, Neighbour]:
        """The neighbour table of a station's `eth0`, both families, without multicast."""
        return self.station(name).namespace.call(_neighbours)

    def flush_neighbours(self, name: str = "client") -> None:
        """Empty a station's neighbour table, permanent entries too: as if it had just been switched on."""
        self.station(name).namespace.call(_flush_neighbours)

    def set_neighbour(self, address: Address, mac: str, name: str = "client") -> None:
        """Put an entry into a station's neighbour table by hand (`ip neigh replace`, permanent)."""
        self.station(name).namespace.call(_set_neighbour, address, mac)

    def node_of(self, mac: str) -> str | None:
        """The name of the station with this MAC, or None for a stranger's."""
        return next((station.name for station in self.stations if station.mac == mac.lower()), None)

    def close(self) -> None:
        """End every process of the network and drop its namespaces."""
        spaces = [*(station.namespace for station in self.stations), self.switch]
        for space in spaces:
            space.release()  # all at once, then wait for each
        for space in spaces:
            space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _port(station: Station) -> str:
    return f"port-{station.name}"


# What follows runs inside a namespace (`Namespace.call`).


def _prepare(settings: Mapping[str, str], versions: Sequence[int]) -> None:
    """Kernel settings, before there is an interface that would take the old ones over."""
    for key, value in {**_for_all(_EVERYWHERE), **settings}.items():
        if 6 in versions or not key.startswith("ipv6/"):
            _set(key, value)


def _for_all(settings: Mapping[str, str]) -> dict[str, str]:
    return {key.format(scope): value for scope in ("all", "default") for key, value in settings.items()}


def _set(key: str, value: str) -> None:
    try:
        Path("/proc/sys/net", key).write_text(value, encoding="ascii")
    except FileNotFoundError:
        cure = "boot with IPv6, or make the lab with network6=None" if key.startswith("ipv6/") else "use a newer kernel"
        raise LabUnavailable(f"this kernel has no net/{key}; {cure}") from None


def _index(ip: Any, name: str) -> int:
    return int(ip.link_lookup(ifname=name)[0])


def _make_switch(stations: Iterable[Station]) -> None:
    for key, value in _ON_SWITCH.items():
        if Path("/proc/sys/net/ipv6").exists():
            _set(key, value)
    with IPRoute() as ip:
        _make_bridge(ip, _APART)
        bridge = _make_bridge(ip, _BRIDGE)
        for station in stations:
            peer = {"ifname": "eth0", "address": station.mac, "net_ns_pid": station.namespace.pid}
            ip.link("add", ifname=_port(station), kind="veth", peer=peer)
            ip.link("set", index=_index(ip, _port(station)), master=bridge, state="up")


def _make_bridge(ip: Any, name: str) -> int:
    # No spanning tree, so a port forwards at once. No multicast snooping: there is no querier
    # here, and a switch that snoops without one may lose neighbour solicitations.
    ip.link("add", ifname=name, kind="bridge", br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0)
    index = _index(ip, name)
    ip.link("set", index=index, state="up")
    return index


def _configure(
    station: Station, lengths: Mapping[int, int], others: Iterable[Station], gateway: Station | None
) -> None:
    with IPRoute() as ip:
        ip.link("set", index=_index(ip, "lo"), state="up")
        eth0 = _index(ip, "eth0")
        ip.link("set", index=eth0, state="up")
        _await(ip, eth0, _has_carrier)
        for address in station.addresses:
            _add_address(ip, eth0, address, lengths[address.version])
        for other in others:
            for network in other.pod_networks:
                ip.route("add", dst=str(network), gateway=str(other.address(network.version)))
        # The client stands where a router would: it leads nowhere, but it can be asked whether it is there.
        for address in gateway.addresses if gateway is not None else ():
            ip.route("add", dst="default" if address.version == 4 else "::/0", gateway=str(address))


def _add_address(ip: Any, index: int, address: Address, length: int) -> None:
    # No duplicate address detection on IPv6: it would hold the address back for a second.
    flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
    ip.addr("replace", index=index, address=str(address), prefixlen=length, **flags)


def add_host_addresses(addresses: Iterable[Address]) -> None:
    """Put addresses on `lo` of the namespace this runs in: where a lab's pods live."""
    with IPRoute() as ip:
        lo = _index(ip, "lo")
        for address in addresses:
            _add_address(ip, lo, address, address.family.bits)


def remove_host_addresses(addresses: Iterable[Address]) -> None:
    """Take addresses from `lo` again."""
    with IPRoute() as ip:
        lo = _index(ip, "lo")
        for address in addresses:
            ip.addr("del", index=lo, address=str(address), prefixlen=address.family.bits)


def _set_port(port: str, cable: Cable) -> None:
    with IPRoute() as ip:
        index = _index(ip, port)
        ip.link("set", index=index, state="down" if cable is Cable.PULLED else "up")
        if cable is Cable.PULLED:
            return
        # Out of the bridge, frames of the port reach nobody: the switch's own kernel has no address.
        ip.link("set", index=index, master=0 if cable is Cable.MUTE else _index(ip, _BRIDGE))
        _await(ip, index, _has_carrier if cable is Cable.MUTE else _forwards)


def _set_apart(ports: Sequence[str]) -> None:
    with IPRoute() as ip:
        bridge, indexes = _index(ip, _APART), [_index(ip, port) for port in ports]
        for index in indexes:  # all within a millisecond: nobody is alone in between
            ip.link("set", index=index, state="up", master=bridge)
        for index in indexes:
            _await(ip, index, _forwards)


def _await_ports(ports: Iterable[str]) -> None:
    with IPRoute() as ip:
        for port in ports:
            _await(ip, _index(ip, port), _forwards)


def _await_plugged() -> None:
    with IPRoute() as ip:
        _await(ip, _index(ip, "eth0"), _has_carrier)


def _await(ip: Any, index: int, condition: Callable[[Any], bool]) -> None:
    """Both ends of a cable, and then the bridge, hear of it a moment later: a frame before that is lost."""
    trouble = f"interface {index} did not come up within {_CARRIER_WAIT:g} s"
    wait_for(lambda: condition(ip.get_links(index)[0]), _CARRIER_WAIT, trouble, pause=0.002)


def _has_carrier(link: Any) -> bool:
    return bool(link.get("operstate") == "UP")


def _forwards(link: Any) -> bool:
    data = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")
    return data is not None and bool(data.get("IFLA_BRPORT_STATE") == _PORT_FORWARDING)


def _neighbour_entries(ip: Any) -> Iterator[tuple[Address, Neighbour]]:
    eth0 = _index(ip, "eth0")
    for entry in ip.get_neighbours(ifindex=eth0):
        neighbour = Neighbour(entry.get("lladdr") or "", _NUD.get(entry["state"], "NONE"))
        if neighbour.state != "NOARP":
            yield Address.parse(entry.get("dst")), neighbour


def _neighbours() -> dict[Address, Neighbour]:
    with IPRoute() as ip:
        return dict(sorted(_neighbour_entries(ip), key=lambda pair: pair[0]))


def _flush_neighbours() -> None:
    with IPRoute() as ip:
        eth0 = _index(ip, "eth0")
        for address, _ in list(_neighbour_entries(ip)):
            ip.neigh("del", ifindex=eth0, dst=str(address))


def _set_neighbour(address: Address, mac: str) -> None:
    with IPRoute() as ip:
        eth0 = _index(ip, "eth0")
        ip.neigh("replace", ifindex=eth0, dst=str(address), lladdr=mac, state="permanent")
