"""A routing table -> the whole configuration: one text and the files that it names.

Lean: what holds for all stands once at the http level. What did not change since the last time is not written
anew: a site is written again when it, its upstreams' emptiness or the options are other than they were.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field, frozen

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.location import HEADERS, LocationWriter, Shared, tuning
from lbcore.adapters.nginx.lua import CONTROL, SCRIPTS
from lbcore.adapters.nginx.names import DYNAMIC, DYNAMIC_GRPC, digest
from lbcore.adapters.nginx.tree import Condition, Directive, Entry, Name, Plain, Value, Word, directive, serialize
from lbcore.adapters.nginx.upstream import is_static, write_dynamic, write_upstream
from lbcore.ingress import Certificate
from lbcore.proxy import Balance, Options, Protocol, RoutingTable, Site, Upstream, Variable

__all__ = ["Places", "Rendered", "Renderer"]


@frozen(kw_only=True)
class Places:
    """Where nginx listens and keeps its things. `listen` are addresses (`""`: all of IPv4, `[::]`: of IPv6)."""

    folder: str
    http_port: int = 80
    https_port: int = 443
    listen: tuple[str, ...] = ("", "[::]")
    user: str = ""
    resolvers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    error_log: str = "stderr"
    access_log: str = "/dev/stdout"
    most_files: int = 0  # that a process may have open; 0: not known


@frozen(kw_only=True)
class Rendered:
    """`text` is nginx.conf, `files` lie in the folder by their names, and hold what is secret. `dynamic` are the
    upstreams whose peers do not stand in the text, because Lua chooses them.
    """

    text: str
    files: dict[str, bytes] = field(repr=False)
    dynamic: dict[str, Upstream] = field(factory=dict, repr=False)


@frozen
class _Piece:
    """What one site came to."""

    site: Site
    aliases: tuple[str, ...]
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
    reached by TLS, and those of canaries.
    """

    site: Site
    named: frozenset[str]
    sealed: frozenset[str]
    canaries: frozenset[str]


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

    def render(self, table: RoutingTable, without: frozenset[str] = frozenset()) -> Rendered:
        """The configuration for a table; hosts in `without` answer 503 whatever they ask for."""
        if table.options != self._options:
            self._pieces, self._blocks, self._options = {}, {}, table.options
        http: dict[str, Directive] = {}
        files: dict[str, bytes] = dict(SCRIPTS) if self.capabilities.lua else {}
        self._static = self._named(table) if self.capabilities.lua else None
        blocks, dynamic = self._upstreams(table, http)
        hosts = sorted(table.sites)
        aliases = _aliases(table)
        for host in list(self._pieces):
            if host not in table.sites:
                del self._pieces[host]
        texts = []
        for host in hosts:
            if host in without:
                texts.append(serialize([self._server(Site(host=host), [directive("return", 503)])], 1))
                continue
            piece = self._piece(table, host, aliases[host])
            http.update(piece.http)
            files.update(piece.files)
            texts.append(piece.text)
        if "" not in table.sites:
            texts.append(serialize([self._catch_all(table)], 1))
        self._twins(table, texts, aliases)
        self._certificates(table, http, files, without, aliases)
        head = serialize([*self._main(table.options)])
        body = serialize([*self._http(table), *(http[name] for name in sorted(http))], 1)
        text = "".join([head, "http {\n", body, *blocks, *texts, "}\n"])
        return Rendered(text=text, files=files, dynamic=dynamic)

    # Upstreams.

    def _named(self, table: RoutingTable) -> frozenset[str]:
        """The upstreams whose peers stand in the text although Lua chooses those of others."""
        named = {name for name, upstream in table.upstreams.items() if is_static(upstream)}
        if table.default_upstream is not None:
            named.add(table.default_upstream)
        uses = self._uses
        self._uses = {}
        for host, site in table.sites.items():
            known = uses.get(host)
            found = self._uses[host] = known if known is not None and known.site is site else _uses(site)
            named |= found.named
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
        writer = LocationWriter("", options, shared, {})
        return _Block(upstream, serialize(write_upstream(upstream, options, writer), 1), shared.http)

    # One host.

    def _piece(self, table: RoutingTable, host: str, aliases: tuple[str, ...]) -> _Piece:
        site = table.sites[host]
        used = _upstreams(site)
        peers = tuple((name, self._shape(host, table.upstreams.get(name))) for name in used)
        known = self._pieces.get(host)
        if known is not None and known.site is site and (known.aliases, known.peers) == (aliases, peers):
            return known
        shared = Shared(folder=self.places.folder)
        upstreams = {name: table.upstreams[name] for name in used if name in table.upstreams}
        clients = site.client_certificates
        writer = LocationWriter(
            host,
            table.options,
            shared,
            upstreams,
            clients is not None,
            clients is not None and clients.pass_on,
            self._static,
        )
        body: list[Directive] = []
        if clients is not None:
            body += [
                directive("ssl_client_certificate", shared.file("ca", clients.authorities)),
                directive("ssl_verify_client", clients.verify.value),
                directive("ssl_verify_depth", clients.depth),
            ]
            if clients.revoked:
                body.append(directive("ssl_crl", shared.file("crl", clients.revoked)))
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
                body.append(self._default(table))
        text = serialize([self._server(site, body, aliases)], 1)
        piece = _Piece(site, aliases, peers, text, shared.http, shared.files)
        self._pieces[host] = piece
        return piece

    def _shape(self, host: str, upstream: Upstream | None) -> tuple[object, ...]:
        """What a location's text depends on: whether there are peers, and the name of one that nginx looks up."""
        if upstream is not None and self._static is not None and upstream.id not in self._static:
            return ("dynamic", upstream.id in self._uses[host].canaries and bool(upstream.peers))
        return _shape(upstream)

    def _server(self, site: Site, body: list[Directive], aliases: tuple[str, ...] = ()) -> Directive:
        names: list[Plain | Word] = [_server_name(name) for name in (site.host, *aliases)] if site.host else [Word("_")]
        return directive("server", block=(*self._listen(bool(not site.host)), directive("server_name", *names), *body))

    def _listen(self, default: bool) -> Iterator[Directive]:
        """Only the default server says how; the others are there, too, by naming the ports."""
        options, places = self._options or Options(), self.places
        for address in places.listen:
            prefix = f"{address}:" if address else ""
            proxy = ["proxy_protocol"] if options.proxy_protocol and default else []
            first = ["default_server"] if default else []
            http2 = ["http2"] if options.http2 and not self.capabilities.http2_directive else []
            own = [*first, *proxy]
            for port, words in ((places.http_port, ()), (places.https_port, ("ssl", *http2))):
                v6 = ["ipv6only=on"] if address.startswith("[") and default else []
                yield directive("listen", Plain(f"{prefix}{port}"), *own, *words, *v6)

    def _default(self, table: RoutingTable) -> Directive:
        # Set here, too: a variable that is set nowhere, because there is no Ingress, is one that nginx does not know.
        route = directive("set", Name("lbcore_route"), Value(("-",)))
        if table.default_upstream is None:
            return directive("location", Plain("/"), block=(route, directive("return", 404)))
        to = Value((f"http://{table.default_upstream}",))
        return directive("location", Plain("/"), block=(route, directive("proxy_pass", to)))

    def _catch_all(self, table: RoutingTable) -> Directive:
        reject = [directive("ssl_reject_handshake", "on")] if table.options.reject_handshake else []
        return self._server(Site(host=""), [*reject, directive("access_log", "off"), self._default(table)])

    def _twins(self, table: RoutingTable, texts: list[str], aliases: dict[str, tuple[str, ...]]) -> None:
        taken = {*table.sites, *(name for names in aliases.values() for name in names)}
        for host, site in sorted(table.sites.items()):
            if site.www and site.www not in taken:
                to = Value((Variable("scheme"), "://", host, Variable("lbcore_port_suffix"), Variable("lbcore_uri")))
                body = [directive("return", table.options.redirect_code, to)]
                texts.append(serialize([self._server(Site(host=site.www), body)], 1))

    # For all.

    def _main(self, options: Options) -> Iterator[Directive]:
        places = self.places
        for module in (*self.capabilities.lua, *places.modules):
            yield directive("load_module", Plain(module))
        if places.user:
            yield directive("user", places.user)
        yield directive("pid", f"{places.folder}/nginx.pid")
        yield directive("error_log", places.error_log, "warn")
        yield directive("daemon", "off")
        yield directive("worker_processes", options.workers or "auto")
        yield directive("worker_shutdown_timeout", f"{options.shutdown_timeout}s")
        if places.most_files:
            yield directive("worker_rlimit_nofile", max(1024, min(2 * options.connections, places.most_files)))
        yield directive(
            "events", block=(directive("worker_connections", options.connections), directive("multi_accept", "on"))
        )

    def _http(self, table: RoutingTable) -> Iterator[Directive]:
        options, places = table.options, self.places
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        scratch = f"{places.folder}/tmp"  # noqa: S108 - below our own folder
        yield from (directive(f"{name}_temp_path", f"{scratch}/{name}") for name in temporary)
        yield directive("log_format", "upstreaminfo", Value(_LOG))
        yield directive(
            "access_log", *((places.access_log,) if places.access_log == "off" else (places.access_log, "upstreaminfo"))
        )
        yield directive("default_type", "text/html")
        yield directive("server_tokens", options.server_tokens)
        longest = max((len(host) for host in table.sites), default=0)
        yield directive("server_names_hash_bucket_size", _power(16 + 8 * ((longest + 2 + 7) // 8) + 8, 64))
        yield directive("server_names_hash_max_size", max(1024, _power(sum(map(len, table.sites)), 1024)))
        yield directive("map_hash_bucket_size", _power(longest + 32, 128))
        yield directive("map_hash_max_size", max(2048, _power(2 * len(table.sites), 2048)))
        yield directive("variables_hash_max_size", max(2048, _power(64 * len(table.upstreams), 2048)))
        yield directive("variables_hash_bucket_size", 256)
        yield directive("proxy_headers_hash_bucket_size", 128)
        yield directive("tcp_nopush", "on")
        yield directive("reset_timedout_connection", "on")
        yield directive("keepalive_timeout", f"{options.client_keepalive}s")
        yield directive("keepalive_requests", options.client_requests)
        yield directive("underscores_in_headers", options.underscores)
        yield directive("limit_req_status", options.limit_code)
        yield directive("limit_conn_status", options.connections_code)
        if self.capabilities.http2_directive:
            yield directive("http2", options.http2)
        if options.gzip:
            yield directive("gzip", "on")
            yield directive("gzip_proxied", "any")
            yield directive("gzip_vary", "on")
            yield directive("gzip_min_length", 256)
            yield directive(
                "gzip_types", "application/javascript", "application/json", "text/css", "text/plain", "image/svg+xml"
            )
        if options.forwarded_headers or options.proxy_protocol or options.real_ip:
            yield from (directive("set_real_ip_from", Plain(cidr)) for cidr in options.trusted)
            yield directive("real_ip_header", "proxy_protocol" if options.proxy_protocol else "X-Forwarded-For")
            yield directive("real_ip_recursive", "on")
        if places.resolvers:
            yield directive("resolver", *places.resolvers, "valid=30s")
        if self.capabilities.lua:
            yield from self._lua(table)
        yield from self._tls(options)
        yield from tuning(options.tuning, None, "proxy")
        yield from (directive("proxy_set_header", Plain(name), Value(value)) for name, value in HEADERS)
        yield directive("proxy_cookie_domain", "off")
        yield directive("proxy_redirect", "off")
        if options.hsts:
            yield directive("add_header", "Strict-Transport-Security", Value((Variable("lbcore_hsts"),)), "always")
        yield from _variables(options, places)

    def _lua(self, table: RoutingTable) -> Iterator[Directive]:
        folder = self.places.folder
        # 10,000 upstreams of ten peers each take 3 MB; what is not used takes no memory.
        yield directive("lua_shared_dict", "lbcore_peers", "64m")
        yield directive("lua_package_path", Plain(f"{folder}/?.lua;;"))
        yield directive("init_by_lua_file", f"{folder}/init.lua")
        if any(upstream.balance is Balance.EWMA for _, upstream in table.upstreams.items()):
            yield directive("log_by_lua_file", f"{folder}/log.lua")
        control = (
            directive("access_log", "off"),
            directive("client_max_body_size", "64m"),
            directive("client_body_buffer_size", "1m"),
            directive("content_by_lua_file", f"{folder}/control.lua"),
        )
        location = directive("location", "=", "/peers", block=control)
        # In a folder that nobody else gets into.
        listen = directive("listen", f"unix:{folder}/{CONTROL}")
        yield directive(
            "server", block=(listen, location, directive("location", "/", block=(directive("return", 404),)))
        )

    def _tls(self, options: Options) -> Iterator[Directive]:
        yield directive("ssl_protocols", *options.ssl_protocols)
        yield directive("ssl_ciphers", Plain(options.ssl_ciphers))
        yield directive("ssl_prefer_server_ciphers", "on")
        yield directive("ssl_session_cache", "shared:lbcore:10m")
        yield directive("ssl_session_timeout", "10m")
        yield directive("ssl_session_tickets", "off")
        yield directive("ssl_buffer_size", "4k")
        # Read for each handshake, so that a renewed certificate needs no reload, and a thousand hosts no memory.
        name = Value((f"{self.places.folder}/", Variable("lbcore_certificate"), ".pem"))
        yield directive("ssl_certificate", name)
        yield directive("ssl_certificate_key", name)

    def _certificates(
        self,
        table: RoutingTable,
        http: dict[str, Directive],
        files: dict[str, bytes],
        without: frozenset[str],
        aliases: dict[str, tuple[str, ...]],
    ) -> None:
        """The map from a server's name to its certificate. Files are named by host: a renewed one takes their place."""
        default = table.default_certificate or self.fake
        files["default.pem"] = default.chain + default.key
        lines: list[Directive | Entry] = [directive("default", "default")]
        for host, site in sorted(table.sites.items()):
            if site.certificate is None or host in without:
                continue
            name = f"c{digest(host)}"
            files[f"{name}.pem"] = site.certificate.chain + site.certificate.key
            for each in (host, *aliases[host]):
                key = f"~*^[^.]+{_escaped(each[1:])}$" if each.startswith("*") else f"\\{each}"
                lines.append(Entry(Plain(key), Word(name)))
        http["lbcore_certificate"] = directive(
            "map", Value((Variable("ssl_server_name"),)), Name("lbcore_certificate"), block=lines
        )


_LOG = (
    Variable("remote_addr"), " - ", Variable("remote_user"), " [", Variable("time_local"), '] "', Variable("request"),
    '" ', Variable("status"), " ", Variable("body_bytes_sent"), ' "', Variable("http_referer"), '" "',
    Variable("http_user_agent"), '" ', Variable("request_length"), " ", Variable("request_time"), " [",
    Variable("lbcore_route"), "] [] ", Variable("upstream_addr"), " ", Variable("upstream_response_length"), " ",
    Variable("upstream_response_time"), " ", Variable("upstream_status"), " ", Variable("lbcore_request_id"),
)  # fmt: skip


def _aliases(table: RoutingTable) -> dict[str, tuple[str, ...]]:
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


def _power(number: int, least: int) -> int:
    while least < number:
        least *= 2
    return least


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
    for location in site.locations:
        canary = location.canary.upstream if location.canary is not None else None
        canaries.add(canary)
        named |= {location.fallback, location.errors_to}
        if location.fallback is not None:  # answers in its place while there is no peer: another location
            named |= {location.upstream, canary}
        if location.policies.protocol not in {Protocol.HTTP, Protocol.GRPC}:
            sealed.add(location.upstream)
    none = {None}
    return _Uses(site, frozenset(named - none), frozenset(sealed - none), frozenset(canaries - none))  # type: ignore[arg-type]


def _shape(upstream: Upstream | None) -> tuple[object, ...]:
    if upstream is None or not upstream.peers:
        return ()
    first = upstream.peers[0]
    return (True, str(first) if upstream.external and not first.is_address else "")


def _map(key: str, name: str, default: Value, *lines: tuple[str, Value]) -> Directive:
    entries = (Entry(Plain(each), value) for each, value in lines)
    block: tuple[Directive | Entry, ...] = (directive("default", default), *entries)
    return directive("map", Value((Variable(key),)), Name(name), block=block)


def _v(*parts: str | Variable) -> Value:
    return Value(parts)


def _variables(options: Options, places: Places) -> Iterator[Directive]:
    """Variables that are worked out when somebody asks for them."""
    yield directive("geo", Name("lbcore_dollar"), block=(Entry(Plain("default"), Plain("$")),))
    trusted = options.forwarded_headers
    scheme = Variable("scheme")
    if trusted:
        yield _map(
            "http_x_forwarded_proto", "lbcore_scheme", _v(scheme), ("~^https$", _v("https")), ("~^http$", _v("http"))
        )
        yield _map(
            "http_x_forwarded_host",
            "lbcore_host",
            _v(Variable("http_host")),
            ("~^(?<lbcore_v1>[^,\\s]+)", _v(Variable("lbcore_v1"))),
        )
    else:
        yield _map("scheme", "lbcore_scheme", _v(scheme))
        yield _map("http_host", "lbcore_host", _v(Variable("http_host")))
    full = trusted and options.full_forwarded_for
    yield _map(
        "remote_addr", "lbcore_forwarded_for", _v(Variable("proxy_add_x_forwarded_for" if full else "remote_addr"))
    )
    yield _map("lbcore_scheme", "lbcore_plain", _v("0"), ("http", _v("1")))
    yield _map("server_port", "lbcore_port", _v(Variable("server_port")), (str(places.https_port), _v("443")))
    yield _map("server_port", "lbcore_port_suffix", _v(":", Variable("server_port")))
    yield _map("http_upgrade", "lbcore_connection", _v("upgrade"), ("", _v("")))
    yield _map(
        "http_x_request_id", "lbcore_request_id", _v(Variable("http_x_request_id")), ("", _v(Variable("request_id")))
    )
    yield _map(
        "request_uri", "lbcore_uri", _v(Variable("request_uri")), ("~^(?<lbcore_v2>.*)/$", _v(Variable("lbcore_v2")))
    )
    yield _map("request_uri", "lbcore_escaped_uri", _v(Variable("request_uri")))
    yield _map("request_method", "lbcore_preflight", _v("0"), ("OPTIONS", _v("1")))
    yield _map("uri", "lbcore_root", _v("0"), ("/", _v("1")))
    hsts = f"max-age={options.hsts_max_age}"
    hsts += "; includeSubDomains" if options.hsts_subdomains else ""
    hsts += "; preload" if options.hsts_preload else ""
    yield _map("lbcore_scheme", "lbcore_hsts", _v(""), ("https", _v(hsts)))
