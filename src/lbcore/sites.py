"""What does one host serve? All Ingresses that mention it, oldest first -> one `Site`.

The facts are ingress-nginx's, its quirk included: one pattern or rewrite on any Ingress of a host makes every
path of that host a case-insensitive pattern. What one Ingress has wrong costs its own paths only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Protocol as Contract

from attrs import define, evolve, field, frozen

from lbcore.contents import Store, certificate_for, with_authorities, with_contents
from lbcore.ingress import Backend, Certificate, Ingress, ObjectKey, PathType
from lbcore.model import Service
from lbcore.patterns import check
from lbcore.proxy import Canary, Location, Match, Policies, Site, Source, Template, Variable
from lbcore.upstreams import Target, make_target

__all__ = ["Built", "Entry", "View", "build_site", "in_order", "is_host"]

_NO_OWN_HOST = "auth-url: denied: $host is whatever a client says, where a rule has no host; write the name"
MOST_PATHS = 2000  # of one host
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")  # of a Service or a port: nothing else is one in a cluster
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


@frozen
class Entry:
    """An Ingress that is ours, with what its annotations ask for."""

    ingress: Ingress
    policies: Policies


class View(Store, Contract):
    """What building a site looks at. Whatever is asked for here is what the site depends on: no endpoints."""

    def service(self, key: ObjectKey) -> Service | None:
        """Of this moment."""
        ...


@frozen
class Built:
    """A site, the targets that it has, and what was wrong: an Ingress and a message each.

    `lacking` is what is wrong with Secrets, and may mend itself.
    """

    site: Site
    targets: tuple[Target, ...]
    problems: tuple[tuple[ObjectKey, str], ...] = ()
    lacking: tuple[tuple[ObjectKey, str], ...] = ()


def is_host(text: str) -> bool:
    """Whether a text may be a host: a name, or `*.` and a name."""
    return _HOST.fullmatch(text) is not None


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Oldest first; of one age, the last by `namespace/name`, as ingress-nginx has it."""
    by_name = sorted(entries, key=lambda entry: str(entry.ingress.key), reverse=True)
    return sorted(by_name, key=lambda entry: entry.ingress.created)


def build_site(host: str, entries: Iterable[Entry], view: View, *, covered: bool, default: str | None = None) -> Built:
    """The site of a host (empty: of every other). `covered`: a wildcard host with TLS covers it; `default` is the
    upstream of the global default backend.
    """
    return _Builder(host, in_order(entries), view, covered, default).build()


