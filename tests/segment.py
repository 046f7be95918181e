"""An Ethernet segment in memory: responders joined to each other and to a client that keeps a cache."""

from __future__ import annotations

import random
from collections.abc import Iterable

from attrs import Factory, define

from lbcore.adapters import arp, ndp
from lbcore.adapters.arp import ArpPacket, Operation
from lbcore.adapters.base import Output, Report, Send
from lbcore.adapters.ndp import NeighborAdvertisement, NeighborSolicitation
from lbcore.adapters.responder import Responder
from lbcore.addresses import Address
from lbcore.events import AddressHeard
from lbcore.intents import Announce, SetLinks, Withdraw
from lbcore.model import Link

__all__ = ["CLIENT4", "CLIENT6", "CLIENT_MAC", "Node", "Segment", "announced", "frames", "heard", "question"]

CLIENT_MAC = bytes.fromhex("0200000000cc")
CLIENT4, CLIENT6 = Address.parse("192.0.2.2"), Address.parse("2001:db8::2")

Packet = ArpPacket | NeighborSolicitation | NeighborAdvertisement


def packet(frame: bytes) -> Packet:
    """The frame as a value."""
    return arp.decode(frame) if frame[12:14] == b"\x08\x06" else ndp.decode(frame)


def frames(outputs: Iterable[Output[int]]) -> list[tuple[int, Packet]]:
    """The sent frames, decoded, each with its link."""
    return [(output.where, packet(output.data)) for output in outputs if isinstance(output, Send)]


def heard(outputs: Iterable[Output[int]]) -> list[AddressHeard]:
    """What was reported; the engine reports nothing else."""
    events = [output.event for output in outputs if isinstance(output, Report)]
    return [event for event in events if isinstance(event, AddressHeard)]


def announced(outputs: Iterable[Output[int]]) -> list[tuple[Address, int]]:
    """What everybody was told unasked: address and link, once for the two forms of ARP together."""
    told: list[tuple[Address, int]] = []
    for link, sent in frames(outputs):
        if isinstance(sent, ArpPacket) and sent.is_announcement and sent.operation is Operation.REQUEST:
            told.append((sent.sender, link))
        if isinstance(sent, NeighborAdvertisement) and not sent.solicited:
            told.append((sent.target, link))
    return told


def question(
    address: Address, *, probe: bool = False, destination: bytes | None = None, mac: bytes = CLIENT_MAC
) -> bytes:
    """A client's question for an address of either family; a `probe` is of one who wants to take it."""
    if address.version == 4:
        asked = ArpPacket(
            operation=Operation.REQUEST,
            sender_mac=mac,
            sender=Address(4, 0) if probe else CLIENT4,
            target_mac=bytes(6),
            target=address,
            destination=destination or b"\xff" * 6,
            source=mac,
        )
        return arp.encode(asked)
    group = ndp.solicited_node(address)
    return ndp.encode(
        NeighborSolicitation(
            source=ndp.UNSPECIFIED if probe else CLIENT6,
            destination=group,
            target=address,
            source_mac=mac,
            destination_mac=destination or ndp.multicast_mac(group),
            link_layer=None if probe else mac,
        )
    )


@define
class Node:
    """A responder with one link into the segment."""

    name: str
    mac: bytes
    responder: Responder = Factory(lambda: Responder(rng=random.Random(1)))
    heard: list[AddressHeard] = Factory(list)
    sent: int = 0

    @property
    def link(self) -> Link:
        """Its only link."""
        return Link(index=2, name="eth0", mac=self.mac)


class Segment:
    """Joins nodes; a frame reaches everybody else before the next one is sent."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.now = 0.0
        self.cache: dict[Address, bytes] = {}  # the client's: it believes whoever spoke last
        for node in nodes:
            self.tell(node, SetLinks(links=(node.link,)))

    def tell(self, node: Node, intent: SetLinks | Announce | Withdraw) -> None:
        """Command one node."""
        self._carry(node, node.responder.command(intent, self.now))

    def ask(self, address: Address) -> list[Packet]:
        """The client's question, and what it hears in return."""
        before = {id(node): node.sent for node in self.nodes}
        answers: list[Packet] = []
        for node in self.nodes:
            outputs = node.responder.receive(question(address), 2, self.now)
            answers += [sent for _, sent in frames(outputs)]
            self._carry(node, outputs)
        assert len(answers) == sum(node.sent - before[id(node)] for node in self.nodes)
        return answers

    def run_until(self, moment: float) -> None:
        """Let time pass, deadline by deadline."""
        while (due := self._next()) is not None and due[0] <= moment:
            self.now = due[0]
            self._carry(due[1], due[1].responder.tick(self.now))
        self.now = moment

    def _next(self) -> tuple[float, Node] | None:
        pending = [(node.responder.deadline, node) for node in self.nodes]
        dated = [(deadline, node) for deadline, node in pending if deadline is not None]
        return min(dated, key=lambda entry: entry[0], default=None)

    def _carry(self, sender: Node, outputs: list[Output[int]]) -> None:
        sender.heard += heard(outputs)
        for output in outputs:
            if not isinstance(output, Send):
                continue
            sender.sent += 1
            self._cache(packet(output.data))
            for other in self.nodes:
                if other is not sender:
                    self._carry(other, other.responder.receive(output.data, 2, self.now))

    def _cache(self, sent: Packet) -> None:
        if isinstance(sent, ArpPacket):
            self.cache[sent.sender] = sent.sender_mac
        elif isinstance(sent, NeighborAdvertisement) and sent.link_layer is not None and sent.override:
            self.cache[sent.target] = sent.link_layer
