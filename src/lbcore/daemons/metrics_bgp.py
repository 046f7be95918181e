"""BGP sessions as Prometheus reads them, with the names of MetalLB's two modes.

Both call a gauge `..._total`, and FRR's counters have no such suffix, which a counter of the library would
get: they are told without a type. `peer` is the address with the port, as in both; `vrf` as in FRR mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from lbcore.adapters.bgp.messages import Kind
from lbcore.adapters.bgp.session import Session
from lbcore.announcement import AnnouncementState
from lbcore.backends.bgp import BgpSpeaker
from lbcore.bgp import BGPPeer
from lbcore.routes import PeerState

__all__ = ["bgp_families", "drain_families"]

_GAUGES = {
    "session_up": "1 while the BGP session is Established",
    "announced_prefixes_total": "Prefixes that the peer has from us",
    "pending_prefixes_total": "Prefixes that the peer has yet to be told about",
}
_COUNTERS = {
    "updates_total": "UPDATE messages sent",
    "updates_total_received": "UPDATE messages received",
    "opens_sent": "OPEN messages sent",
    "opens_received": "OPEN messages received",
    "notifications_sent": "NOTIFICATION messages sent",
    "keepalives_sent": "KEEPALIVE messages sent",
    "keepalives_received": "KEEPALIVE messages received",
    "route_refresh_sent": "ROUTE-REFRESH messages sent",
    "total_sent": "Messages sent",
    "total_received": "Messages received",
}


def bgp_families(speaker: BgpSpeaker) -> Iterator[Metric]:
    """Each session of a node: whether it is up, what the peer has, and what was said, since it was configured."""
    gauges = [
        GaugeMetricFamily(f"metallb_bgp_{name}", about, labels=["peer", "vrf"]) for name, about in _GAUGES.items()
    ]
    counters = [Metric(f"metallb_bgp_{name}", about, "unknown") for name, about in _COUNTERS.items()]
    for peer, session in speaker.sessions:
        labels = {"peer": _name(peer), "vrf": peer.vrf}
        status = session.status
        now = (float(status.state is PeerState.ESTABLISHED), status.advertised, session.outbox.pending)
        for gauge, value in zip(gauges, now, strict=True):
            gauge.add_metric(list(labels.values()), value)
        for counter, count in zip(counters, _counts(session), strict=True):
            counter.add_sample(counter.name, labels, count)
    if gauges[0].samples:
        yield from (*gauges, *counters)


def drain_families(state: AnnouncementState) -> Iterator[Metric]:
    """Whether this node is drained, and how many prefixes each peer is told as going away soon (RFC 8326)."""
    node = state.settings.node
    drained = GaugeMetricFamily("lbcore_node_drained", "1 while this node is drained", labels=["node"])
    drained.add_metric([node], float(node in state.drained))
    yield drained
    about = "Prefixes that the peer is told as going away soon, in a drain and before an end"
    leaving = GaugeMetricFamily("lbcore_bgp_leaving_prefixes", about, labels=["peer", "vrf"])
    told = Counter(offer.peer for offers in state.exports.told.values() for offer in offers)
    for peer in state.peers:
        leaving.add_metric([_name(peer), peer.vrf], told[peer.name] if peer.name in state.leaving else 0)
    if leaving.samples:
        yield leaving


def _counts(session: Session) -> tuple[int, ...]:
    sent, heard = session.sent, session.heard
    return (
        sent[Kind.UPDATE],
        heard[Kind.UPDATE],
        sent[Kind.OPEN],
        heard[Kind.OPEN],
        sent[Kind.NOTIFICATION],
        sent[Kind.KEEPALIVE],
        heard[Kind.KEEPALIVE],
        sent[Kind.ROUTE_REFRESH],
        sent.total(),
        heard.total(),
    )


def _name(peer: BGPPeer) -> str:
    if peer.address is None:
        return f"{peer.interface}:{peer.port}"
    return f"[{peer.address}]:{peer.port}" if peer.address.version == 6 else f"{peer.address}:{peer.port}"
