"""Which ports are open besides those of HTTP, and where do they lead? Two ConfigMaps of the operator's -> `Stream`s.

As in ingress-nginx: a key is a port of ours, its value a Service's port as `namespace/name:port`, and for TCP `:PROXY`
where connections begin with the PROXY protocol, and `:PROXY` once more where those to the endpoints are to. A bad entry
costs its own port, and one without endpoints leaves it closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.events import ConfigMapGone, ConfigMapSeen, Event
from lbcore.ingress import ObjectKey
from lbcore.model import EndpointSlice, Service, ServicePort
from lbcore.proxy import Stream, Transport
from lbcore.upstreams import peers_at

__all__ = [
    "RESERVED",
    "StreamSettings",
    "StreamState",
    "Trouble",
    "Wish",
    "Wishes",
    "build",
    "hear",
    "read_wishes",
    "touch",
]

# Those that ingress-nginx refuses, too, beside its own for HTTP and HTTPS.
RESERVED = frozenset({442, 8181, 10245, 10246, 10247, 10254})
MOST = 500  # ports of a ConfigMap: each has a socket for each address that is listened at
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_VALUE = re.compile(rf"({_LABEL})/({_LABEL}):({_LABEL})(?::(|(?i:PROXY)))?(?::(|(?i:PROXY)))?")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,60}")


@frozen(kw_only=True)
class StreamSettings:
    """The ConfigMaps that are read, and the ports where something else of ours listens."""

    tcp: ObjectKey | None = None
    udp: ObjectKey | None = None
    listening: frozenset[int] = frozenset({80, 443})

    @property
    def maps(self) -> tuple[tuple[Transport, ObjectKey], ...]:
        """Those that are named."""
        named = ((Transport.TCP, self.tcp), (Transport.UDP, self.udp))
        return tuple((transport, key) for transport, key in named if key is not None)


@frozen(kw_only=True)
class Wish:
    """An entry that can be read."""

    port: int
    transport: Transport
    service: ObjectKey
    service_port: str
    takes_proxy: bool = False
    sends_proxy: bool = False


@frozen(order=True)
class Trouble:
    """What is wrong with an entry, or why its port is closed; `path` is where it stands, such as `data.5432`."""

    config_map: ObjectKey
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class Known(Protocol):
    """What is known of Services at this moment."""

    def service(self, key: ObjectKey) -> Service | None:
        """The Service, if it may be used."""
        ...

    def slices(self, key: ObjectKey) -> Iterable[EndpointSlice]:
        """Its slices."""
        ...


@frozen(kw_only=True)
class Wishes:
    """What one ConfigMap holds: the entries that can be read, by port, and what is wrong with it, by path."""

    wishes: tuple[Wish, ...] = ()
    troubles: tuple[Trouble, ...] = ()


@frozen(kw_only=True)
class StreamState:
    """What the ConfigMaps hold, what was made of it, and whether that is to be made anew.

    `troubles` are what is wrong, `waiting` why ports are closed though nothing is.
    """

    settings: StreamSettings = StreamSettings()
    read: Map[Transport, Wishes] = field(factory=Map)
    services: frozenset[ObjectKey] = field(factory=frozenset)
    dirty: bool = False
    streams: tuple[Stream, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    waiting: tuple[Trouble, ...] = ()

    def refused(self, name: str, message: str) -> Trouble | None:
        """What the proxy says of one of the streams, as a trouble of its entry."""
        for transport, key in self.settings.maps:
            for each in self.streams:
                if each.name == name and each.transport is transport:
                    return Trouble(key, _path(str(each.port)), message)
        return None


def read_wishes(key: ObjectKey, data: Mapping[str, str], transport: Transport, listening: frozenset[int]) -> Wishes:
    """The entries of a ConfigMap; what is wrong with one costs no other."""
    found: list[Wish] = []
    troubles: list[Trouble] = []
    for name, text in sorted(data.items()):
        try:
            wish, said = _read(name, text, transport, listening)
            if len(found) == MOST:
                raise ValueError(f"is one more than {MOST} ports; give its Service an address of its own")
        except ValueError as error:
            troubles.append(Trouble(key, _path(name), str(error)))
            continue
        found.append(wish)
        troubles += [Trouble(key, _path(name), said)] if said else []
    found.sort(key=lambda wish: wish.port)
    return Wishes(wishes=tuple(found), troubles=tuple(sorted(troubles)))


def _path(name: str) -> str:
    """The field of an entry: a key that is none in Kubernetes is quoted, and cut."""
    return f"data.{name}" if _KEY.fullmatch(name) else f"data[{name[:60]!r}]"


def _read(name: str, text: str, transport: Transport, listening: frozenset[int]) -> tuple[Wish, str]:
    """An entry, and what of it is left out. Raises `ValueError`."""
    port = int(name) if _PORT.fullmatch(name) else 0
    if not 0 < port < 65536:
        raise ValueError("is no port; write a number from 1 to 65535, without a zero before it")
    if port in listening:
        raise ValueError("is a port at which the controller itself listens; take another one")
    if port in RESERVED:
        raise ValueError("is a port that ingress-nginx keeps for itself, and so do we; take another one")
    match = _VALUE.fullmatch(text.strip())
    if match is None:
        what = "write NAMESPACE/SERVICE:PORT, for TCP perhaps with :PROXY"
        raise ValueError(f"{text[:80]!r} names no Service's port; {what}")
    takes, sends = bool(match[4]), bool(match[5])
    said = ""
    if transport is Transport.UDP and (takes or sends):
        takes, sends, said = False, False, "the PROXY protocol is TCP's, and left out for UDP"
    wish = Wish(
        port=port,
        transport=transport,
        service=ObjectKey(match[1], match[2]),
        service_port=match[3],
        takes_proxy=takes,
        sends_proxy=sends,
    )
    return wish, said


def hear(state: StreamState, event: Event) -> StreamState:
    """One of the ConfigMaps came, changed or went."""
    for transport, key in state.settings.maps:
        match event:
            case ConfigMapSeen(found) if found.key == key:
                state = _put(state, transport, read_wishes(key, found.data, transport, state.settings.listening))
            case ConfigMapGone(gone) if gone == key:
                state = _put(state, transport, Wishes())
            case _:
                pass
    return state


def _put(state: StreamState, transport: Transport, wishes: Wishes) -> StreamState:
    read = state.read.set(transport, wishes)
    services = frozenset(wish.service for each in read.values() for wish in each.wishes)
    return evolve(state, read=read, services=services, dirty=True)


def touch(state: StreamState, service: ObjectKey) -> StreamState:
    """Something about a Service may have changed."""
    return evolve(state, dirty=True) if service in state.services else state


def build(state: StreamState, known: Known, namespace: str = "") -> StreamState:
    """The streams of this moment; with a namespace, only of Services there."""
    streams: list[Stream] = []
    troubles: list[Trouble] = []
    waiting: list[Trouble] = []
    for transport, key in state.settings.maps:
        read = state.read.get(transport, Wishes())
        troubles += read.troubles
        for wish in read.wishes:
            made = _stream(wish, known, namespace)
            path = _path(str(wish.port))
            if isinstance(made, str):
                troubles.append(Trouble(key, path, made))
            elif made.peers:
                streams.append(made)
            else:
                waiting.append(Trouble(key, path, f"is closed: Service {wish.service} has no endpoint that is ready"))
    return evolve(
        state,
        streams=tuple(sorted(streams, key=lambda stream: (stream.port, stream.transport.value))),
        troubles=tuple(sorted(troubles)),
        waiting=tuple(sorted(waiting)),
        dirty=False,
    )


def _stream(wish: Wish, known: Known, namespace: str) -> Stream | str:
    """Where an entry leads, or why nowhere."""
    if namespace and wish.service.namespace != namespace:
        return f"leads to namespace {wish.service.namespace}, and only {namespace} is served"
    service = known.service(wish.service)
    if service is None:
        return f"leads to Service {wish.service}, which is not there or may not be used"
    port = _port_of(service, wish)
    if port is None and service.type != "ExternalName":
        return f"leads to {wish.transport.value} port {wish.service_port}, which Service {wish.service} does not have"
    return Stream(
        port=wish.port,
        transport=wish.transport,
        service=wish.service,
        service_port=wish.service_port,
        peers=peers_at(service, port, wish.service_port, known.slices(wish.service)),
        takes_proxy=wish.takes_proxy,
        sends_proxy=wish.sends_proxy,
    )


def _port_of(service: Service, wish: Wish) -> ServicePort | None:
    """By number, else by name; not by the number that endpoints have."""
    usable = [port for port in service.named_ports if port.protocol == wish.transport.value]
    by_number = [port for port in usable if str(port.number) == wish.service_port]
    by_name = [port for port in usable if port.name == wish.service_port]
    return next(iter(by_number or by_name), None)
