"""Servers: their names, where they listen, which certificate they show, and what answers for hosts that nobody has."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from lbcore.adapters.nginx.blocked import refusal
from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.general import Places
from lbcore.adapters.nginx.names import PAIR, digest
from lbcore.adapters.nginx.shared import Shared
from lbcore.adapters.nginx.targets import Targets
from lbcore.adapters.nginx.tree import Condition, Directive, Entry, Name, Plain, Value, Word, directive, map_of
from lbcore.ingress import Certificate
from lbcore.proxy import ClientCertificates, Options, RoutingTable, Site, Variable

__all__ = [
    "Servers",
    "aliases_of",
    "certificate",
    "certificate_map",
    "client_certificates",
    "default_location",
    "has_own_tls",
    "pair",
]

Aliases = dict[str, tuple[str, ...]]


@frozen
class Servers:
    """Writes server blocks."""

    options: Options
    places: Places
    capabilities: Capabilities

    def write(self, site: Site, body: list[Directive], aliases: tuple[str, ...] = ()) -> Directive:
        """The server of a host with this in it."""
        names: list[Plain | Word] = [_server_name(name) for name in (site.host, *aliases)] if site.host else [Word("_")]
        tls = certificate() if not site.host or has_own_tls(site) else ()
        block = (*tls, *refusal(self.options.blocked), *body)
        return directive("server", block=(*self._listen(bool(not site.host)), directive("server_name", *names), *block))

    def _listen(self, default: bool) -> Iterator[Directive]:
        """Only the default server says how; the others are there, too, by naming the ports."""
        options, places = self.options, self.places
        for address in places.listen:
            prefix = f"{address}:" if address else ""
            proxy = ["proxy_protocol"] if options.proxy_protocol and default else []
            first = ["default_server"] if default else []
            http2 = ["http2"] if options.http2 and not self.capabilities.http2_directive else []
            own = [*first, *proxy]
            for port, words in ((places.http_port, ()), (places.https_port, ("ssl", *http2))):
                v6 = ["ipv6only=on"] if address.startswith("[") and default else []
                yield directive("listen", Plain(f"{prefix}{port}"), *own, *words, *v6)

    def catch_all(self, table: RoutingTable, shared: Shared) -> Directive:
        """The server of all hosts that no other has."""
        reject = [directive("ssl_reject_handshake", "on")] if table.options.reject_handshake else []
        quiet = [] if table.options.log.of_default_backend else [directive("access_log", "off")]
        return self.write(Site(host=""), [*reject, *quiet, default_location(table, shared)])

    def twins(self, table: RoutingTable, aliases: Aliases) -> Iterator[Directive]:
        """The servers that redirect from a host's `www.` twin."""
        taken = {*table.sites, *(name for names in aliases.values() for name in names)}
        for host, site in sorted(table.sites.items()):
            if site.www and site.www not in taken:
                to = Value((Variable("scheme"), "://", host, Variable("lbcore_port_suffix"), Variable("lbcore_uri")))
                yield self.write(Site(host=site.www), [directive("return", table.options.redirect_code, to)])


def has_own_tls(site: Site) -> bool:
    """Whether a host's handshake is not that of the default server."""
    return any(each is not None for each in (site.client_certificates, site.ciphers, site.prefer_server_ciphers))


def certificate() -> Iterator[Directive]:
    """The certificate of whichever name is asked for: for the default server, and for those with TLS of their own.

    A server that says none has the default server's TLS. Each that says one costs nginx an SSL_CTX, as each that
    inherits one would: without Lua three quarters of the time that 1,000 hosts take to be read.
    """
    # Read for each handshake, so that a renewed certificate needs no reload, and a thousand hosts no memory.
    yield directive("ssl_certificate", Value((Variable("lbcore_pair"),)))
    yield directive("ssl_certificate_key", Value((Variable("lbcore_pair"),)))


def pair(folder: str) -> Iterator[Directive]:
    """At the http level: the file of a handshake's certificate and key.

    nginx opens it once for each of the two. The name that the map of certificates gives is that of a link, which is
    turned to another file when the pair is renewed; so the link is followed once, and what the two open is where it led
    to then. Of nginx's variables `$realpath_root` is the one that follows links, and a map remembers what it came to as
    long as the request lasts that stands for the handshake. Nothing is served from that root: it is a file.
    """
    yield directive("root", Value((f"{folder}/", Variable("lbcore_certificate"), PAIR)))
    yield map_of(Value(()), "lbcore_pair", Value((Variable("realpath_root"),)))


def client_certificates(clients: ClientCertificates, shared: Shared) -> Iterator[Directive]:
    """Who may come to a host: those whose certificate an authority signed, and of them those whose name matches."""
    yield directive("ssl_client_certificate", shared.file("ca", clients.authorities))
    yield directive("ssl_verify_client", clients.verify.value)
    yield directive("ssl_verify_depth", clients.depth)
    if clients.revoked:
        yield directive("ssl_crl", shared.file("crl", clients.revoked))
    if clients.error_page:
        yield directive("error_page", 495, 496, "=", Value(clients.error_page))
    if clients.match is not None:
        name = f"lbcore_n{digest(clients.match)}"
        shared.map(name, Variable("ssl_client_s_dn"), Word("1"), (Entry(Plain(f"~{clients.match}"), Word("0")),))
        yield directive("if", Condition(name), block=(directive("return", 403),))


def default_location(table: RoutingTable, shared: Shared) -> Directive:
    """`/` where no Ingress says anything."""
    default = table.default_upstream
    # Set here, too: a variable that is set nowhere, because there is no Ingress, is one that nginx does not know.
    route = directive("set", Name("lbcore_route"), Value(("-",)))
    if default is None:
        return directive("location", Plain("/"), block=(route, directive("return", 404)))
    to = Targets({default: table.upstreams[default]}, None, shared).target(default)
    return directive("location", Plain("/"), block=(route, directive("proxy_pass", Value(("http://", to)))))


def certificate_map(
    table: RoutingTable, fake: Certificate, without: frozenset[str], aliases: Aliases
) -> tuple[Directive, dict[str, bytes]]:
    """The map from a server's name to its certificate, and their files by host: a renewed one takes its place."""
    default = table.default_certificate or fake
    files = {f"default{PAIR}": default.chain + default.key}
    lines: list[Entry] = []
    for host, site in sorted(table.sites.items()):
        if site.certificate is None or host in without:
            continue
        name = f"c{digest(host)}"
        files[f"{name}{PAIR}"] = site.certificate.chain + site.certificate.key
        for each in (host, *aliases[host]):
            key = f"~*^[^.]+{_escaped(each[1:])}$" if each.startswith("*") else f"\\{each}"
            lines.append(Entry(Plain(key), Word(name)))
    return map_of(Value((Variable("ssl_server_name"),)), "lbcore_certificate", Word("default"), lines), files


def aliases_of(table: RoutingTable) -> dict[str, tuple[str, ...]]:
    """Each host's other names but those that are taken: nginx would give them to whichever comes first."""
    taken, found = set(table.sites), {}
    for host, site in sorted(table.sites.items()):
        found[host] = tuple(name for name in dict.fromkeys(site.aliases) if name not in taken) if host else ()
        taken |= set(found[host])
    return found


def _server_name(name: str) -> Plain:
    """A wildcard matches one label: a pattern, for nginx's own would match several."""
    return Plain(f"~^[a-z0-9_-]+{_escaped(name[1:])}$") if name.startswith("*.") else Plain(name)


def _escaped(name: str) -> str:
    return name.replace(".", "\\.")
