"""A speaker among four nodes, for tests of drains and planned moves."""

from __future__ import annotations

from lbcore import announcement
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.config import L2Advertisement, Pool
from lbcore.election import rank
from lbcore.events import (
    AnsweringSeen,
    ConfigSeen,
    Event,
    LinksSeen,
    Listed,
    MembersSeen,
    NodeSeen,
    ServiceSeen,
    SliceSeen,
)
from lbcore.model import Endpoint, EndpointSlice, Node, Service, SliceKey
from worlds import ALL_KINDS, Desk, document, ipv6, link, plain_service

__all__ = ["ADVERT", "NAMES", "WEB", "order_of", "told", "with_endpoints"]

NAMES = ("n1", "n2", "n3", "n4")
ADVERT = L2Advertisement(name="all")
WEB = plain_service("web", held=(ipv6(1),))


def order_of(address: Address) -> list[str]:
    return list(rank(NAMES, address))


def told(*events: Event, node: str = "n1", **chosen: object) -> Desk[AnnouncementState]:
    """A speaker that knows four members and Nodes, a pool and an advertisement for all, at rest."""
    settings: dict[str, object] = {"node": node, **chosen}
    desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(**settings)))  # type: ignore[arg-type]
    pool = Pool.parse("p", "10.0.0.0/24", "2001:db8::/64")
    config: list[Event] = [ConfigSeen(document(pool)), ConfigSeen(document(ADVERT))]
    nodes = [NodeSeen(Node(name=name)) for name in NAMES]
    listed = [Listed(kind) for kind in ALL_KINDS]
    desk.feed(AnsweringSeen(()), LinksSeen((link("eth0", 2),)), MembersSeen(frozenset(NAMES)), *config, *nodes, *events)
    desk.settle(until=1.0)  # the configuration's quiet time, and not a drain's
    desk.run(*listed)
    return desk


def with_endpoints(service: Service, *nodes: str) -> list[Event]:
    ends = tuple(Endpoint(addresses=("fd00::9",), node=node) for node in nodes)
    key = SliceKey(service.key.namespace, f"of-{service.key.name}")
    return [ServiceSeen(service), SliceSeen(EndpointSlice(key=key, service=service.key.name, endpoints=ends))]
