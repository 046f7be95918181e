"""BFD sessions as Prometheus reads them, with the names of MetalLB's FRR mode.

Its counters have no suffix `_total`, which a counter of the library would get, and so are told without a type.
Echo packets, which are never sent, are told as 0: a dashboard shows a line, and not a hole.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from lbcore.announcement import AnnouncementState
from lbcore.bfd import BfdState

__all__ = ["bfd_families"]


def bfd_families(state: AnnouncementState) -> Iterator[Metric]:
    """Each session of a node: whether it is up, and what it counted, ten seconds old at most."""
    up = GaugeMetricFamily("metallb_bfd_session_up", "1 while the BFD session is Up", labels=["peer", "vrf"])
    counters = {
        name: Metric(f"metallb_bfd_{name}", about, "unknown")
        for name, about in (
            ("control_packet_input", "BFD control packets heard"),
            ("control_packet_output", "BFD control packets sent"),
            ("echo_packet_input", "BFD echo packets heard: none, echoes are not served"),
            ("echo_packet_output", "BFD echo packets sent: none, echoes are not served"),
            ("session_up_events", "Times that the BFD session came up"),
            ("session_down_events", "Times that the BFD session went down"),
        )
    }
    for peer in state.peers:
        seen = state.watched.get(peer.name)
        if seen is None:
            continue
        labels = {"peer": str(peer.address or peer.interface), "vrf": peer.vrf}
        up.add_metric(list(labels.values()), float(seen.state is BfdState.UP))
        for family, value in zip(
            counters.values(), (seen.received, seen.sent, 0, 0, seen.ups, seen.downs), strict=True
        ):
            family.add_sample(family.name, labels, value)
    if up.samples:
        yield from (up, *counters.values())