@define
class _Builder:
    host: str
    entries: list[Entry]
    view: View
    covered: bool
    default: str | None
    targets: dict[str, Target] = field(factory=dict)
    resolved: dict[ObjectKey, Policies] = field(factory=dict)
    problems: list[tuple[ObjectKey, str]] = field(factory=list)
    lacking: list[tuple[ObjectKey, str]] = field(factory=list)

    def build(self) -> Built:
        main = [entry for entry in self.entries if entry.policies.canary is None]
        tls = next((entry for entry in main if entry.ingress.tls), None) if self.host else None
        to_https = tls is not None or self.covered
        found: dict[tuple[str, PathType], Location] = {}
        implicit: set[tuple[str, PathType]] = set()
        for entry in main:
            self._implicit(entry, found, implicit)
            for path, kind, backend in self._paths(entry):
                key = (path, kind)
                if key in found and key not in implicit:
                    continue
                implicit.discard(key)
                found[key] = self._location(entry, path, backend)
        self._canaries(found)
        regex = any(_wants_patterns(location) for location in found.values())
        locations = [
            evolve(location, to_https=True) if self._redirects(location, to_https) else location
            for (_, kind), given in sorted(found.items(), key=lambda item: (len(item[0][0]), item[0][0]), reverse=True)
            for location in (self._as_patterns(kind, given) if regex else _as_paths(kind, given, found))
        ]
        site = Site(
            host=self.host,
            aliases=next((e.policies.aliases for e in main if e.policies.aliases), ()),
            locations=tuple(_without_twins(locations)[:MOST_PATHS]),
            certificate=self._certificate(tls),
            www=self._www(main),
            app_root=next((e.policies.rewrite.app_root for e in main if e.policies.rewrite.app_root), None),
            ciphers=next((e.policies.ciphers for e in main if e.policies.ciphers is not None), None),
            prefer_server_ciphers=next(
                (e.policies.prefer_server_ciphers for e in main if e.policies.prefer_server_ciphers is not None), None
            ),
        )
        whole = self._with_client_certificates(site, main)
        return Built(whole, tuple(self.targets.values()), tuple(self.problems), tuple(self.lacking))

    # Paths.

    def _paths(self, entry: Entry) -> Iterator[tuple[str, PathType, Backend]]:
        for rule in entry.ingress.rules:
            if rule.host.lower() != self.host:
                continue
            for each in rule.paths:
                if each.backend is None or not self._is_backend(entry, each.backend):
                    continue
                if not _is_path(each.path):
                    self._say(
                        entry,
                        f"path {each.path[:60]!r} cannot be served: write one that begins with /",
                    )
                    continue
                kind = PathType.EXACT if each.type is PathType.EXACT else PathType.PREFIX
                yield each.path, kind, each.backend

    def _is_backend(self, entry: Entry, backend: Backend) -> bool:
        """Names go into headers of error pages and into the log, so they have to be names."""
        wrong = next((each for each in (backend.service, backend.port or "0") if not _NAME.fullmatch(each)), None)
        if wrong is not None:
            self._say(entry, f"backend {wrong[:60]!r} cannot be served: it is no name of a Service or port")
        return wrong is None

    def _implicit(
        self, entry: Entry, found: dict[tuple[str, PathType], Location], implicit: set[tuple[str, PathType]]
    ) -> None:
        """`/` of the first Ingress of a host, with its annotations, until somebody says otherwise."""
        key = ("/", PathType.PREFIX)
        backend = entry.ingress.default_backend
        if backend is not None and not self._is_backend(entry, backend):
            backend = None
        if key in found or (not self.host and (backend is None or entry.ingress.rules)):
            return
        implicit.add(key)
        found[key] = self._location(entry, "/", backend)

    def _location(self, entry: Entry, path: str, backend: Backend | None) -> Location:
        resolved = self.resolved.get(entry.ingress.key)
        if resolved is None:
            resolved = self.resolved[entry.ingress.key] = self._resolved(entry)
        policies = self._with_own_host(entry, self._with_global_auth(resolved, path))
        namespace = entry.ingress.key.namespace
        source = Source(
            ingress=entry.ingress.key, service=backend.service if backend else "", port=backend.port if backend else ""
        )
        upstream = self.default
        if backend is not None:
            upstream = self._use(make_target(self.view.options, namespace, backend, policies))
        fallback = self._fallback(namespace, policies)
        codes = policies.errors.codes or self.view.options.custom_errors
        if codes != policies.errors.codes:
            policies = evolve(policies, errors=evolve(policies.errors, codes=codes))
        return Location(
            path=path,
            match=Match.PREFIX,
            source=source,
            policies=policies,
            upstream=upstream,
            fallback=fallback,
            errors_to=(fallback or self.default) if codes else None,
        )

    def _use(self, target: Target) -> str:
        self.targets[target.id] = target
        return target.id

    def _fallback(self, namespace: str, policies: Policies) -> str | None:
        """`default-backend`: a Service of the namespace, by its first port."""
        name = policies.errors.service
        service = self.view.service(ObjectKey(namespace, name)) if name else None
        if service is None or not service.named_ports:
            return None
        backend = Backend(service.key.name, str(service.named_ports[0].number))
        return self._use(make_target(self.view.options, namespace, backend, Policies()))

    def _canaries(self, found: dict[tuple[str, PathType], Location]) -> None:
        for entry in self.entries:
            rule = entry.policies.canary
            if rule is None or entry.policies.denied:
                continue
            for path, kind, backend in self._paths(entry):
                main = found.get((path, kind))
                if main is None or main.upstream is None or main.canary is not None:
                    self._say(entry, f"canary: no other Ingress serves {self.host or '*'}{path} that has none yet")
                    continue
                if main.source.ingress.namespace != entry.ingress.key.namespace:
                    self._say(entry, "canary: the Ingress it would take requests from is in another namespace")
                    continue
                affinity = main.policies.affinity if rule.sticky else None
                if affinity is not None and not affinity.with_canary:
                    affinity = None
                policies = evolve(entry.policies, affinity=affinity, protocol=main.policies.protocol)
                target = make_target(self.view.options, entry.ingress.key.namespace, backend, policies)
                if target.id != main.upstream:
                    cookie = affinity.name if affinity is not None else None
                    canary = Canary(rule=rule, upstream=self._use(target), cookie=cookie)
                    found[path, kind] = evolve(main, canary=canary)

    def _as_patterns(self, kind: PathType, location: Location) -> list[Location]:
        """Every path of a regex host is a pattern; one that cannot be used costs its own location."""
        if kind is PathType.EXACT and self.view.options.exact_in_regex_hosts:
            return [evolve(location, match=Match.EXACT)]
        pattern = check(location.path)
        if isinstance(pattern, str):
            self.problems.append(
                (location.source.ingress, f"path {location.path[:60]!r} is no usable pattern: {pattern}")
            )
            return []
        target = location.policies.rewrite.target or ()
        used = {int(part.name) for part in target if isinstance(part, Variable)}
        if pattern.nested and len(used) > 1:  # the shape of CVE-2026-9256
            message = (
                f"rewrite-target: path {location.path[:60]!r} has captures that overlap; use (?:...) for the outer one"
            )
            self.problems.append((location.source.ingress, message))
            return [evolve(location, match=Match.PATTERN, policies=evolve(location.policies, denied=message))]
        return [evolve(location, match=Match.PATTERN)]

    def _redirects(self, location: Location, has_tls: bool) -> bool:
        options, wanted = self.view.options, location.policies.redirects
        ssl = options.ssl_redirect if wanted.ssl is None else wanted.ssl
        force = options.force_ssl_redirect if wanted.force_ssl is None else wanted.force_ssl
        exempt = any(location.path.startswith(prefix) for prefix in options.no_tls_redirect)
        return (force or (ssl and has_tls)) and not exempt

    def _with_global_auth(self, policies: Policies, path: str) -> Policies:
        """The service that is asked for all, where an Ingress has none of its own and does not say it needs none."""
        options = self.view.options
        if policies.external_auth is not None or policies.no_global_auth or path.startswith(options.no_auth):
            return policies
        if options.global_denied:
            return evolve(policies, denied=policies.denied or options.global_denied)
        return policies if options.global_auth is None else evolve(policies, external_auth=options.global_auth)

    def _with_own_host(self, entry: Entry, policies: Policies) -> Policies:
        """An authentication service at `$host`: a name of this site, and where it has none the client's own choice, who
        would be let in by a server of his.
        """
        auth = policies.external_auth
        if self.host or auth is None or isinstance(auth.url.host, str):
            return policies
        self._say(entry, _NO_OWN_HOST)
        return evolve(policies, denied=policies.denied or _NO_OWN_HOST)

    # Secrets.

    def _resolved(self, entry: Entry) -> Policies:
        """The policies with what their Secrets and ConfigMaps hold; one that is missing denies."""
        policies, why = with_contents(entry.policies, entry.ingress.key.namespace, self.view)
        if why:
            self._lack(entry, why)
        return policies

    def _certificate(self, entry: Entry | None) -> Certificate | None:
        if entry is None:
            return None
        certificate, why = certificate_for(self.host, entry.ingress, self.view)
        if why:
            self._lack(entry, why)
        return certificate

    def _with_client_certificates(self, site: Site, main: list[Entry]) -> Site:
        for entry in main:
            wanted = entry.policies.client_certificates
            if wanted is None:
                continue
            found = with_authorities(wanted, entry.ingress.key.namespace, self.view)
            if found is None:
                self._lack(entry, f"auth-tls-secret: no ca.crt in Secret {wanted.secret}")
                return evolve(site, forbidden="auth-tls-secret")
            return evolve(site, client_certificates=found)
        return site

    def _www(self, main: list[Entry]) -> str | None:
        if not self.host or self.host.startswith("*") or not any(e.policies.redirects.www for e in main):
            return None
        return self.host[4:] if self.host.startswith("www.") else f"www.{self.host}"

    def _say(self, entry: Entry, message: str) -> None:
        self.problems.append((entry.ingress.key, message))

    def _lack(self, entry: Entry, message: str) -> None:
        self.lacking.append((entry.ingress.key, message))


