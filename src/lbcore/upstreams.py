"""Where does the traffic of an Ingress's backend go? A Service's port and its slices -> peers.

Facts: an Ingress's ports are found by number, then by targetPort, then by name; only TCP; an endpoint is used while it
is ready or does not say; an ExternalName is a name unless it could be this machine itself.

What an Ingress asks for (`Target`) is apart from what stands there at the moment (`Upstream`): a thousand hosts may
ask for the same, and endpoints come and go more often than anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

from attrs import frozen

from lbcore.addresses import Address
from lbcore.errors import AddressError
from lbcore.ingress import Backend, ObjectKey
from lbcore.model import EndpointSlice, Service, ServicePort
from lbcore.proxy import Affinity, Balance, Options, Peer, Policies, Template, Upstream

__all__ = ["Target", "find_port", "make_target", "peers_at", "peers_of", "served"]

_NAME = re.compile(r"(?=.{1,253}\.?\Z)[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
                   r"(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\.?")  # fmt: skip
_LOOPBACK = re.compile(r"(?:localhost|.*\.localhost)\.?", re.IGNORECASE)


@frozen(kw_only=True)
class Target:
    """One Service's port as one Ingress uses it, whoever its peers are. `id` is that of its `Upstream`.

    `cluster_ip`: the Service's own address is the only peer, where it has one.
    """

    id: str
    service: ObjectKey
    port: str
    cluster_ip: bool = False
    balance: Balance = Balance.ROUND_ROBIN
    hash_by: Template | None = None
    affinity: Affinity | None = None


def make_target(options: Options, namespace: str, backend: Backend, policies: Policies) -> Target:
    """The target of a backend as one Ingress uses it; those that differ in what is sent there are apart."""
    # TLS as well: a connection that is kept open was verified for one name, and shown one certificate.
    parts = (
        namespace, backend.service, backend.port, policies.protocol.value, repr(policies.upstream_tls),
        repr(policies.hash_by), repr(policies.affinity), repr(policies.balance), repr(policies.service_upstream),
    )  # fmt: skip
    return Target(
        id="u" + blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=10).hexdigest(),
        service=ObjectKey(namespace, backend.service),
        port=backend.port,
        cluster_ip=options.service_upstream if policies.service_upstream is None else policies.service_upstream,
        balance=policies.balance or options.balance,
        hash_by=policies.hash_by,
        affinity=policies.affinity,
    )


def served(target: Target, service: Service | None, slices: Iterable[EndpointSlice]) -> Upstream:
    """The target with the peers that it has now; none where there is no such Service."""
    peers = peers_of(service, target.port, slices, cluster_ip=target.cluster_ip) if service is not None else ()
    return Upstream(
        id=target.id,
        service=target.service,
        port=target.port,
        peers=peers,
        external=service is not None and service.type == "ExternalName",
        balance=target.balance,
        hash_by=target.hash_by,
        affinity=target.affinity,
    )


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
    by_target = _number(port.target)
    numbers = [
        each.number if not port.name or port.name == each.name else by_target
        for each in found.ports
        if each.protocol == port.protocol
    ]
    if not found.ports:
        numbers = [by_target]
    return [number for number in numbers if number is not None and 0 < number < 65536]


def _number(text: str) -> int | None:
    """The port that is written as a number; none where it is a name. A folder's manifests hold what no API server
    takes: digits of other scripts, or thousands of them.
    """
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) else None


@lru_cache(maxsize=1 << 16)  # each change of a slice asks for all of its Service's again, and reading one takes 10 us
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
    number = _number(port.target if port is not None else wanted)
    if number is None and port is not None:
        number = port.number
    if number is None or not 0 < number < 65536:
        return ()
    if re.fullmatch(r"[0-9.]+", name) or ":" in name:
        return (Peer(name, number),) if _usable(name) else ()
    if not _NAME.fullmatch(name) or _LOOPBACK.fullmatch(name):
        return ()
    return (Peer(name.rstrip(".").lower(), number),)
