"""What does each node do? All speakers' shares side by side, as any one of them works them out."""

from __future__ import annotations

from collections import Counter

from attrs import frozen

from lbcore.announcement import AnnouncementState, all_bgp_announcers
from lbcore.model import ServiceKey

__all__ = ["Duty", "announcers", "duties"]


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


def announcers(state: AnnouncementState) -> dict[ServiceKey, tuple[str, ...]]:
    """By Service the nodes that are to announce it, those of Layer 2 first; a Service that nobody announces is left
    out.
    """
    found: dict[ServiceKey, dict[str, None]] = {}
    for key, parts in state.parts.items():
        for part in parts:
            if part.election is not None:
                found.setdefault(key, {})[part.election.winner] = None
    routed: dict[ServiceKey, set[str]] = {}
    for (key, _), names in all_bgp_announcers(state).items():
        routed.setdefault(key, set()).update(names)
    for key, those in routed.items():
        found.setdefault(key, {}).update(dict.fromkeys(sorted(those)))
    return {key: tuple(names) for key, names in found.items() if names}
