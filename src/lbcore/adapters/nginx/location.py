"""One location of a host as directives: only what differs from what the http block says for all.

The order in which nginx asks: redirects and refusals (rewrite phase), rates, lists and passwords, the backend.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field, fields

from lbcore.adapters.nginx.names import DYNAMIC, DYNAMIC_GRPC, digest
from lbcore.adapters.nginx.tree import Argument, Condition, Directive, Entry, Name, Plain, Value, Word, directive
from lbcore.proxy import (
    Affinity,
    Canary,
    Cors,
    ExternalAuth,
    Location,
    Match,
    Options,
    Policies,
    Protocol,
    RateLimit,
    Template,
    Tuning,
    Upstream,
    Variable,
)

__all__ = ["HEADERS", "LocationWriter", "Shared"]

# What is sent to a backend, at the http level and again in each location that sends something more.
HEADERS: tuple[tuple[str, Template], ...] = (
    ("Host", (Variable("lbcore_host"),)),
    ("Upgrade", (Variable("http_upgrade"),)),
    ("Connection", (Variable("lbcore_connection"),)),
    ("X-Request-ID", (Variable("lbcore_request_id"),)),
    ("X-Real-IP", (Variable("remote_addr"),)),
    ("X-Forwarded-For", (Variable("lbcore_forwarded_for"),)),
    ("X-Forwarded-Host", (Variable("lbcore_host"),)),
    ("X-Forwarded-Port", (Variable("lbcore_port"),)),
    ("X-Forwarded-Proto", (Variable("lbcore_scheme"),)),
    ("X-Forwarded-Scheme", (Variable("lbcore_scheme"),)),
    ("X-Scheme", (Variable("lbcore_scheme"),)),
    ("X-Original-Forwarded-For", (Variable("http_x_forwarded_for"),)),
    ("Proxy", ()),
)

_TUNING = {
    "body_size": "client_max_body_size",
    "body_buffer": "client_body_buffer_size",
    "connect_timeout": "{}_connect_timeout",
    "send_timeout": "{}_send_timeout",
    "read_timeout": "{}_read_timeout",
    "buffering": "proxy_buffering",
    "buffer_size": "{}_buffer_size",
    "busy_buffers": "proxy_busy_buffers_size",
    "temp_file": "proxy_max_temp_file_size",
    "request_buffering": "proxy_request_buffering",
    "http_version": "proxy_http_version",
    "next_upstream": "{}_next_upstream",
    "next_timeout": "{}_next_upstream_timeout",
    "next_tries": "{}_next_upstream_tries",
}
_SECONDS = {"connect_timeout", "send_timeout", "read_timeout", "next_timeout"}
_FOR_GRPC = {name for name, text in _TUNING.items() if text.startswith("{}")} | {"body_size", "body_buffer"}


@define
class Shared:
    """What locations need at the http level (maps, zones, split_clients) and as files, each once."""

    http: dict[str, Directive] = field(factory=dict)
    files: dict[str, bytes] = field(factory=dict)
    folder: str = ""

    def file(self, suffix: str, data: bytes) -> Word:
        """A file with this content; its name is a hash of it."""
        name = f"{digest(repr(data))}.{suffix}"
        self.files[name] = data
        return Word(f"{self.folder}/{name}")


def tuning(given: Tuning, defaults: Tuning | None, protocol: str) -> Iterator[Directive]:
    """The directives of what differs from the defaults; `protocol` is `proxy` or `grpc`."""
    for name, text in _TUNING.items():
        value = getattr(given, name)
        if value is None or (defaults is not None and value == getattr(defaults, name) and protocol == "proxy"):
            continue
        if protocol == "grpc" and name not in _FOR_GRPC:
            continue
        words = value if isinstance(value, tuple) else (f"{value}s" if name in _SECONDS else value,)
        yield directive(text.format(protocol), *words)
    size = given.buffer_size or (defaults.buffer_size if defaults else None)
    if protocol == "proxy" and (given.buffers or given.buffer_size) and size is not None:
        number = given.buffers or (defaults.buffers if defaults else None) or 4
        yield directive("proxy_buffers", number, str(size))
        if given.busy_buffers is None and given.buffer_size is not None:
            yield directive("proxy_busy_buffers_size", f"{2 * size.number}{size.unit}")
    for name, off in (("cookie_domain", "proxy_cookie_domain"), ("cookie_path", "proxy_cookie_path")):
        pair = getattr(given, name)
        if pair is not None and protocol == "proxy":
            yield directive(off, *(("off",) if pair[0] == "off" else tuple(Value((part,)) for part in pair)))
    if given.access_log is False:
        yield directive("access_log", "off")
    if given.rate:
        yield directive("limit_rate", f"{given.rate}k")
    if given.rate_after:
        yield directive("limit_rate_after", f"{given.rate_after}k")


assert {each.name for each in fields(Tuning)} >= set(_TUNING)


@define
class LocationWriter:
    """Writes the locations of one host."""

    host: str
    options: Options
    shared: Shared
    upstreams: dict[str, Upstream]
    client_certificates: bool = False
    pass_certificate: bool = False
    static: frozenset[str] | None = None  # upstreams that nginx itself chooses peers of; None: all of them

    def is_dynamic(self, location: Location) -> bool:
        """Whether Lua chooses where requests of a location go, whoever its peers are by then."""
        names = [location.upstream, location.canary.upstream if location.canary else location.upstream]
        return self.static is not None and not any(each is None or each in self.static for each in names)

    def write(self, location: Location) -> list[Directive]:
        """The location, and the internal ones that it needs."""
        body = list(self._body(location))
        made = [directive("location", *_path(location), block=body)]
        auth = location.policies.external_auth
        if auth is not None and not location.policies.denied:
            made.append(self._auth_location(location, auth))
            if auth.signin is not None:
                made.append(self._signin(location, auth))
        if location.errors_to is not None and self._has_peers(location.errors_to):
            made += self._error_locations(location)
        return made

    def _body(self, location: Location) -> Iterator[Directive]:
        policies = location.policies
        source = location.source
        route = f"{source.ingress.namespace}/{source.ingress.name}/{source.service}/{source.port}"
        yield directive("set", Name("lbcore_route"), Value((route,)))
        if policies.redirects.relative if policies.redirects.relative is not None else self.options.relative_redirects:
            yield directive("absolute_redirect", "off")
        if policies.cors is not None:
            yield from self._preflight(location, policies.cors)
        if policies.denied:
            yield directive("return", 503)
            return
        if location.to_https:
            keep = policies.redirects.preserve_slash
            keep = self.options.preserve_trailing_slash if keep is None else keep
            uri = Variable("request_uri" if keep else "lbcore_uri")
            to = Value(("https://", Variable("host"), uri))
            plain = directive("return", self.options.redirect_code, to)
            yield directive("if", Condition("lbcore_plain"), block=(plain,))
        if policies.redirects.fixed is not None:
            yield directive("return", policies.redirects.fixed.code, Value(policies.redirects.fixed.to))
            return
        target = location.upstream
        if target is None or not (self._has_peers(target) or self.is_dynamic(location)):
            if target is not None and location.fallback and self._has_peers(location.fallback):
                yield from self._fall_back(location)
            else:
                yield directive("return", 404 if target is None else 503)
            return
        yield from self._limits(location)
        yield from self._access(location)
        yield from self._answer_headers(location)
        yield from self._errors(location)
        yield from self._rewrite(location)
        yield from self._pass(location, target)

    def _fall_back(self, location: Location) -> Iterator[Directive]:
        yield from self._access(location)
        source = location.source
        more = (
            ("X-Code", ("503",)),
            ("X-Format", (Variable("http_accept"),)),
            ("X-Original-URI", (Variable("request_uri"),)),
            ("X-Namespace", (source.ingress.namespace,)),
            ("X-Ingress-Name", (source.ingress.name,)),
            ("X-Service-Name", (source.service,)),
            ("X-Service-Port", (source.port,)),
        )
        yield from self._headers("proxy", {}, more)
        yield directive("proxy_pass", Value(("http://", self._target(location.fallback or ""))))

    def _word(self, upstream: str) -> Word:
        """What an upstream is called where one is chosen: its id, or name and port of a host that nginx looks up."""
        found = self.upstreams[upstream]
        return Word(str(found.peers[0])) if found.external and not found.peers[0].is_address else Word(upstream)

    def _target(self, upstream: str) -> str | Variable:
        """What stands behind `http://`. A host's name is a variable: looked up for a request, not at the start."""
        name = self._word(upstream).text
        return upstream if name == upstream else Variable(self._constant(name))

    def _has_peers(self, upstream: str) -> bool:
        found = self.upstreams.get(upstream)
        return found is not None and bool(found.peers)

    # Who may.

    def _limits(self, location: Location) -> Iterator[Directive]:
        limit = location.policies.rate_limit
        if limit is None:
            return
        name = digest(str(location.source.ingress), *limit.exempt)
        key = self._limit_key(limit)
        for kind, rate, unit in (("s", limit.rps, "r/s"), ("m", limit.rpm, "r/m")):
            if rate:
                zone = f"l{kind}{name}"
                self.shared.http[zone] = directive("limit_req_zone", key, f"zone={zone}:5m", f"rate={rate}{unit}")
                yield directive("limit_req", f"zone={zone}", f"burst={rate * limit.burst}", "nodelay")
        if limit.connections:
            zone = f"lc{name}"
            self.shared.http[zone] = directive("limit_conn_zone", key, f"zone={zone}:5m")
            yield directive("limit_conn", zone, limit.connections)

    def _limit_key(self, limit: RateLimit) -> Value:
        if not limit.exempt:
            return Value((Variable("binary_remote_addr"),))
        name = f"lbcore_x{digest(*limit.exempt)}"
        lines = [Entry(Plain(cidr), Word("1")) for cidr in limit.exempt]
        self.shared.http[f"g{name}"] = directive(
            "geo", Name(f"{name}e"), block=(Directive("default", (Word("0"),)), *lines)
        )
        self.shared.http[f"m{name}"] = directive(
            "map",
            Value((Variable(f"{name}e"),)),
            Name(name),
            block=(Directive("default", (Value(()),)), Entry(Plain("0"), Value((Variable("binary_remote_addr"),)))),
        )
        return Value((Variable(name),))

    def _access(self, location: Location) -> Iterator[Directive]:
        policies = location.policies
        lists = policies.access
        allow = lists.allow or self.options.access.allow
        if lists.any_is_enough:
            yield directive("satisfy", "any")
        for cidr in lists.deny or self.options.access.deny:
            yield directive("deny", Plain(cidr))
        for cidr in allow:
            yield directive("allow", Plain(cidr))
        if allow:
            yield directive("deny", "all")
        basic = policies.basic_auth
        if basic is not None:
            yield directive("auth_basic", Value((basic.realm,)))
            yield directive("auth_basic_user_file", self.shared.file("users", basic.users))
        if policies.external_auth is not None:
            yield from self._external(location, policies.external_auth)

    def _external(self, location: Location, auth: ExternalAuth) -> Iterator[Directive]:
        name = self._auth_name(location)
        yield directive("auth_request", f"/_lbcore_auth_{name}")
        for index, header in enumerate(auth.response_headers):
            variable = f"upstream_http_{header.lower().replace('-', '_')}"
            yield directive("auth_request_set", Name(f"lbcore_auth{index}"), Value((Variable(variable),)))
        yield directive("auth_request_set", Name("lbcore_cookie"), Value((Variable("upstream_http_set_cookie"),)))
        if auth.signin is not None:
            yield directive("error_page", 401, "=", f"@lbcore_signin_{name}")

    def _auth_name(self, location: Location) -> str:
        return digest(self.host, location.path, location.match.value)

    def _auth_location(self, location: Location, auth: ExternalAuth) -> Directive:
        url = auth.url
        port = f":{url.port}" if url.port else ""
        target = f"{url.scheme}://{url.host}{port}"
        slash = () if url.path and isinstance(url.path[0], str) and url.path[0].startswith("/") else ("/",)
        path: Template = (*slash, *url.path)
        headers: list[tuple[str, Template]] = [
            ("Host", (url.host,)),
            ("X-Original-URL", (Variable("scheme"), "://", Variable("http_host"), Variable("request_uri"))),
            ("X-Original-Method", (Variable("request_method"),)),
            ("X-Original-URI", (Variable("request_uri"),)),
            ("X-Real-IP", (Variable("remote_addr"),)),
            ("X-Forwarded-For", (Variable("lbcore_forwarded_for"),)),
            ("X-Sent-From", ("nginx-ingress-controller",)),
            ("X-Auth-Request-Redirect", auth.request_redirect or (Variable("request_uri"),)),
            ("X-Request-ID", (Variable("lbcore_request_id"),)),
            ("X-Forwarded-Proto", ()),
            ("Content-Length", ()),
        ]
        block = [
            directive("internal"),
            directive("access_log", "off"),
            directive("proxy_pass_request_body", "off"),
            directive("proxy_intercept_errors", "off"),
            *([directive("proxy_method", auth.method)] if auth.method else []),
            *(directive("proxy_set_header", Plain(name), Value(value)) for name, value in headers),
            *([directive("proxy_ssl_server_name", "on")] if url.scheme == "https" else []),
            # By a variable: a name that cannot be resolved costs this request, not everybody's configuration.
            directive("set", Name("lbcore_to"), Value((target,))),
            directive("proxy_pass", Value((Variable("lbcore_to"), *path))),
        ]
        return directive("location", "=", f"/_lbcore_auth_{self._auth_name(location)}", block=block)

    def _signin(self, location: Location, auth: ExternalAuth) -> Directive:
        separator = "&" if auth.signin_has_query else "?"
        back: Template = (Variable("scheme"), "://", Variable("http_host"), Variable("lbcore_escaped_uri"))
        to = (*(auth.signin or ()), f"{separator}{auth.signin_parameter}=", *back)
        name = f"@lbcore_signin_{self._auth_name(location)}"
        return directive("location", name, block=(directive("internal"), directive("return", 302, Value(to))))

    # What the client is told.

    def _answer_headers(self, location: Location) -> Iterator[Directive]:
        """`add_header` in a location cancels what the http block adds, so that is repeated."""
        policies = location.policies
        made: list[Directive] = []
        if policies.cors is not None:
            made += self._cors_headers(policies.cors)
        if policies.affinity is not None and self.upstreams[location.upstream or ""].affinity is not None:
            made.append(self._cookie(location, policies.affinity))
        if policies.external_auth is not None:
            made.append(directive("add_header", "Set-Cookie", Value((Variable("lbcore_cookie"),))))
        if made:
            yield from made
            if self.options.hsts:
                yield directive("add_header", "Strict-Transport-Security", Value((Variable("lbcore_hsts"),)), "always")

    def _cookie(self, location: Location, affinity: Affinity) -> Directive:
        path = affinity.path or location.path
        text = f"; Path={path}"
        if affinity.max_age is not None:
            text += f"; Max-Age={affinity.max_age}"
        if affinity.domain:
            text += f"; Domain={affinity.domain}"
        if affinity.same_site:
            text += f"; SameSite={affinity.same_site}"
        if affinity.secure:
            text += "; Secure"
        text += "; HttpOnly"
        name, cookie = f"lbcore_s{digest(affinity.name, text)}", f"lbcore_q{digest(affinity.name)}"
        self.cookie_variable(cookie, affinity.name)
        value: Template = (f"{affinity.name}=", Variable("request_id"), text)
        self.shared.http[name] = directive(
            "map",
            Value((Variable(cookie),)),
            Name(name),
            block=(Directive("default", (Value(()),)), Entry(Plain(""), Value(value))),
        )
        return directive("add_header", "Set-Cookie", Value((Variable(name),)))

    def _cors_origin(self, cors: Cors) -> Template:
        if cors.origins is None:
            return ("*",)
        name = f"lbcore_o{digest(*cors.origins)}"
        lines = [
            Entry(Plain(f"~^{_origin_pattern(origin)}$"), Value((Variable("http_origin"),))) for origin in cors.origins
        ]
        self.shared.http[name] = directive(
            "map", Value((Variable("http_origin"),)), Name(name), block=(Directive("default", (Value(()),)), *lines)
        )
        return (Variable(name),)

    def _cors_headers(self, cors: Cors) -> list[Directive]:
        headers: list[tuple[str, Template]] = [("Access-Control-Allow-Origin", self._cors_origin(cors))]
        if cors.origins is not None:
            headers.append(("Vary", ("Origin",)))
        if cors.credentials:
            headers.append(("Access-Control-Allow-Credentials", ("true",)))
        headers += [
            ("Access-Control-Allow-Methods", (", ".join(cors.methods),)),
            ("Access-Control-Allow-Headers", (",".join(cors.headers),)),
            ("Access-Control-Max-Age", (str(cors.max_age),)),
        ]
        if cors.expose:
            headers.append(("Access-Control-Expose-Headers", (",".join(cors.expose),)))
        return [directive("add_header", name, Value(value), "always") for name, value in headers]

    def _preflight(self, location: Location, cors: Cors) -> Iterator[Directive]:
        block = (*self._cors_headers(cors), directive("return", 204))
        yield directive("if", Condition("lbcore_preflight"), block=block)

    def _errors(self, location: Location) -> Iterator[Directive]:
        if location.errors_to is None or not self._has_peers(location.errors_to):
            return
        yield directive("proxy_intercept_errors", "on")
        for code in location.policies.errors.codes:
            yield directive("error_page", code, "=", f"@lbcore_error_{self._auth_name(location)}_{code}")

    def _error_locations(self, location: Location) -> list[Directive]:
        source = location.source
        made = []
        for code in location.policies.errors.codes:
            headers: tuple[tuple[str, Template], ...] = (
                ("X-Code", (str(code),)),
                ("X-Format", (Variable("http_accept"),)),
                ("X-Original-URI", (Variable("request_uri"),)),
                ("X-Namespace", (source.ingress.namespace,)),
                ("X-Ingress-Name", (source.ingress.name,)),
                ("X-Service-Name", (source.service,)),
                ("X-Service-Port", (source.port,)),
                ("X-Request-ID", (Variable("lbcore_request_id"),)),
                ("Host", (Variable("lbcore_host"),)),
            )
            block = (
                directive("internal"),
                directive("proxy_intercept_errors", "off"),
                *(directive("proxy_set_header", name, Value(value)) for name, value in headers),
                directive("rewrite", Plain("(.*)"), "/", "break"),
                directive("proxy_pass", Value(("http://", self._target(location.errors_to or "")))),
            )
            made.append(directive("location", f"@lbcore_error_{self._auth_name(location)}_{code}", block=block))
        return made

    # The backend.

    def _rewrite(self, location: Location) -> Iterator[Directive]:
        target = location.policies.rewrite.target
        if location.match is Match.PATTERN and target and target != (location.path,):
            pattern = location.path if location.path.startswith("(?i)") else f"(?i){location.path}"
            yield directive("rewrite", Plain(pattern), Value(target), "break")

    def _pass(self, location: Location, target: str) -> Iterator[Directive]:
        policies = location.policies
        grpc = policies.protocol in {Protocol.GRPC, Protocol.GRPCS}
        kind = "grpc" if grpc else "proxy"
        given = policies.tuning
        yield from tuning(given, self.options.tuning, kind)
        more: list[tuple[str, Template]] = []
        changed: dict[str, Template] = {}
        if policies.host_header:
            changed["Host"] = (policies.host_header,)
        if policies.connection_header:
            changed["Connection"] = (policies.connection_header,)
        prefix = policies.rewrite.forwarded_prefix
        if prefix and location.match is Match.PATTERN and policies.rewrite.target:
            more.append(("X-Forwarded-Prefix", prefix))
        if policies.basic_auth is not None:
            more.append(("Authorization", ()))
        if policies.external_auth is not None:
            names = policies.external_auth.response_headers
            more += [(name, (Variable(f"lbcore_auth{index}"),)) for index, name in enumerate(names)]
        if self.client_certificates:
            more += [
                ("ssl-client-verify", (Variable("ssl_client_verify"),)),
                ("ssl-client-subject-dn", (Variable("ssl_client_s_dn"),)),
                ("ssl-client-issuer-dn", (Variable("ssl_client_i_dn"),)),
            ]
            if self.pass_certificate:
                more.append(("ssl-client-cert", (Variable("ssl_client_escaped_cert"),)))
        if grpc or more or changed:
            yield from self._headers(kind, changed, tuple(more))
        yield from self._upstream_tls(policies, kind)
        name: Template = (
            (self._target(target),) if location.canary is None else (self._choice(location, location.canary),)
        )
        if self.is_dynamic(location):
            yield from self._dynamic(target, name)
            name = (_block_of(policies.protocol, self.upstreams[target]),)
        yield directive(f"{kind}_pass", Value((*_scheme(policies.protocol), *name)))

    def _dynamic(self, target: str, name: Template) -> Iterator[Directive]:
        """What Lua has to know: which upstream, and what is hashed for it."""
        upstream = self.upstreams[target]
        yield directive("set", Name("lbcore_upstream"), Value(name))
        key: Template = upstream.hash_by or ()
        if upstream.affinity is not None:
            cookie, variable = f"lbcore_q{digest(upstream.affinity.name)}", f"lbcore_k{digest(upstream.affinity.name)}"
            self.cookie_variable(cookie, upstream.affinity.name)
            self._map(variable, Variable(cookie), Value((Variable(cookie),)),
                      (Entry(Plain(""), Value((Variable("request_id"),))),))  # fmt: skip
            key = (Variable(variable),)
        if key:
            yield directive("set", Name("lbcore_key"), Value(key))
        yield directive("rewrite_by_lua_file", f"{self.shared.folder}/check.lua")

    def _headers(
        self, kind: str, changed: dict[str, Template], more: tuple[tuple[str, Template], ...]
    ) -> Iterator[Directive]:
        headers = [(name, changed.get(name, value)) for name, value in HEADERS]
        if kind == "grpc":
            headers = [(name, value) for name, value in headers if name not in {"Upgrade", "Connection"}]
        for name, value in (*headers, *more):
            yield directive(f"{kind}_set_header", Plain(name), Value(value))

    def _upstream_tls(self, policies: Policies, kind: str) -> Iterator[Directive]:
        tls = policies.upstream_tls
        if tls is None or policies.protocol is Protocol.HTTP or policies.protocol is Protocol.GRPC:
            return
        if tls.certificate is not None:
            pair = self.shared.file("pem", tls.certificate.chain + tls.certificate.key)
            yield directive(f"{kind}_ssl_certificate", pair)
            yield directive(f"{kind}_ssl_certificate_key", pair)
        if tls.authorities:
            yield directive(f"{kind}_ssl_trusted_certificate", self.shared.file("ca", tls.authorities))
            yield directive(f"{kind}_ssl_verify", "on" if tls.verify else "off")
            yield directive(f"{kind}_ssl_verify_depth", tls.depth)
        if tls.name:
            yield directive(f"{kind}_ssl_name", Value(tls.name))
        if tls.server_name:
            yield directive(f"{kind}_ssl_server_name", "on")
        if tls.protocols:
            yield directive(f"{kind}_ssl_protocols", *tls.protocols)

    def _choice(self, location: Location, canary: Canary) -> Variable:
        """Header, then cookie, then weight: each a map that hands on to the next."""
        rule, main, other = canary.rule, location.upstream or "", canary.upstream
        if not self._has_peers(other):
            return Variable(self._constant(self._word(main).text))
        name = f"lbcore_c{digest(main, other, repr(rule))}"
        here, elsewhere = self._word(main), self._word(other)
        share = min(10000, rule.weight * 10000 // rule.total)
        if 0 < share < 10000:
            parts = (
                Entry(Plain(f"{share // 100}.{share % 100:02d}%"), elsewhere),
                Entry(Plain("*"), here),
            )
            self.shared.http[f"{name}w"] = directive(
                "split_clients", Value((Variable("request_id"),)), Name(f"{name}w"), block=parts
            )
            last: Argument = Value((Variable(f"{name}w"),))
        else:
            last = elsewhere if share else here
        always = (Entry(Plain("always"), elsewhere), Entry(Plain("never"), here))
        if rule.cookie:
            variable = f"lbcore_q{digest(rule.cookie)}"
            self.cookie_variable(variable, rule.cookie)
            last = self._map(f"{name}k", Variable(variable), last, always)
        if rule.header:
            lines: tuple[Entry, ...] = always
            if rule.header_value is not None:
                lines = (Entry(Plain(_exact(rule.header_value)), elsewhere),)
            elif rule.header_pattern is not None:
                lines = (Entry(Plain("~" + rule.header_pattern), elsewhere),)
            last = self._map(f"{name}h", Variable(f"http_{rule.header.lower().replace('-', '_')}"), last, lines)
        self._map(name, Variable("request_id"), last, ())
        return Variable(name)

    def _constant(self, value: str) -> str:
        name = f"lbcore_c{digest(value)}"
        self._map(name, Variable("request_id"), Word(value), ())
        return name

    def cookie_variable(self, name: str, cookie: str) -> None:
        """`$cookie_x` for names with characters that a variable cannot have: read out of the header."""
        capture = f"c{digest(cookie)}"  # a number is no variable in a map, and PCRE takes 32 characters
        pattern = "~(?:^|;\\s*)" + "".join(_literal(each) for each in cookie) + f"=(?<{capture}>[^;]*)"
        self.shared.http[name] = directive(
            "map",
            Value((Variable("http_cookie"),)),
            Name(name),
            block=(Directive("default", (Value(()),)), Entry(Plain(pattern), Value((Variable(capture),)))),
        )

    def _map(self, name: str, key: Variable, default: Argument, lines: tuple[Entry, ...]) -> Value:
        block: tuple[Directive | Entry, ...] = (Directive("default", (default,)), *lines)
        self.shared.http[name] = directive("map", Value((key,)), Name(name), block=block)
        return Value((Variable(name),))


def _path(location: Location) -> tuple[Argument, ...]:
    match location.match:
        case Match.EXACT:
            return (Word("="), Plain(location.path))
        case Match.PREFIX:
            return (Plain(location.path),)
        case Match.PATTERN:
            return (Word("~*"), Plain("^" + location.path.removeprefix("(?i)")))


def _block_of(protocol: Protocol, upstream: Upstream) -> str:
    """The block by which Lua chooses a peer."""
    match protocol:
        case Protocol.HTTP:
            return DYNAMIC
        case Protocol.GRPC:
            return DYNAMIC_GRPC
        case _:
            return upstream.id


def _scheme(protocol: Protocol) -> Template:
    return {
        Protocol.HTTP: ("http://",),
        Protocol.HTTPS: ("https://",),
        Protocol.AUTO_HTTP: (Variable("scheme"), "://"),
        Protocol.GRPC: ("grpc://",),
        Protocol.GRPCS: ("grpcs://",),
    }[protocol]


def _origin_pattern(origin: str) -> str:
    scheme, _, host = origin.partition("://")
    label = "[A-Za-z0-9-]+" if host.startswith("*") else ""
    return f"(?i){scheme}://{label}" + "".join(_literal(each) for each in host.removeprefix("*"))


def _literal(character: str) -> str:
    return character if character.isalnum() or character in "-_" else "\\" + character


def _exact(text: str) -> str:
    """A key of a map that is compared as it is: the words that mean something else get a backslash or a pattern."""
    return "~^" + "".join(_literal(each) for each in text) + "$"
