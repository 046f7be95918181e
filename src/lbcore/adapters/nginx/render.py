"""A routing table -> the whole configuration: one text and the files that it names.

Lean: what holds for all stands once at the http level. What did not change since the last time is not written
anew: a site is written again when it, its upstreams' emptiness or the options are other than they were, and nothing
is where only peers that Lua chooses are other ones.
"""

from __future__ import annotations

from attrs import define, evolve, field, frozen

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.counts import COUNT_SCRIPTS
from lbcore.adapters.nginx.general import Places, files_of, http_level, main_level, said_by_locations
from lbcore.adapters.nginx.location import LocationWriter
from lbcore.adapters.nginx.lua import SCRIPTS
from lbcore.adapters.nginx.names import DYNAMIC, DYNAMIC_GRPC
from lbcore.adapters.nginx.passing import Headers, sent_to_all
from lbcore.adapters.nginx.server import (
    Servers,
    aliases_of,
    certificate,
    certificate_map,
    client_certificates,
    default_location,
    has_own_tls,
    pair,
)  # fmt: skip
from lbcore.adapters.nginx.shared import ESCAPED_URI, Shared, escaped_uri
from lbcore.adapters.nginx.streams import stream_level
from lbcore.adapters.nginx.tree import Condition, Directive, Plain, Value, directive, serialize
from lbcore.adapters.nginx.upstream import write_dynamic, write_upstream
from lbcore.ingress import Certificate
from lbcore.proxy import Options, Protocol, RoutingTable, Site, Upstream, Variable, Verify

__all__ = ["Places", "Rendered", "Renderer"]


@frozen(kw_only=True)
class Rendered:
    """`text` is nginx.conf, `files` lie in the folder by their names, and hold what is secret. `dynamic` are the
    upstreams whose peers do not stand in the text, because Lua chooses them.
    """

    text: str
    files: dict[str, bytes] = field(repr=False)
    dynamic: dict[str, Upstream] = field(factory=dict, repr=False)


@frozen
class _Last:
    """What was written last, and of what."""

    table: RoutingTable
    without: frozenset[str]
    rendered: Rendered


@frozen
class _Piece:
    """What one site came to."""

    site: Site
    aliases: tuple[str, ...]
    default: tuple[str | None, tuple[object, ...]]
    peers: tuple[tuple[str, tuple[object, ...]], ...]
    text: str
    http: dict[str, Directive]
    files: dict[str, bytes] = field(repr=False)


@frozen
class _Block:
    """What one upstream came to."""

    upstream: Upstream
    text: str
    http: dict[str, Directive]


@frozen
class _Uses:
    """Of a site's upstreams: those whose peers have to stand in the text where Lua chooses others', those that are
    reached by TLS, those of canaries, and each canary's with the one that it takes requests from.
    """

    site: Site
    named: frozenset[str]
    sealed: frozenset[str]
    canaries: frozenset[str]
    together: frozenset[frozenset[str]]


