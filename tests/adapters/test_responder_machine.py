"""The Layer 2 engine under any history, against a model that knows only what should be true now."""

from __future__ import annotations

import random

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lbcore.adapters import ndp
from lbcore.adapters.arp import ArpPacket
from lbcore.adapters.base import Output
from lbcore.adapters.responder import Responder
from lbcore.addresses import Address
from lbcore.intents import Announce, AnnounceAnew, SetLinks, Withdraw
from lbcore.model import Link
from segment import announced, frames, question

ADDRESSES = tuple(
    Address.parse(text) for text in ("2001:db8::11", "2001:db8:1::11", "2001:db8::12", "192.0.2.11", "192.0.2.12")
)
NAMES = ("eth0", "eth1", "eth2")
links = st.builds(
    Link,
    index=st.just(0),
    name=st.just(""),
    mac=st.just(b""),
    up=st.booleans() | st.just(True),
    carrier=st.booleans() | st.just(True),
    broadcast=st.booleans() | st.just(True),
    arp=st.booleans() | st.just(True),
)


class ResponderMachine(RuleBasedStateMachine):
    """Links come, go, flap and change their MAC; addresses come and go; time passes, on time or late."""

    def __init__(self) -> None:
        super().__init__()
        self.responder = Responder(rng=random.Random(1))
        self.now = 0.0
        self.links: dict[int, Link] = {}
        self.claims: dict[Address, tuple[str, ...]] = {}

    def allowed(self, address: Address, link: Link) -> bool:
        names = self.claims.get(address)
        return names is not None and (not names or link.name in names)

    def usable(self, address: Address, link: Link) -> bool:
        return link.up and link.carrier and link.arp and (link.broadcast or address.version == 6)

    def speaking(self) -> set[tuple[Address, int]]:
        """The pairs of address and link for which the engine should answer."""
        return {
            (address, link.index)
            for address in self.claims
            for link in self.links.values()
            if self.allowed(address, link) and self.usable(address, link)
        }

    def check(self, outputs: list[Output[int]]) -> None:
        """Whatever was sent speaks for a claimed address, on a link where it may, with that link's MAC."""
        for where, packet in frames(outputs):
            assert not isinstance(packet, ndp.NeighborSolicitation)
            about = packet.sender if isinstance(packet, ArpPacket) else packet.target
            says = packet.sender_mac if isinstance(packet, ArpPacket) else packet.link_layer
            assert (about, where) in self.speaking()
            assert self.links[where].mac == says

    @rule(given=st.lists(links, max_size=3), last=st.integers(1, 2))
    def set_links(self, given: list[Link], last: int) -> None:
        before, macs = self.speaking(), {index: link.mac for index, link in self.links.items()}
        self.links = {
            index: evolve(link, index=index, name=NAMES[index - 2], mac=bytes((2, 0, 0, 0, index, last)))
            for index, link in enumerate(given, start=2)
        }
        outputs = self.responder.command(SetLinks(links=tuple(self.links.values())), self.now)
        self.check(outputs)
        new = {
            (address, index)
            for address, index in self.speaking()
            if (address, index) not in before or macs[index] != self.links[index].mac
        }
        assert sorted(new) == sorted(announced(outputs))

    @rule(address=st.sampled_from(ADDRESSES), names=st.lists(st.sampled_from(NAMES), unique=True, max_size=2))
    def announce(self, address: Address, names: list[str]) -> None:
        before = self.speaking()
        self.claims[address] = tuple(sorted(names))
        outputs = self.responder.command(Announce(address=address, interfaces=tuple(names)), self.now)
        self.check(outputs)
        assert sorted(self.speaking() - before) == sorted(announced(outputs))

    @rule(address=st.sampled_from(ADDRESSES))
    def withdraw(self, address: Address) -> None:
        self.claims.pop(address, None)
        assert [] == self.responder.command(Withdraw(address=address), self.now)

    @rule()
    def announce_anew(self) -> None:
        assert [] == self.responder.command(AnnounceAnew(1), self.now)

    @rule(address=st.sampled_from(ADDRESSES), index=st.integers(2, 4), probe=st.booleans())
    def ask(self, address: Address, index: int, probe: bool) -> None:
        outputs = self.responder.receive(question(address, probe=probe), index, self.now)
        self.check(outputs)
        assert ((address, index) in self.speaking()) == (len(outputs) == 1)

    @rule(seconds=st.floats(0, 200))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.responder.deadline) is not None and deadline <= end:
            assert deadline >= self.now
            self.now = deadline
            outputs = self.responder.tick(self.now)
            self.check(outputs)
            assert outputs  # never woken for nothing
        self.now = end

    @rule(seconds=st.floats(0, 200))
    def a_late_tick(self, seconds: float) -> None:
        self.now += seconds
        outputs = self.responder.tick(self.now)
        self.check(outputs)
        told = announced(outputs)
        assert len(set(told)) == len(told)  # each once, however late

    @precondition(lambda self: self.links)
    @rule()
    def everybody_is_told_within_a_refresh(self) -> None:
        told: set[tuple[Address, int]] = set()
        end = self.now + 66.0
        while (deadline := self.responder.deadline) is not None and deadline <= end:
            told |= set(announced(self.responder.tick(deadline)))
            self.now = max(self.now, deadline)
        self.now = end
        assert self.speaking() == told

    @invariant()
    def it_says_truly_what_it_answers_for(self) -> None:
        assert tuple(sorted(self.claims.items())) == self.responder.answering

    @invariant()
    def it_asks_for_exactly_the_groups_it_needs(self) -> None:
        for index in (2, 3, 4):
            wanted = {
                ndp.solicited_node(address)
                for address in self.claims
                if address.version == 6 and index in self.links and self.allowed(address, self.links[index])
            }
            assert wanted == self.responder.groups(index)

    @invariant()
    def it_wants_to_be_woken_as_long_as_it_speaks(self) -> None:
        assert bool(self.speaking()) == (self.responder.deadline is not None)


TestResponder = ResponderMachine.TestCase
TestResponder.settings = settings(stateful_step_count=40)
