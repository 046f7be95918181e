"""Sticky sessions: the cookie that a client is given, and how it leads back.

By default the cookie is a key, and the key's hash chooses the peer. With `persistent` it is a token of the peer itself:
where nginx chooses peers there is an upstream for each of them, the others being its backup, and a map from tokens to
these. Where a canary is sticky, the cookie ends in `.c` or `.m`: with the canary, or with the main upstream.
"""

from __future__ import annotations

from attrs import evolve, frozen

from lbcore.adapters.nginx.names import digest
from lbcore.adapters.nginx.shared import Shared, literal
from lbcore.adapters.nginx.tree import Argument, Directive, Entry, Plain, Value, Word, directive, map_of
from lbcore.addresses import Address
from lbcore.proxy import Affinity, Canary, Location, Peer, Template, Upstream, Variable

__all__ = ["CHANGED", "MOST_PINNED", "Sticky", "affinity_key", "kept", "pinned_servers", "pins"]

MOST_PINNED = 64  # peers of one upstream, each with all others as backup: where there are more, they are hashed
CHANGED = "lbcore_changed"  # what Lua gives a client as its new cookie
_NOTHING = Entry(Plain(""), Value(()))
# Clients that take SameSite=None for Strict, or refuse the cookie: by the list of the Chromium project.
_OLD_BROWSERS = (
    r"~\(iP.+; CPU .*OS 12[_\d]*.*\) AppleWebKit/",
    r"~\(Macintosh;.*Mac OS X 10_14[_\d]*.*\) AppleWebKit/[.\d]+ \(KHTML, like Gecko\)(?:$| Version/.* Safari/)",
    r"~Chrom(?:e|ium)/(?:5[1-9]|6[0-6])\.",
    r"~UCBrowser/(?:[0-9]\.|1[01]\.|12\.[0-9]\.|12\.1[0-2]\.|12\.13\.[01](?:\.|$|\s))",
)


def affinity_key(affinity: Affinity, shared: Shared) -> Value:
    """What is hashed, and what is compared with peers' tokens: the cookie, or what it will be."""
    given, capture = _given(affinity.name, shared), f"k{digest(affinity.name)}"
    lines = (
        Entry(Plain(""), Value((Variable("request_id"),))),
        Entry(Plain(f"~^(?<{capture}>[0-9a-z]+)\\.[cm]$"), Value((Variable(capture),))),
    )
    return shared.map(f"lbcore_k{digest(affinity.name)}", given, Value((given,)), lines)


def _given(cookie: str, shared: Shared) -> Variable:
    """The cookie as the client has it."""
    variable = f"lbcore_q{digest(cookie)}"
    shared.cookie_variable(variable, cookie)
    return Variable(variable)


def kept(name: str, canary: Canary, shared: Shared, last: Argument, words: tuple[Word, Word]) -> Argument:
    """Where a client goes that was sent to the main upstream or to the canary before; `last` is for all others."""
    if canary.cookie is None:
        return last
    here, elsewhere = words
    lines = (Entry(Plain("~\\.c$"), elsewhere), Entry(Plain("~\\.m$"), here))
    return shared.map(f"{name}a", _given(canary.cookie, shared), last, lines)


def pins(upstream: Upstream | None) -> bool:
    """Whether clients of an upstream are led back to a peer by its token; not to names, which nginx looks up."""
    if upstream is None or upstream.affinity is None or not upstream.peers:
        return False
    return upstream.affinity.persistent and not upstream.is_looked_up


def pinned_servers(upstream: Upstream, affinity: Affinity, shared: Shared) -> dict[str, list[Directive]]:
    """The upstreams of single peers by their names, and at the http level which cookie leads to which of them, and
    which peer gives which cookie. None where there are many peers.
    """
    key = affinity_key(affinity, shared)
    peers = upstream.peers if len(upstream.peers) <= MOST_PINNED else ()
    tokens = {peer: digest(upstream.id, _shown(peer)) for peer in {_shown(each): each for each in peers}.values()}
    back = tuple(Entry(Plain(token), Word(f"{upstream.id}x{token}")) for token in tokens.values())
    shared.http[f"lbcore_p{upstream.id}"] = map_of(key, f"lbcore_p{upstream.id}", Word(upstream.id), back)
    first = tuple(Entry(Plain(_shown(peer)), Word(token)) for peer, token in tokens.items())
    later = tuple(  # after others that failed
        Entry(Plain(f"~ {literal(_shown(peer))}$"), Word(token)) for peer, token in tokens.items()
    )
    answered, unknown = Value((Variable("upstream_addr"),)), Value(()) if peers else key
    shared.http[f"lbcore_t{upstream.id}"] = map_of(answered, f"lbcore_t{upstream.id}", unknown, (*first, *later))
    return {
        f"{upstream.id}x{token}": [
            directive("server", Plain(str(each)), "max_fails=0", *(() if each == peer else ("backup",)))
            for each in upstream.peers
        ]
        for peer, token in tokens.items()
    }


def _shown(peer: Peer) -> str:
    """As nginx has it in $upstream_addr: the usual one of an IPv6 address's texts."""
    return str(evolve(peer, host=str(Address.parse(peer.host))))