@define
class Renderer:
    """Writes configurations, and remembers each site's and each upstream's part."""

    places: Places
    capabilities: Capabilities
    fake: Certificate
    _pieces: dict[str, _Piece] = field(factory=dict)
    _blocks: dict[str, _Block] = field(factory=dict)
    _uses: dict[str, _Uses] = field(factory=dict)
    _static: frozenset[str] | None = None
    _options: Options | None = None
    _headers: Headers = ()
    _says: frozenset[str] = frozenset()
    _last: _Last | None = None

    def render(self, table: RoutingTable, without: frozenset[str] = frozenset()) -> Rendered:
        """The configuration for a table; hosts in `without` answer 503 whatever they ask for, and streams that are
        named there are left out.

        `files` is the same object as before where nothing but peers that Lua chooses has changed.
        """
        rendered = self._with_other_peers(table, without)
        if rendered is None:
            rendered = self._render(table, without)
        self._last = _Last(table, without, rendered)
        return rendered

    def _with_other_peers(self, table: RoutingTable, without: frozenset[str]) -> Rendered | None:
        """What was written last, where no other text comes of the table; None: it may be another."""
        last = self._last
        if last is None or without != last.without or evolve(table, upstreams=last.table.upstreams) != last.table:
            return None
        dynamic = dict(last.rendered.dynamic)
        if len(table.upstreams) != len(last.table.upstreams):
            return None
        for name, upstream in table.upstreams.items():
            known = last.table.upstreams.get(name)
            if known is upstream:
                continue
            if known is None or name not in dynamic or upstream.is_looked_up:
                return None
            if bool(known.peers) != bool(upstream.peers) or evolve(known, peers=upstream.peers) != upstream:
                return None
            dynamic[name] = upstream
        return evolve(last.rendered, dynamic=dynamic)

    def _render(self, table: RoutingTable, without: frozenset[str]) -> Rendered:
        if table.options != self._options:
            self._pieces, self._blocks, self._options = {}, {}, table.options
            self._headers = sent_to_all(table.options, self.places.https_port)
            self._says = said_by_locations(table.options, self.places, self.capabilities)
        http: dict[str, Directive] = {}
        files: dict[str, bytes] = dict(SCRIPTS) if self.capabilities.lua else {}
        if self.capabilities.lua and self.places.metrics:
            files |= COUNT_SCRIPTS
        files |= files_of(table.options)
        self._static = self._named(table) if self.capabilities.lua else None
        blocks, dynamic = self._upstreams(table, http)
        hosts = sorted(table.sites)
        aliases = aliases_of(table)
        servers = Servers(table.options, self.places, self.capabilities)
        for host in list(self._pieces):
            if host not in table.sites:
                del self._pieces[host]
        texts = []
        for host in hosts:
            if host in without:
                texts.append(serialize([servers.write(Site(host=host), [directive("return", 503)])], 1))
                continue
            piece = self._piece(table, servers, host, aliases[host])
            http.update(piece.http)
            files.update(piece.files)
            texts.append(piece.text)
        if "" not in table.sites:
            shared = Shared(folder=self.places.folder)
            texts.append(serialize([servers.catch_all(table, shared)], 1))
            http.update(shared.http)
        texts += [serialize([each], 1) for each in servers.twins(table, aliases)]
        http["lbcore_certificate"], pairs = certificate_map(table, self.fake, without, aliases)
        streams = stream_level(table, self.places, self.capabilities, without)
        main = main_level(table.options, self.places, self.capabilities, streams=bool(streams))
        head = serialize((*main, *streams))
        general = serialize((*http_level(table, self.places, self.capabilities), *pair(self.places.folder)), 1)
        if "" in table.sites and "" not in without and has_own_tls(table.sites[""]):
            general += serialize(certificate(), 1)  # nobody is to have what is meant for that one
        if any(f"${{{ESCAPED_URI}}}" in each for each in (general, *texts)):
            http.update(escaped_uri())
        body = general + serialize((http[name] for name in sorted(http)), 1)
        text = "".join([head, "http {\n", body, *blocks, *texts, "}\n"])
        return Rendered(text=text, files=files | pairs, dynamic=dynamic)

    # Upstreams.

    def _named(self, table: RoutingTable) -> frozenset[str]:
        """The upstreams whose peers stand in the text although Lua chooses those of others."""
        named = {name for name, upstream in table.upstreams.items() if upstream.is_looked_up}
        if table.default_upstream is not None:
            named.add(table.default_upstream)
        uses = self._uses
        self._uses = {}
        for host, site in table.sites.items():
            known = uses.get(host)
            found = self._uses[host] = known if known is not None and known.site is site else _uses(site)
            named |= found.named
        # One variable names a main upstream or its canary, so both are chosen by the same.
        together = {each for uses in self._uses.values() for each in uses.together}
        while more := {name for each in together if each & named for name in each} - named:
            named |= more
        return frozenset(named)

    def _upstreams(self, table: RoutingTable, http: dict[str, Directive]) -> tuple[list[str], dict[str, Upstream]]:
        """The blocks, and the upstreams whose peers are told apart."""
        texts: list[str] = []
        blocks: dict[str, _Block] = {}
        static, dynamic = self._static, {}
        for name, upstream in sorted(table.upstreams.items()):
            if static is not None and name not in static:
                dynamic[name] = upstream
                continue
            block = blocks[name] = self._block(upstream, table.options)
            http.update(block.http)
            texts.append(block.text)
        self._blocks = blocks
        if static is not None:
            folder = self.places.folder
            sealed = sorted({name for uses in self._uses.values() for name in uses.sealed} - static)
            made = [write_dynamic(name, table.options, folder) for name in (DYNAMIC, DYNAMIC_GRPC, *sealed)]
            texts.append(serialize(made, 1))
        return texts, dynamic

    def _block(self, upstream: Upstream, options: Options) -> _Block:
        known = self._blocks.get(upstream.id)
        if known is not None and known.upstream is upstream:
            return known
        shared = Shared(folder=self.places.folder)
        return _Block(upstream, serialize(write_upstream(upstream, options, shared), 1), shared.http)

    # One host.

    def _piece(self, table: RoutingTable, servers: Servers, host: str, aliases: tuple[str, ...]) -> _Piece:
        site = table.sites[host]
        used = _upstreams(site)
        peers = tuple((name, self._shape(host, table.upstreams.get(name))) for name in used)
        known = self._pieces.get(host)
        default = table.default_upstream
        own = (aliases, (default, _shape(table.upstreams.get(default or ""))), peers)
        if known is not None and known.site is site and (known.aliases, known.default, known.peers) == own:
            return known
        shared = Shared(folder=self.places.folder)
        upstreams = {name: table.upstreams[name] for name in used if name in table.upstreams}
        clients = site.client_certificates
        writer = LocationWriter(
            host,
            table.options,
            shared,
            upstreams,
            self._headers,
            self._says,
            clients is not None,
            clients is not None and clients.pass_on,
            clients is not None and clients.verify is Verify.ON,
            self._static,
        )
        body: list[Directive] = []
        if clients is not None:
            body += client_certificates(clients, shared)
        if site.ciphers is not None:
            body.append(directive("ssl_ciphers", Plain(site.ciphers)))
        if site.prefer_server_ciphers is not None:
            body.append(directive("ssl_prefer_server_ciphers", site.prefer_server_ciphers))
        if site.app_root is not None:
            to = Value((Variable("scheme"), "://", Variable("http_host"), site.app_root))
            body.append(directive("if", Condition("lbcore_root"), block=(directive("return", 302, to),)))
        if site.forbidden:
            body.append(directive("return", 403))
        else:
            body += [each for location in site.locations for each in writer.write(location)]
            if not any(location.path == "/" for location in site.locations):
                body.append(default_location(table, shared))
        text = serialize([servers.write(site, body, aliases)], 1)
        piece = _Piece(site, *own, text, shared.http, shared.files)
        self._pieces[host] = piece
        return piece

    def _shape(self, host: str, upstream: Upstream | None) -> tuple[object, ...]:
        """What a location's text depends on: whether there are peers, and the name of one that nginx looks up."""
        if upstream is not None and self._static is not None and upstream.id not in self._static:
            return ("dynamic", upstream.id in self._uses[host].canaries and bool(upstream.peers))
        return _shape(upstream)


