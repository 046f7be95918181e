"""What a proxy is to do, host by host: sites, their locations, and the upstreams that these name."""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen
from immutables import Map

from lbcore.ingress import Certificate, ObjectKey
from lbcore.proxy.access import ClientCertificates
from lbcore.proxy.options import Options
from lbcore.proxy.passing import Affinity, CanaryRule
from lbcore.proxy.policies import Policies
from lbcore.proxy.words import Balance, Match, Template

__all__ = ["Canary", "Location", "Peer", "RoutingTable", "Site", "Source", "Stream", "Transport", "Upstream"]


@frozen(order=True)
class Peer:
    """Where a request may go: an address or, of an ExternalName Service, a name; and a port."""

    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether `host` is an address and not a name."""
        return ":" in self.host or self.host.replace(".", "").isdigit()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen(kw_only=True)
class Upstream:
    """One Service's port, as one Ingress uses it. `id` is a hash, safe as a name anywhere."""

    id: str
    service: ObjectKey
    port: str
    peers: tuple[Peer, ...] = ()
    external: bool = False
    balance: Balance = Balance.ROUND_ROBIN
    hash_by: Template | None = None
    affinity: Affinity | None = None

    @property
    def is_looked_up(self) -> bool:
        """Whether it leads to a name that has to be looked up, or may: an ExternalName without a peer does."""
        return self.external and not (self.peers and self.peers[0].is_address)

    @property
    def label(self) -> str:
        """As ingress-nginx names it in logs."""
        return f"{self.service.namespace}-{self.service.name}-{self.port}"


@frozen(kw_only=True)
class Canary:
    """Which requests go to another upstream. `cookie` is that by which a client stays where it was sent once."""

    rule: CanaryRule
    upstream: str
    cookie: str | None = None


@frozen(kw_only=True)
class Source:
    """The Ingress that a location comes from, and the Service and port that it names, for logs and metrics."""

    ingress: ObjectKey
    service: str = ""
    port: str = ""


@frozen(kw_only=True)
class Location:
    """What happens to requests whose path matches.

    `upstream` is an `Upstream.id`; None is the default backend. `fallback` answers while `upstream` has no peer.
    `to_https` is what redirects come to for this host.
    """

    path: str
    match: Match
    source: Source
    policies: Policies
    upstream: str | None = None
    fallback: str | None = None
    errors_to: str | None = None
    canary: Canary | None = None
    to_https: bool = False


@frozen(kw_only=True)
class Site:
    """A virtual host: `host` is a name, `*.` and a name (one label more), or empty for all that match no other.

    `certificate` None is the default one. `forbidden` is why all requests are answered 403.
    """

    host: str
    aliases: tuple[str, ...] = ()
    locations: tuple[Location, ...] = ()
    certificate: Certificate | None = None
    client_certificates: ClientCertificates | None = None
    forbidden: str = ""
    www: str | None = None
    app_root: str | None = None
    ciphers: str | None = None
    prefer_server_ciphers: bool | None = None


class Transport(Enum):
    """What comes in at a port: connections or datagrams."""

    TCP = "TCP"
    UDP = "UDP"


@frozen(kw_only=True)
class Stream:
    """A port of the proxy's, and the peers of a Service's port that all that comes there is passed to, whatever it is.

    `takes_proxy`: connections begin with the PROXY protocol; `sends_proxy`: those to peers do.
    """

    port: int
    transport: Transport
    service: ObjectKey
    service_port: str
    peers: tuple[Peer, ...]
    takes_proxy: bool = False
    sends_proxy: bool = False

    @property
    def name(self) -> str:
        """Such as `5432/tcp`: no host is called so."""
        return f"{self.port}/{self.transport.value.lower()}"

    @property
    def label(self) -> str:
        """As ingress-nginx names it in logs."""
        return f"{self.transport.value.lower()}-{self.service.namespace}-{self.service.name}-{self.service_port}"


@frozen(kw_only=True)
class RoutingTable:
    """Everything that a proxy needs, by host and by upstream's id; what did not change is the same object.

    `streams` are sorted, and no two have one name.
    """

    sites: Map[str, Site] = field(factory=Map)
    upstreams: Map[str, Upstream] = field(factory=Map)
    streams: tuple[Stream, ...] = ()
    options: Options = Options()
    default_certificate: Certificate | None = None
    default_upstream: str | None = None