@frozen(kw_only=True)
class Sticky:
    """What the clients of one location are told.

    `dynamic`: Lua chooses peers, and says so. `chosen` is the variable of the upstream's name where there is a canary,
    and `other` is the canary's name. `pinned`: nginx knows tokens of peers, of the main upstream and of the canary.
    """

    location: Location
    affinity: Affinity
    shared: Shared
    dynamic: bool = False
    chosen: Variable | None = None
    other: str = ""
    pinned: tuple[bool, bool] = (False, False)

    @property
    def is_told_by_lua(self) -> bool:
        """Whether Lua sets the variable of a new cookie."""
        return self.dynamic and (self.affinity.persistent or self.affinity.change_on_failure)

    @property
    def _name(self) -> str:
        location = self.location
        of_location = (location.path, location.upstream, location.canary, self.dynamic, self.pinned)
        return f"lbcore_s{digest(self.affinity, of_location)}"

    @property
    def _with_canary(self) -> Variable | None:
        canary = self.location.canary
        return self.chosen if canary is not None and canary.cookie is not None else None

    def header(self) -> Directive:
        """A cookie for who has none, or whose peer is not there or has failed."""
        return directive("add_header", "Set-Cookie", self._of_peer() if self._is_by_peer else self._of_key())

    @property
    def _is_by_peer(self) -> bool:
        return self.affinity.persistent and (self.dynamic or self.pinned[0])

    def _cookie(self, value: Variable, prefix: str = "") -> Value:
        """The whole header: the value, where it belongs to, and what the browser is to know."""
        suffix: Template = ()
        if self._with_canary is not None:
            line = Entry(Plain(self.other), Value((".c",)))
            suffix = self.shared.map(f"{self._name}x", self._with_canary, Value((".m",)), (line,)).parts
        return Value((f"{self.affinity.name}={prefix}", value, *suffix, *self._attributes()))

    def _of_key(self) -> Value:
        name, given = self._name, _given(self.affinity.name, self.shared)
        first = self.shared.map(name, given, Value(()), (Entry(Plain(""), self._cookie(Variable("request_id"))),))
        if not self.affinity.change_on_failure:
            return first
        if self.dynamic:
            unchanged = Entry(Plain(""), first)
            return self.shared.map(f"{name}f", Variable(CHANGED), self._cookie(Variable(CHANGED)), (unchanged,))
        tried = Entry(
            Plain("~,"), self._cookie(Variable("request_id"), "r")
        )  # another key, which may be another peer's
        return self.shared.map(f"{name}f", Variable("upstream_addr"), first, (tried,))

    def _of_peer(self) -> Value:
        name = self._name
        if self.dynamic:
            return self.shared.map(name, Variable(CHANGED), self._cookie(Variable(CHANGED)), (_NOTHING,))
        token, place = self._by_upstream("t"), self._by_upstream("p")
        value = self.shared.map(f"{name}v", token, self._cookie(token), (_NOTHING,))
        if self.affinity.change_on_failure:
            both = Value((_given(self.affinity.name, self.shared), "=", *self._value(token)))
            self.shared.http[name] = map_of(both, name, value, (Entry(Plain("~^([^=]*)=\\1$"), Value(())),))
            return Value((Variable(name),))
        canary = self.location.canary
        nobody = [self.location.upstream or "", *([canary.upstream] if canary is not None else [])]
        lines = tuple(Entry(Plain(each), value) for each in dict.fromkeys(nobody))
        return self.shared.map(name, place, Value(()), lines)

    def _value(self, token: Variable) -> Template:
        """The cookie's value alone."""
        attributes, parts = len(self._attributes()), self._cookie(token).parts
        return parts[1 : len(parts) - attributes]

    def _by_upstream(self, kind: str) -> Variable:
        """The variable of the upstream that was chosen."""
        main, canary = Variable(f"lbcore_{kind}{self.location.upstream}"), self.location.canary
        if canary is None or self._with_canary is None or not self.pinned[1]:
            return main
        line = Entry(Plain(self.other), Value((Variable(f"lbcore_{kind}{canary.upstream}"),)))
        name = f"{self._name}{kind}"
        self.shared.map(name, self._with_canary, Value((main,)), (line,))
        return Variable(name)

    def _attributes(self) -> Template:
        affinity = self.affinity
        text = f"; Path={affinity.path or self.location.path}"
        # nginx knows no date to come, and a browser counts Max-Age, not Expires, where it finds both (RFC 6265, 5.3).
        age = affinity.expires if affinity.max_age is None else affinity.max_age
        if age is not None:
            text += f"; Max-Age={age}"
        if affinity.domain:
            text += f"; Domain={affinity.domain}"
        parts: Template = ()
        if affinity.same_site == "None" and affinity.old_browsers:
            lines = tuple(Entry(Plain(each), Value(())) for each in _OLD_BROWSERS)
            none = Value(("; SameSite=None",))
            parts = self.shared.map("lbcore_same_site", Variable("http_user_agent"), none, lines).parts
        elif affinity.same_site:
            text += f"; SameSite={affinity.same_site}"
        if affinity.secure is None:
            secure = Value(("; Secure",))
            parts += self.shared.map("lbcore_secure", Variable("https"), secure, (_NOTHING,)).parts
        elif affinity.secure:
            text += "; Secure"
        return (text, *parts, "; HttpOnly")