def _upstreams(site: Site) -> list[str]:
    names = {
        name
        for location in site.locations
        for name in (
            location.upstream,
            location.fallback,
            location.errors_to,
            location.canary.upstream if location.canary else None,
        )
        if name is not None
    }
    return sorted(names)


def _uses(site: Site) -> _Uses:
    named: set[str | None] = set()
    sealed: set[str | None] = set()
    canaries: set[str | None] = set()
    together: set[frozenset[str]] = set()
    for location in site.locations:
        canary = location.canary.upstream if location.canary is not None else None
        canaries.add(canary)
        if canary is not None and location.upstream is not None:
            together.add(frozenset((location.upstream, canary)))
        named |= {location.fallback, location.errors_to}
        if location.fallback is not None:  # answers in its place while there is no peer: another location
            named |= {location.upstream, canary}
        if location.policies.protocol not in {Protocol.HTTP, Protocol.GRPC}:
            sealed.add(location.upstream)
    none = {None}
    found = frozenset(named - none), frozenset(sealed - none), frozenset(canaries - none)
    return _Uses(site, *found, frozenset(together))  # type: ignore[arg-type]


def _shape(upstream: Upstream | None) -> tuple[object, ...]:
    if upstream is None or not upstream.peers:
        return ()
    return (True, str(upstream.peers[0]) if upstream.is_looked_up else "")
