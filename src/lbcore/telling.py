"""What does a node say that it announces, to those who ask (ServiceL2Status and ServiceBGPStatus of metallb.io)?

Only what changes is said. When all has been said, once at the start and after each change of membership, those who
write it down compare it with what is written; and the first of the living speakers, by name, sees to it that nothing
stays of speakers that are gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve, field, frozen
from immutables import Map

from lbcore.intents import ReportAnnounced, SettleAnnounced
from lbcore.model import ServiceKey

__all__ = ["Telling"]


@frozen(kw_only=True)
class Telling:
    """What this node has said so far: of each Service that it announces, and with which members."""

    node: str
    told: Map[ServiceKey, ReportAnnounced] = field(factory=Map)
    members: frozenset[str] | None = None

    def say(
        self, key: ServiceKey, interfaces: Iterable[tuple[str, ...]], peers: Iterable[str]
    ) -> tuple[Telling, tuple[ReportAnnounced, ...]]:
        """A Service is announced on these `interfaces`, for each of its addresses (an empty one: on all), and to these
        `peers`; what there is to be said of that.
        """
        sets = list(interfaces)
        here: tuple[str, ...] | None = None
        if sets:
            here = tuple(sorted({name for names in sets for name in names})) if all(sets) else ()
        said = ReportAnnounced(key=key, node=self.node, interfaces=here, peers=tuple(sorted(set(peers))))
        if said == self.told.get(key, ReportAnnounced(key=key, node=self.node)):
            return self, ()
        told = self.told.set(key, said) if said.is_any else self.told.delete(key)
        return evolve(self, told=told), (said,)

    def settle(self, members: frozenset[str]) -> tuple[Telling, tuple[SettleAnnounced, ...]]:
        """All has been said, with these speakers alive."""
        if members == self.members:
            return self, ()
        living = members | {self.node}
        sweeps = self.node == min(living)
        return evolve(self, members=members), (SettleAnnounced(node=self.node, living=living, sweeps=sweeps),)

    def end(self) -> tuple[Telling, tuple[ReportAnnounced, ...]]:
        """Nothing is announced any more."""
        last = tuple(ReportAnnounced(key=key, node=self.node) for key in sorted(self.told))
        return evolve(self, told=Map()), last
