"""What does each node do? All speakers' shares side by side, as any one of them works them out."""

from __future__ import annotations

from collections import Counter

from attrs import frozen

from lbcore.announcement import AnnouncementState, all_bgp_announcers

__all__ = ["Duty", "duties"]


@frozen(kw_only=True)
class Duty:
    """What one node does: whether its speaker lives, whether it is drained, and how many addresses it announces."""

    node: str
    lives: bool
    drained: bool
    layer2: int
    bgp: int


def duties(state: AnnouncementState) -> tuple[Duty, ...]:
    """Every node that is known, sorted by name, as all speakers together have shared the addresses out."""
    layer2, bgp = Counter[str](), Counter[str]()
    winners = {
        (part.address, part.election.winner) for parts in state.parts.values() for part in parts if part.election
    }
    layer2.update(winner for _, winner in winners)
    config = state.configuration.current
    if config is not None and config.bgp_advertisements:
        pairs = {(address, name) for (_, address), names in all_bgp_announcers(state).items() for name in names}
        bgp.update(name for _, name in pairs)
    living = state.members | state.waiting
    return tuple(
        Duty(
            node=name,
            lives=name in living,
            drained=name in state.drained,
            layer2=layer2[name],
            bgp=bgp[name],
        )
        for name in sorted({*state.nodes, *living, *state.drained})
    )
