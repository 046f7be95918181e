"""An upstream as directives: its peers, and how one of them is chosen."""

from __future__ import annotations

from collections.abc import Iterator

from lbcore.adapters.nginx.shared import Shared
from lbcore.adapters.nginx.sticky import MOST_PINNED, affinity_key, pinned_servers, pins
from lbcore.adapters.nginx.tree import Directive, Plain, Value, directive
from lbcore.proxy import Balance, Options, Upstream

__all__ = ["write_dynamic", "write_upstream"]


def write_dynamic(name: str, options: Options, folder: str) -> Directive:
    """A block whose peers are chosen by Lua for each request; the one that stands in it is never asked."""
    block = [
        directive("server", Plain("0.0.0.1:80")),
        directive("balancer_by_lua_file", f"{folder}/balance.lua"),
    ]
    return directive("upstream", name, block=(*block, *_kept_open(options, options.keepalive)))


def write_upstream(upstream: Upstream, options: Options, shared: Shared) -> Iterator[Directive]:
    """The block, and the map of its cookie; nothing where there is no peer or nginx looks a name up itself."""
    if not upstream.peers or upstream.is_looked_up:
        return
    block: list[Directive] = []
    affinity = upstream.affinity
    if affinity is not None and pins(upstream):
        for name, servers in pinned_servers(upstream, affinity, shared).items():
            yield directive("upstream", name, block=(*servers, *_kept_open(options, 32 * len(servers))))
    if affinity is not None and not (pins(upstream) and len(upstream.peers) <= MOST_PINNED):
        block.append(directive("hash", affinity_key(affinity, shared), "consistent"))
    elif upstream.hash_by:
        block.append(directive("hash", Value(upstream.hash_by), "consistent"))
    elif upstream.balance is Balance.EWMA:
        block.append(directive("random", "two", "least_conn"))
    # `max_fails=0`: a peer is only ever taken away by its readiness, as in ingress-nginx.
    block += [directive("server", Plain(str(peer)), "max_fails=0") for peer in upstream.peers]
    block += _kept_open(options, 32 * len(upstream.peers))
    yield directive("upstream", upstream.id, block=block)


def _kept_open(options: Options, most: int) -> list[Directive]:
    """Connections that are kept for later, at most so many in a worker."""
    if not options.keepalive:
        return []
    return [
        directive("keepalive", min(options.keepalive, most)),
        directive("keepalive_timeout", f"{options.keepalive_timeout}s"),
        directive("keepalive_requests", options.keepalive_requests),
    ]
