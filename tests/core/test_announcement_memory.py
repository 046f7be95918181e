"""What a speaker remembers may not decide: one that saw it all and one just born agree on every announcer."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from lbcore import announcement
from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState
from lbcore.config import ConfigDocument, L2Advertisement, Origin, Pool
from lbcore.events import (
    AnsweringSeen,
    ConfigSeen,
    Event,
    Kind,
    LinksSeen,
    Listed,
    MembersSeen,
    NodeSeen,
    ServiceSeen,
    SliceSeen,
)
from lbcore.intents import Announce, Withdraw
from lbcore.model import Endpoint, EndpointSlice, Link, Node, Service, ServiceKey, SliceKey
from worlds import Desk

NODES = ("node-a", "node-b", "node-c", "node-d")
WEB = Service(key=ServiceKey("default", "web"), uid="1")


def surroundings() -> list[Event]:
    pool = Pool.parse("pool", "10.0.0.0/24", "2001:db8::/120")
    advert = L2Advertisement(name="all")
    resources = (pool, advert)
    link = Link(index=1, name="eth0", mac=b"\x02\0\0\0\0\1")
    slice_ = EndpointSlice(
        key=SliceKey("default", "web-1"), service="web", endpoints=(Endpoint(addresses=("10.1.0.1",)),)
    )
    return [
        *(NodeSeen(Node(name=name)) for name in NODES),
        *(
            ConfigSeen(ConfigDocument(origin=Origin(kind="T", namespace="", name=each.name), resources=(each,)))
            for each in resources
        ),
        SliceSeen(slice_),
        LinksSeen((link,)),
        AnsweringSeen(()),
        MembersSeen(frozenset(NODES)),
    ]


def announced_by(node: str, events: list[Event]) -> set[Address]:
    """What a speaker answers for after a history that ends with everything listed, when hand-overs are over."""
    desk = Desk(announcement.step, AnnouncementState(settings=AnnouncementSettings(node=node)))
    held: set[Address] = set()
    for intent in [*desk.feed(*events), *desk.settle(until=10.0)]:
        if isinstance(intent, Announce):
            held.add(intent.address)
        if isinstance(intent, Withdraw):
            held.discard(intent.address)
    return held


addresses = st.integers(0, 15).map(lambda n: Address.parse(f"10.0.0.{n}"))
addresses_v6 = st.integers(0, 15).map(lambda n: Address.parse(f"2001:db8::{n:x}"))


@given(st.lists(st.tuples(addresses, addresses_v6), min_size=1, max_size=4))
def test_a_speaker_that_saw_every_change_agrees_with_one_just_born(histories: list[tuple[Address, Address]]) -> None:
    listed: list[Event] = [Listed(kind) for kind in Kind]
    seen: list[Event] = [ServiceSeen(evolve(WEB, held=held)) for held in histories]
    old = {node: announced_by(node, [*surroundings(), *listed, *seen]) for node in NODES}
    new = {node: announced_by(node, [*surroundings(), seen[-1], *listed]) for node in NODES}
    assert new == old
    assert sorted(histories[-1]) == sorted(address for held in new.values() for address in held)
