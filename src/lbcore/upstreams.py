"""Where does the traffic of an Ingress's backend go? A Service's port and its slices -> peers.

Facts: an Ingress's ports are found by number, then by targetPort, then by name; only TCP; an endpoint is used while it
is ready or does not say; an ExternalName is a name unless it could be this machine itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lbcore.addresses import Address
from lbcore.errors import AddressError
from lbcore.model import EndpointSlice, Service, ServicePort
from lbcore.proxy import Peer

__all__ = ["find_port", "peers_at", "peers_of"]

_NAME = re.compile(r"(?=.{1,253}\.?\Z)[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
                   r"(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\.?")  # fmt: skip
_LOOPBACK = re.compile(r"(?:localhost|.*\.localhost)\.?", re.IGNORECASE)


def find_port(service: Service, wanted: str) -> ServicePort | None:
    """The port of a Service that an Ingress means by a number or a name."""
    for port in service.named_ports:
        if port.protocol == "TCP" and wanted in {str(port.number), port.target, port.name} and wanted:
            return port
    return None


def peers_of(
    service: Service, wanted: str, slices: Iterable[EndpointSlice], *, cluster_ip: bool = False
) -> tuple[Peer, ...]:
    """The peers for a port, sorted; none where nothing answers."""
    port = find_port(service, wanted)
    if cluster_ip and port is not None and service.type != "ExternalName":
        addresses = [text for text in service.cluster_ips if _usable(text)]
        if addresses:
            return (Peer(addresses[0], port.number),)
    return peers_at(service, port, wanted, slices)


def peers_at(
    service: Service, port: ServicePort | None, wanted: str, slices: Iterable[EndpointSlice]
) -> tuple[Peer, ...]:
    """The same for a port that was found, whatever its protocol; `wanted` is what an ExternalName without it counts."""
    if service.type == "ExternalName":
        return _external(service, port, wanted)
    if port is None:
        return ()
    found = {
        Peer(text, number)
        for each in slices
        for number in _numbers(each, port)
        for endpoint in each.endpoints
        if endpoint.ready is not False
        for text in endpoint.addresses
        if _is_address(text)
    }
    return tuple(sorted(found))


def _numbers(found: EndpointSlice, port: ServicePort) -> list[int]:
    if not found.ports:
        return [int(port.target)] if port.target.isdigit() else []
    numbers = []
    for each in found.ports:
        if each.protocol != port.protocol:
            continue
        if not port.name or port.name == each.name:
            numbers.append(each.number)
        elif port.target.isdigit():
            numbers.append(int(port.target))
    return [number for number in numbers if 0 < number < 65536]


def _is_address(text: str) -> bool:
    """Whether an endpoint's text is an address. Loopback is one: the API server refuses it in EndpointSlices, and in a
    folder of manifests on one machine it is where backends are.
    """
    try:
        return any(Address.parse(text).packed)
    except AddressError:
        return False


def _usable(text: str) -> bool:
    """Whether an ExternalName or a cluster IP leads to somebody else, and not to this machine's own ports."""
    try:
        address = Address.parse(text)
    except AddressError:
        return False
    if address.family.version == 4:
        return address.packed[0] not in {0, 127}
    packed = address.packed
    mapped = packed[:12] == bytes(10) + b"\xff\xff"
    return packed[:15] != bytes(15) and not (mapped and packed[12] in {0, 127})


def _external(service: Service, port: ServicePort | None, wanted: str) -> tuple[Peer, ...]:
    name = service.external_name
    number = port.target if port is not None and port.target.isdigit() else str(port.number) if port else wanted
    if not number.isdigit() or not 0 < int(number) < 65536:
        return ()
    if re.fullmatch(r"[0-9.]+", name) or ":" in name:
        return (Peer(name, int(number)),) if _usable(name) else ()
    if not _NAME.fullmatch(name) or _LOOPBACK.fullmatch(name):
        return ()
    return (Peer(name.rstrip(".").lower(), int(number)),)
