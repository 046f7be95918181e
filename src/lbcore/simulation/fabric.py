"""What the pretend machines share: one clock, one API server, one switch, one store of member records or one gossip."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from attrs import define, field

from lbcore.events import Event, Kind
from lbcore.simulation.clock import Clock, Trace
from lbcore.simulation.gossip import GossipNetwork
from lbcore.simulation.network import ApiLink, Decoder, Weather
from lbcore.simulation.reflex import Pulse
from lbcore.simulation.segment import MemberRecords, Segment
from lbcore.simulation.world import ApiServer

__all__ = ["Fabric"]


@define
class Fabric:
    """Everything that machines share. Where there is `gossip`, nobody keeps member records."""

    clock: Clock
    trace: Trace
    server: ApiServer
    decoder: Decoder
    weather: Weather
    segment: Segment
    records: MemberRecords
    pulse: Pulse
    counts: Counter[str]
    seeds: random.Random
    gossip: GossipNetwork | None = field(default=None, init=False)

    def dice(self) -> random.Random:
        """Dice of one's own, so that what one does changes nothing for another."""
        return random.Random(self.seeds.getrandbits(64))

    def connect(self, kinds: frozenset[Kind], deliver: Callable[[Event], None]) -> ApiLink:
        """A connection to the API server."""
        return ApiLink(self.clock, self.server, self.decoder, self.weather, self.dice(), self.counts, kinds, deliver)
