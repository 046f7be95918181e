"""One location of a host as directives: only what differs from what the http block says for all.

The order in which nginx asks: redirects and refusals (rewrite phase), rates, lists and passwords, the backend.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, evolve, field

from lbcore.adapters.nginx.access import access, asking_locations, limits
from lbcore.adapters.nginx.answers import answer_headers, asked_of_default, error_locations, errors, preflight
from lbcore.adapters.nginx.fastcgi import parameters
from lbcore.adapters.nginx.logs import name_route
from lbcore.adapters.nginx.names import digest
from lbcore.adapters.nginx.passing import Headers, headers, kind_of, tuning, upstream_tls
from lbcore.adapters.nginx.shared import Shared
from lbcore.adapters.nginx.snippets import steps
from lbcore.adapters.nginx.targets import Targets, block_of, scheme
from lbcore.adapters.nginx.tree import Argument, Condition, Directive, Plain, Value, Word, directive
from lbcore.proxy import Location, Match, Options, Template, Upstream, Variable

__all__ = ["LocationWriter"]


@define
class LocationWriter:
    """Writes the locations of one host. `static` are the upstreams that nginx itself chooses peers of; None: all.

    `headers` are sent to every backend; `named` are the variables in which a location says what it is.
    """

    host: str
    options: Options
    shared: Shared
    upstreams: dict[str, Upstream]
    headers: Headers
    named: frozenset[str]
    client_certificates: bool = False
    pass_certificate: bool = False
    certified: bool = False  # nobody gets in without a certificate, and so nobody without TLS
    static: frozenset[str] | None = None
    _targets: Targets = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._targets = Targets(self.upstreams, self.static, self.shared)

    def write(self, location: Location) -> list[Directive]:
        """The location, and the internal ones that it needs."""
        name = digest(self.host, location.path, location.match.value)
        return [
            directive("location", *_path(location), block=list(self._body(location, name))),
            *asking_locations(location, name, self.shared),
            *error_locations(location, self._targets, name),
        ]

    def _body(self, location: Location, name: str) -> Iterator[Directive]:
        policies, options, targets = location.policies, self.options, self._targets
        yield from name_route(location.source, location.path, self.named)
        if policies.redirects.relative if policies.redirects.relative is not None else options.relative_redirects:
            yield directive("absolute_redirect", "off")
        if policies.denied:
            yield directive("return", 503)
            return
        if policies.cors is not None:
            yield from preflight(policies.cors, options, self.shared)
        yield from steps(policies.snippet, self.shared)
        if location.to_https:
            keep = policies.redirects.preserve_slash
            keep = options.preserve_trailing_slash if keep is None else keep
            uri = Variable("request_uri" if keep else "lbcore_uri")
            to = Value(("https://", Variable("host"), uri))
            plain = directive("return", options.redirect_code, to)
            yield directive("if", Condition("lbcore_plain"), block=(plain,))
        if self.certified and not any(location.path.startswith(each) for each in options.no_tls_redirect):
            yield directive("if", Condition("lbcore_unsealed"), block=(directive("return", 403),))
        if policies.redirects.fixed is not None:
            yield directive("return", policies.redirects.fixed.code, Value(policies.redirects.fixed.to))
            return
        target = location.upstream
        if target is None or not (targets.has_peers(target) or targets.is_dynamic(location)):
            if target is not None and location.fallback and targets.has_peers(location.fallback):
                yield from self._fall_back(location, location.fallback, name)
            else:
                yield directive("return", 404 if target is None else 503)
            return
        yield from limits(location, self.shared)
        yield from access(location, options, self.shared, name)
        yield from answer_headers(location, options, targets)
        yield from errors(location, targets, name)
        yield from self._pass(location, target)

    def _fall_back(self, location: Location, fallback: str, name: str) -> Iterator[Directive]:
        yield from access(location, self.options, self.shared, name)
        yield from headers("proxy", self.headers, {}, asked_of_default(location.source, 503))
        yield directive("proxy_pass", Value(("http://", self._targets.target(fallback))))

    def _pass(self, location: Location, target: str) -> Iterator[Directive]:
        policies, targets = location.policies, self._targets
        kind = kind_of(policies.protocol)
        given = policies.tuning
        if policies.snippet.cookie_path is not None:
            given = evolve(given, cookie_path=policies.snippet.cookie_path)
        yield from tuning(given, self.options.tuning, kind)
        changed, more = self._sent(location)
        if kind != "proxy" or more or changed:
            sent = headers(kind, self.headers, changed, more)
            yield from sent if kind != "fastcgi" else parameters(policies.fastcgi, sent)
        yield from upstream_tls(policies, kind, self.shared)
        canary = location.canary
        name: Template = (targets.target(target) if canary is None else targets.choose(location, canary),)
        if canary is not None:
            yield from targets.name_canary(location, canary, name)
        if targets.is_dynamic(location):
            yield from targets.tell(target, name)
            name = (block_of(policies.protocol, self.upstreams[target]),)
        else:
            name = targets.pinned(location, name)
        yield from _rewrite(location)  # the last of its module: `break` passes over every `set` that follows
        yield directive(f"{kind}_pass", Value((*scheme(policies.protocol), *name)))

    def _sent(self, location: Location) -> tuple[dict[str, Template], tuple[tuple[str, Template], ...]]:
        """The headers that are other than for all, and those that are sent besides."""
        policies = location.policies
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
        known = {header.lower(): header for header, _ in self.headers} if policies.snippet.sent else {}
        for header, value in policies.snippet.sent:
            if header.lower() in known:
                changed[known[header.lower()]] = value
            else:
                more = [each for each in more if each[0].lower() != header.lower()] + [(header, value)]
        return changed, tuple(more)


def _rewrite(location: Location) -> Iterator[Directive]:
    target = location.policies.rewrite.target
    if location.match is Match.PATTERN and target and target != (location.path,):
        pattern = location.path if location.path.startswith("(?i)") else f"(?i){location.path}"
        yield directive("rewrite", Plain(pattern), Value(target), "break")


def _path(location: Location) -> tuple[Argument, ...]:
    match location.match:
        case Match.EXACT:
            return (Word("="), Plain(location.path))
        case Match.PREFIX:
            return (Plain(location.path),)
        case Match.PATTERN:
            return (Word("~*"), Plain("^" + location.path.removeprefix("(?i)")))
