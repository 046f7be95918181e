"""The times and numbers of memberlist, as MetalLB leaves them: Go's LAN and WAN defaults. Seconds throughout."""

from __future__ import annotations

import math

from attrs import frozen

__all__ = ["LAN", "WAN", "Settings"]

_KEEPS_PACE = 32  # members up to which the exchange of everything is as frequent as among two


@frozen(kw_only=True)
class Settings:
    """The names are those of memberlist's `Config` in our spelling; what is ours alone is at the end.

    `nack_after` is when a helper says that it has no answer either: Go waits a whole probe timeout, and
    then its word comes just after the deadline of who asked. `settle` is how long a member that has just
    started waits for the peers it was told of before it reports what it has; every `rejoin`
    seconds a few of those that are missing are asked again (MetalLB: 60).
    """

    probe_interval: float = 1.0
    probe_timeout: float = 0.5
    indirect_checks: int = 3
    retransmit_mult: int = 4
    suspicion_mult: int = 4
    suspicion_max_mult: int = 6
    push_pull_interval: float = 30.0
    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    gossip_to_the_dead: float = 30.0
    awareness_max: int = 8
    stream_timeout: float = 10.0
    nack_after: float = 0.8  # of the probe timeout
    settle: float = 2.0
    rejoin: float = 1.0

    def exchange_every(self, members: int) -> float:
        """Seconds between two exchanges of everything that a member begins: the more there are, the rarer, as in Go."""
        slower = math.ceil(math.log2(members) - math.log2(_KEEPS_PACE)) if members > _KEEPS_PACE else 0
        return self.push_pull_interval * (slower + 1)


LAN = Settings()
WAN = Settings(
    probe_interval=5.0,
    probe_timeout=3.0,
    suspicion_mult=6,
    push_pull_interval=60.0,
    gossip_interval=0.5,
    gossip_nodes=4,
    gossip_to_the_dead=60.0,
    stream_timeout=30.0,
)
