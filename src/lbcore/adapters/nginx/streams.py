"""What is no HTTP: a server for each port, and an upstream of its endpoints. Peers stand in the text.

Debian has no Lua for streams, so a change of endpoints is a reload: connections stay with the workers that have them.
"""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.general import Places
from lbcore.adapters.nginx.tree import Directive, Name, Plain, Value, directive
from lbcore.proxy import Options, RoutingTable, Stream, Template, Transport, Variable

__all__ = ["stream_level"]

_FORM: Template = (
    "[", Variable("remote_addr"), "] [", Variable("time_local"), "] ", Variable("protocol"), " ", Variable("status"),
    " ", Variable("bytes_sent"), " ", Variable("bytes_received"), " ", Variable("session_time"),
)  # fmt: skip
_NAMES = {"proxy_upstream_name": "lbcore_stream"}  # ingress-nginx's names of variables, and what they are here
_ALL = ("0.0.0.0/0", "::/0")


def stream_level(
    table: RoutingTable, places: Places, capabilities: Capabilities, without: frozenset[str]
) -> tuple[Directive, ...]:
    """The block of the streams that are not named in `without`; none where there are none, or nginx has no module."""
    streams = [each for each in table.streams if each.name not in without]
    if not streams or not capabilities.stream:
        return ()
    options = table.options
    body = [*_for_all(options, places)]
    for each in streams:
        if not _is_looked_up(each):
            peers = [directive("server", Plain(str(peer)), "max_fails=0") for peer in each.peers]
            body.append(directive("upstream", _name(each), block=peers))
        body.append(directive("server", block=_server(each, options, places, capabilities)))
    return (directive("stream", block=body),)


def _for_all(options: Options, places: Places) -> Iterator[Directive]:
    wanted = options.streams
    if wanted.log.off or places.access_log == "off":
        yield directive("access_log", "off")
    else:
        form = wanted.log.form or _FORM
        ours = tuple(each if isinstance(each, str) else Variable(_NAMES.get(each.name, each.name)) for each in form)
        yield directive("log_format", "streaminfo", Value(ours))
        yield directive("access_log", wanted.log.path or places.access_log, "streaminfo", *wanted.log.parameters)
    if places.resolvers:
        yield directive("resolver", *places.resolvers, "valid=30s")
    yield directive("proxy_timeout", f"{wanted.timeout}s")
    yield directive("proxy_next_upstream", wanted.next_upstream)
    yield directive("proxy_next_upstream_timeout", f"{wanted.next_timeout}s")
    yield directive("proxy_next_upstream_tries", wanted.next_tries)


def _server(stream: Stream, options: Options, places: Places, capabilities: Capabilities) -> Iterator[Directive]:
    # Datagrams of one client belong to one worker, which is what `reuseport` is for: else each worker that one comes to
    # would ask the backend from another port.
    words = ["udp", "reuseport"] if stream.transport is Transport.UDP else []
    words += ["proxy_protocol"] if stream.takes_proxy else []
    for address in places.listen:
        yield directive("listen", Plain(f"{address}:{stream.port}" if address else str(stream.port)), *words)
    if stream.takes_proxy and capabilities.stream_real_ip:
        # The default means everybody, and is written for IPv4 alone.
        trusted = options.trusted if options.trusted != _ALL[:1] else _ALL
        yield from (directive("set_real_ip_from", Plain(cidr)) for cidr in trusted)
    if stream.transport is Transport.UDP:
        yield directive("proxy_responses", options.streams.responses)
    if stream.sends_proxy:
        yield directive("proxy_protocol", "on")
    yield directive("set", Name("lbcore_stream"), Value((stream.label,)))
    if _is_looked_up(stream):
        # A name in a variable is looked up for a connection, and not once for all at the start.
        yield directive("set", Name("lbcore_peer"), Value((str(stream.peers[0]),)))
        yield directive("proxy_pass", Value((Variable("lbcore_peer"),)))
    else:
        yield directive("proxy_pass", _name(stream))


def _name(stream: Stream) -> str:
    return f"{stream.transport.value.lower()}_{stream.port}"


def _is_looked_up(stream: Stream) -> bool:
    """Whether it leads to a name: of a Service of type ExternalName."""
    return not stream.peers[0].is_address
