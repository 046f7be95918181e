"""Where a request may go: which upstream of two, by which name, and who chooses the peer."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from lbcore.adapters.nginx.names import DYNAMIC, DYNAMIC_GRPC, digest
from lbcore.adapters.nginx.shared import Shared, exactly
from lbcore.adapters.nginx.sticky import CHANGED, Sticky, affinity_key, kept, pins
from lbcore.adapters.nginx.tree import Argument, Directive, Entry, Name, Plain, Value, Word, directive
from lbcore.proxy import Affinity, Canary, Location, Protocol, Template, Upstream, Variable

__all__ = ["Targets", "block_of", "scheme"]

_SCHEMES: dict[Protocol, Template] = {
    Protocol.HTTP: ("http://",),
    Protocol.HTTPS: ("https://",),
    Protocol.AUTO_HTTP: (Variable("scheme"), "://"),
    Protocol.GRPC: ("grpc://",),
    Protocol.GRPCS: ("grpcs://",),
    Protocol.FCGI: (),
}


@frozen
class Targets:
    """The upstreams of one host. `static` are those that nginx itself chooses peers of; None: all of them."""

    upstreams: dict[str, Upstream]
    static: frozenset[str] | None
    shared: Shared

    def is_dynamic(self, location: Location) -> bool:
        """Whether Lua chooses where requests of a location go, whoever its peers are by then."""
        names = [location.upstream, location.canary.upstream if location.canary else location.upstream]
        return self.static is not None and not any(each is None or each in self.static for each in names)

    def has_peers(self, upstream: str) -> bool:
        """Whether anybody answers there."""
        found = self.upstreams.get(upstream)
        return found is not None and bool(found.peers)

    def word(self, upstream: str) -> Word:
        """What an upstream is called where one is chosen: its id, or name and port of a host that nginx looks up."""
        found = self.upstreams[upstream]
        return Word(str(found.peers[0])) if found.is_looked_up else Word(upstream)

    def target(self, upstream: str) -> str | Variable:
        """What stands behind `http://`. A host's name is a variable: looked up for a request, not at the start."""
        name = self.word(upstream).text
        return upstream if name == upstream else Variable(self.shared.constant(name))

    def choose(self, location: Location, canary: Canary) -> Variable:
        """Header, then cookie, then weight: each a map that hands on to the next."""
        rule, main, other = canary.rule, location.upstream or "", canary.upstream
        if not self.has_peers(other):
            return Variable(self.shared.constant(self.word(main).text))
        name = f"lbcore_c{digest(main, other, repr(rule), canary.cookie)}"
        here, elsewhere = self.word(main), self.word(other)
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
            self.shared.cookie_variable(variable, rule.cookie)
            last = self.shared.map(f"{name}k", Variable(variable), last, always)
        if rule.header:
            lines: tuple[Entry, ...] = always
            if rule.header_value is not None:
                lines = (Entry(exactly(rule.header_value), elsewhere),)
            elif rule.header_pattern is not None:
                lines = (Entry(Plain("~" + rule.header_pattern), elsewhere),)
            last = self.shared.map(f"{name}h", Variable(f"http_{rule.header.lower().replace('-', '_')}"), last, lines)
        last = kept(name, canary, self.shared, last, (here, elsewhere))
        self.shared.map(name, None, last)
        return Variable(name)

    def sticky(self, location: Location, affinity: Affinity) -> Sticky:
        """What the clients of a location are told by a cookie."""
        canary, main, dynamic = location.canary, self.upstreams.get(location.upstream or ""), self.is_dynamic(location)
        there = self.upstreams.get(canary.upstream) if canary is not None and self.has_peers(canary.upstream) else None
        return Sticky(
            location=location,
            affinity=affinity,
            shared=self.shared,
            dynamic=dynamic,
            chosen=self.choose(location, canary) if canary is not None and there is not None else None,
            other=self.word(there.id).text if there is not None else "",
            pinned=(False, False) if dynamic else (pins(main), pins(there)),
        )

    def pinned(self, location: Location, name: Template) -> Template:
        """The name of the upstream, or of the one peer of it that the client's cookie leads back to."""
        canary = location.canary
        named = (location.upstream, canary.upstream if canary is not None else None)
        found = [each for each in named if each is not None and pins(self.upstreams.get(each))]
        if not found or (canary is None and not pins(self.upstreams.get(location.upstream or ""))):
            return name
        if canary is None or not isinstance(name[0], Variable):
            return (Variable(f"lbcore_p{found[0]}"),)
        lines = tuple(Entry(Plain(each), Value((Variable(f"lbcore_p{each}"),))) for each in found)
        return self.shared.map(f"{name[0].name}p", name[0], Value(name), lines).parts

    def name_canary(self, location: Location, canary: Canary, chosen: Template) -> Iterator[Directive]:
        """For logs and metrics: the name of the canary's upstream, where it was chosen."""
        if not self.has_peers(canary.upstream) or not isinstance(chosen[0], Variable):
            return
        line = Entry(Plain(self.word(canary.upstream).text), Value((self.upstreams[canary.upstream].label,)))
        name = f"lbcore_d{digest(chosen[0].name, canary.upstream)}"
        yield directive("set", Name("lbcore_alternative"), self.shared.map(name, chosen[0], Value(()), (line,)))

    def tell(self, target: str, name: Template) -> Iterator[Directive]:
        """What Lua has to know: which upstream, and what is hashed for it."""
        upstream = self.upstreams[target]
        yield directive("set", Name("lbcore_upstream"), Value(name))
        key: Template = upstream.hash_by or ()
        if upstream.affinity is not None:
            key = affinity_key(upstream.affinity, self.shared).parts
            if upstream.affinity.persistent or upstream.affinity.change_on_failure:
                yield directive("set", Name(CHANGED), Value(()))
        if key:
            yield directive("set", Name("lbcore_key"), Value(key))
        yield directive("rewrite_by_lua_file", f"{self.shared.folder}/check.lua")


def block_of(protocol: Protocol, upstream: Upstream) -> str:
    """The block by which Lua chooses a peer."""
    match protocol:
        case Protocol.HTTP:
            return DYNAMIC
        case Protocol.GRPC:
            return DYNAMIC_GRPC
        case _:
            return upstream.id


def scheme(protocol: Protocol) -> Template:
    """What stands before the name of an upstream."""
    return _SCHEMES[protocol]