def _is_path(path: str) -> bool:
    return (
        path.startswith("/")
        and len(path.encode("utf-8", "surrogatepass")) <= 2000
        and not any(ord(each) < 0x20 or 0x7F <= ord(each) <= 0x9F or 0xD800 <= ord(each) <= 0xDFFF for each in path)
    )


def _text(template: Template) -> str:
    return "".join(part if isinstance(part, str) else f"${part.name}" for part in template)


def _wants_patterns(location: Location) -> bool:
    rewrite = location.policies.rewrite
    return rewrite.use_regex or (rewrite.target is not None and _text(rewrite.target) not in {"", location.path})


def _as_paths(kind: PathType, location: Location, found: dict[tuple[str, PathType], Location]) -> list[Location]:
    """A Prefix `/p` is `/p/` and everything below, and `/p` itself, but not `/pp`."""
    path = location.path
    if kind is PathType.EXACT:
        return [evolve(location, match=Match.EXACT)]
    if path == "/":
        return [location]
    below = evolve(location, path=path.rstrip("/") + "/")
    if (path, PathType.EXACT) in found:
        return [below]
    return [below, evolve(location, match=Match.EXACT)]


def _without_twins(locations: list[Location]) -> list[Location]:
    """No two that nginx would call the same: it would refuse its whole configuration. The first one stays."""
    seen: dict[tuple[Match, str], Location] = {}
    for location in locations:
        seen.setdefault((location.match, location.path), location)
    return list(seen.values())
