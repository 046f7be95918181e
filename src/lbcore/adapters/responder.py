"""The Layer 2 engine: which requests are answered on which link, and when the segment is told unasked.

Commands are the intents `SetLinks`, `Announce`, `AnnounceAnew` and `Withdraw`; frames come in with the index of
their link; outputs are frames to send (`Send`, where = interface index) and reports of other
stations that speak for an address of ours. RFC 826, 4861 and 5227; the timing of announcements is
lbcore's own. No socket and no clock: `now` is an argument everywhere, in seconds.
"""

from __future__ import annotations

import random
from heapq import heapify, heappop, heappush
from itertools import count, islice
from typing import Final

from attrs import Factory, define, frozen

from lbcore.adapters import arp, ndp
from lbcore.adapters.base import Output, Report, Send
from lbcore.adapters.counts import AddressCount
from lbcore.adapters.ethernet import BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV6, NO_MAC
from lbcore.addresses import Address
from lbcore.errors import RemoteProtocolError
from lbcore.events import AddressHeard
from lbcore.intents import Announce, AnnounceAnew, SetLinks, Withdraw
from lbcore.model import Link

__all__ = ["SCHEDULE", "SLICE", "Responder", "Statistics"]

# Seconds after a take-over at which every client is told. The first repetitions are for frames lost
# while switches learn; those after 1.1 s are for Linux, which for `locktime` (1 s) after an update
# believes no second one; the last is for a bond or a spanning tree that takes seconds to settle.
SCHEDULE: Final = (0.0, 0.1, 0.3, 1.2, 2.4, 4.8)
REFRESH: Final = 60.0  # switches forget a silent MAC after 300 s, routers an ARP entry only after 1200 s
JITTER: Final = 0.1  # of the refresh, so that a thousand addresses do not speak in one breath for ever

SLICE: Final = 250  # announcements a tick, some 3 ms: nobody who asks meanwhile waits longer

DEFEND_INTERVAL: Final = 10.0  # RFC 5227 section 1.1
DEFEND_AFTER: Final = 2.0  # a younger claim is a hand-over: the old owner has not heard of it yet
YIELD: Final = 5.0  # after which a claim that was to be taken over, and was not, is held again like any other
REPORT_INTERVAL: Final = 1.0  # for one address and one foreign MAC
REPORTS_REMEMBERED: Final = 256  # a station that makes up MACs costs this much memory and no more


@frozen(kw_only=True)
class Statistics:
    """Counters since the start.

    `gratuitous` counts frames, `heard` foreign frames that spoke for an address of ours, and
    `malformed` frames that broke the protocol (IPv6 ones only where they named an address of ours).
    """

    arp_answered: int
    ndp_answered: int
    gratuitous: int
    malformed: int
    heard: int


@define(eq=False)
class _Round:
    """The announcements of one address on the link `index`, from `began` on; the heap holds the next one.

    `owed` is set where the next one is an answer to another station, held back because of the defence
    at that time; a later defence has given it already.
    """

    claim: _Claim
    index: int
    began: float
    step: int = 0
    cancelled: bool = False
    owed: float | None = None


@define(eq=False)
class _Claim:
    """An address that is answered for since `since`; `rounds` has an entry for each link that speaks for it.

    Until `yields_until` another station is to take it over: nobody is told of us, or contradicted.
    """

    address: Address
    since: float
    names: tuple[str, ...] = ()
    defended: float = float("-inf")
    yields_until: float = float("-inf")
    rounds: dict[int, _Round] = Factory(dict)
    grouped: tuple[int, ...] = ()  # the links whose groups count this address
    requests: int = 0
    responses: int = 0
    gratuitous: int = 0


@define(eq=False)
class _Port:
    """A link of the newest `SetLinks`. `groups` counts the addresses of each solicited-node group."""

    link: Link
    mac: bytes
    arp: bool
    ndp: bool
    groups: dict[Address, int] = Factory(dict)

    def speaks(self, version: int) -> bool:
        """Whether ARP (4) or NDP (6) goes over this link now."""
        return self.arp if version == 4 else self.ndp


class Responder:
    """Answers for addresses, tells the segment of them, and hears who else does.

    `schedule` are seconds after a claim begins on a link; afterwards it is repeated every `refresh`
    seconds, 10 % more or less by `rng`, or never when `refresh` is None.
    """

    def __init__(
        self, *, rng: random.Random, schedule: tuple[float, ...] = SCHEDULE, refresh: float | None = REFRESH
    ) -> None:
        self._rng = rng
        self._schedule = schedule
        self._refresh = refresh
        self._ports: dict[int, _Port] = {}
        self._macs: frozenset[bytes] = frozenset()
        self._claims: dict[bytes, _Claim] = {}  # by packed address, as it stands in a frame
        self._heap: list[tuple[float, int, _Round]] = []
        self._sequence = count()
        self._live = 0  # rounds in the heap that are not cancelled
        self._reported: dict[tuple[Address, bytes], float] = {}  # oldest first
        self._counted: dict[bytes, _Claim] = {}  # whose counts have changed since they were told, longest ago first
        self._arp_answered = self._ndp_answered = self._gratuitous = self._malformed = self._heard = 0

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do; None while nothing is to be announced."""
        while self._heap and self._heap[0][2].cancelled:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def answering(self) -> tuple[tuple[Address, tuple[str, ...]], ...]:
        """Every claimed address with the names of its links (empty: every link), sorted."""
        return tuple(sorted((claim.address, claim.names) for claim in self._claims.values()))

    @property
    def statistics(self) -> Statistics:
        """The counters now."""
        return Statistics(
            arp_answered=self._arp_answered,
            ndp_answered=self._ndp_answered,
            gratuitous=self._gratuitous,
            malformed=self._malformed,
            heard=self._heard,
        )

    def counts(self, most: int) -> tuple[AddressCount, ...]:
        """The counts of at most so many addresses for which they have changed since they were told."""
        told = [self._counted.pop(key) for key in tuple(islice(self._counted, most))]
        return tuple(
            AddressCount(
                address=claim.address,
                requests=claim.requests,
                responses=claim.responses,
                gratuitous=claim.gratuitous,
            )
            for claim in told
        )

    def recount(self) -> None:
        """Tell the counts of every address anew: somebody listens who has heard none yet."""
        self._counted = dict(self._claims)

    def groups(self, link: int) -> frozenset[Address]:
        """The solicited-node groups that the link with this index must have joined now."""
        port = self._ports.get(link)
        return frozenset() if port is None else frozenset(port.groups)

    def command(self, intent: SetLinks | Announce | AnnounceAnew | Withdraw, now: float) -> list[Output[int]]:
        """Carry out an intent; one that changes nothing sends nothing, but for `AnnounceAnew`, which is for that."""
        match intent:
            case SetLinks():
                return self._set_links(intent.links, now)
            case Announce():
                return self._announce(intent, now)
            case AnnounceAnew():
                self._announce_anew(now)
                return []
            case Withdraw():
                self._withdraw(intent.address)
                return []

    def receive(self, frame: bytes, link: int, now: float) -> list[Output[int]]:
        """Take a frame that arrived on the link with this index; frames of no concern cost next to nothing."""
        port = self._ports.get(link)
        if port is None or frame[6:12] in self._macs:
            return []
        ethertype = frame[12:14]
        if ethertype == ETHERTYPE_ARP:
            return self._receive_arp(frame, port, now) if port.arp else []
        if ethertype == ETHERTYPE_IPV6:
            return self._receive_ndp(frame, port, now) if port.ndp else []
        return []

    def tick(self, now: float) -> list[Output[int]]:
        """Send the announcements that are due, at most `SLICE`; `deadline` stays past while some are left.

        A late tick sends each once and skips what it missed.
        """
        outputs: list[Output[int]] = []
        for _ in range(SLICE):
            deadline = self.deadline
            if deadline is None or deadline > now:
                break
            _, _, due = heappop(self._heap)
            self._live -= 1
            outputs += self._tell_due(due, now)
            self._plan(due, now)
        return outputs

    def _tell_due(self, due: _Round, now: float) -> list[Output[int]]:
        owed, due.owed = due.owed, None
        if owed is not None:
            if owed != due.claim.defended:
                return []
            due.claim.defended = now
        return self._tell(due.claim, self._ports[due.index])

    # Commands

    def _set_links(self, links: tuple[Link, ...], now: float) -> list[Output[int]]:
        old, self._ports = self._ports, {link.index: _port(link) for link in links}
        self._macs = frozenset(port.mac for port in self._ports.values() if port.mac)
        renewed = {index for index, port in self._ports.items() if index in old and old[index].mac != port.mac}
        outputs: list[Output[int]] = []
        for claim in self._claims.values():
            claim.grouped = ()
            outputs += self._reconcile(claim, now, renewed)
        return outputs

    def _announce(self, intent: Announce, now: float) -> list[Output[int]]:
        key = intent.address.packed
        claim = self._claims.get(key)
        if claim is None and intent.yielding:
            return []  # meant for a process that is no more: who gives an address up takes none
        if claim is None:
            claim = self._claims[key] = _Claim(intent.address, now)
        claim.names = tuple(sorted(set(intent.interfaces)))
        claim.yields_until = now + YIELD if intent.yielding else float("-inf")
        outputs = self._reconcile(claim, now, set())
        return [*outputs, *self._ask(claim)] if intent.yielding else outputs

    def _announce_anew(self, now: float) -> None:
        """The schedule again, from its second entry on: whoever is to let go of an address has a moment to do so."""
        for claim in self._claims.values():
            for index in tuple(claim.rounds):
                self._cancel(claim, index)
                begun = claim.rounds[index] = _Round(claim, index, now)
                self._plan(begun, now)

    def _ask(self, claim: _Claim) -> list[Output[int]]:
        """Who else has this address by now? Whoever took it over before we knew is heard by its answer."""
        for pair in [pair for pair in self._reported if pair[0] == claim.address]:
            del self._reported[pair]
        ports = [port for port in self._ports.values() if _allows(claim, port) and port.speaks(claim.address.version)]
        if claim.address.version == 6:
            return [Send(ndp.encode(ndp.duplicate_check(claim.address, port.mac)), port.link.index) for port in ports]
        return [Send(arp.encode(arp.probe(claim.address, port.mac)), port.link.index) for port in ports]

    def _withdraw(self, address: Address) -> None:
        claim = self._claims.pop(address.packed, None)
        if claim is None:
            return
        self._counted.pop(address.packed, None)
        for index in tuple(claim.rounds):
            self._cancel(claim, index)
        self._group(claim, ())

    def _reconcile(self, claim: _Claim, now: float, renewed: set[int]) -> list[Output[int]]:
        """Let exactly the links speak that should; one that starts to, or was `renewed`, tells the segment."""
        version = claim.address.version
        allowed = [index for index, port in self._ports.items() if _allows(claim, port)]
        self._group(claim, tuple(allowed))
        yielding = now < claim.yields_until
        wanted = [] if yielding else [index for index in allowed if self._ports[index].speaks(version)]
        for index in [index for index in claim.rounds if index not in wanted or index in renewed]:
            self._cancel(claim, index)
        outputs: list[Output[int]] = []
        for index in wanted:
            if index not in claim.rounds:
                outputs += self._begin(claim, index, now)
        return outputs

    def _group(self, claim: _Claim, links: tuple[int, ...]) -> None:
        """Count the claim in its solicited-node group on these links, and no longer on others."""
        if claim.address.version == 4:
            return
        group = ndp.solicited_node(claim.address)
        for index in claim.grouped:
            groups = self._ports[index].groups
            groups[group] -= 1
            if not groups[group]:
                del groups[group]
        for index in links:
            groups = self._ports[index].groups
            groups[group] = groups.get(group, 0) + 1
        claim.grouped = links

    # The schedule

    def _begin(self, claim: _Claim, index: int, now: float) -> list[Output[int]]:
        begun = claim.rounds[index] = _Round(claim, index, now)
        first = self._tell(claim, self._ports[index]) if self._schedule and self._schedule[0] <= 0 else []
        self._plan(begun, now)
        return first

    def _plan(self, pending: _Round, now: float) -> None:
        """Put the next announcement after `now` in the heap, if there is one."""
        while pending.step < len(self._schedule) and pending.began + self._schedule[pending.step] <= now:
            pending.step += 1
        if pending.step < len(self._schedule):
            due = pending.began + self._schedule[pending.step]
        elif self._refresh is not None:
            due = now + self._refresh * self._rng.uniform(1 - JITTER, 1 + JITTER)
        else:
            return
        heappush(self._heap, (due, next(self._sequence), pending))
        self._live += 1

    def _cancel(self, claim: _Claim, index: int) -> None:
        cancelled = claim.rounds.pop(index)
        cancelled.cancelled = True
        if self._refresh is not None or cancelled.step < len(self._schedule) or cancelled.owed is not None:
            self._live -= 1
        # A flapping link cancels faster than due times pass: sweep before the heap outgrows its content.
        if len(self._heap) > 64 + 2 * self._live:
            self._heap = [entry for entry in self._heap if not entry[2].cancelled]
            heapify(self._heap)

    def _tell(self, claim: _Claim, port: _Port) -> list[Output[int]]:
        """The announcement of one address on one link: both forms of ARP, or an advertisement."""
        index, mac = port.link.index, port.mac
        self._counted[claim.address.packed] = claim
        if claim.address.version == 6:
            self._gratuitous += 1
            claim.gratuitous += 1
            return [Send(ndp.encode(ndp.unsolicited(claim.address, mac)), index)]
        self._gratuitous += 2
        claim.gratuitous += 2
        return [
            Send(arp.encode(arp.gratuitous_request(claim.address, mac)), index),
            Send(arp.encode(arp.gratuitous_reply(claim.address, mac)), index),
        ]

    # Frames

    def _receive_arp(self, frame: bytes, port: _Port, now: float) -> list[Output[int]]:
        outputs: list[Output[int]] = []
        if frame[28:32] in self._claims or not arp.is_plain_request(frame):
            try:
                packet = arp.decode(frame)
            except RemoteProtocolError:
                self._malformed += 1
                return []
            outputs = self._hear(packet.sender, packet.sender_mac, port, now)
            if packet.operation is arp.Operation.REPLY or packet.is_announcement:
                return outputs
        asked = frame[38:42]
        claim = self._claims.get(asked)
        if claim is None or frame[:6] not in (BROADCAST, port.mac):
            return outputs
        claim.requests += 1
        self._counted[asked] = claim
        if not _allows(claim, port):
            return outputs
        claim.responses += 1
        self._arp_answered += 1
        outputs.append(Send(arp.answer(frame, port.mac), port.link.index))
        return outputs

    def _receive_ndp(self, frame: bytes, port: _Port, now: float) -> list[Output[int]]:
        if frame[62:78] not in self._claims and frame[22:38] not in self._claims:
            return []  # neither target nor source is ours: not worth a checksum
        if not frame[0] & 1 and frame[:6] != port.mac:
            return []
        try:
            packet = ndp.decode(frame)
        except RemoteProtocolError:
            self._malformed += 1
            return []
        mac = packet.link_layer or packet.source_mac
        if isinstance(packet, ndp.NeighborAdvertisement):
            return self._hear(packet.target, mac, port, now)
        outputs = self._hear(packet.source, mac, port, now)
        asked = packet.target.packed
        claim = self._claims.get(asked)
        if claim is None:
            return outputs
        claim.requests += 1
        self._counted[asked] = claim
        if not _allows(claim, port):
            return outputs
        claim.responses += 1
        self._ndp_answered += 1
        outputs.append(Send(ndp.encode(ndp.advertisement_for(packet, port.mac)), port.link.index))
        return outputs

    # Other stations that speak for our addresses

    def _hear(self, address: Address, mac: bytes, port: _Port, now: float) -> list[Output[int]]:
        claim = self._claims.get(address.packed)
        if claim is None or mac in self._macs or not _allows(claim, port):
            return []
        self._heard += 1
        outputs: list[Output[int]] = []
        if self._is_news(address, mac, now):
            outputs.append(Report(AddressHeard(address=address, mac=mac, link=port.link.name)))
        if now - claim.since < DEFEND_AFTER or now < claim.yields_until:
            return outputs
        if now - claim.defended >= DEFEND_INTERVAL:
            claim.defended = now
            outputs += self._tell(claim, port)
        else:
            self._defend_later(claim, port.link.index)
        return outputs

    def _defend_later(self, claim: _Claim, index: int) -> None:
        """Have the last word: a station that spoke after our defence and then gave way is still believed."""
        pending = claim.rounds.get(index)
        if pending is None or pending.owed is not None or pending.step < len(self._schedule):
            return  # an announcement is to come soon anyway
        self._cancel(claim, index)
        owed = claim.rounds[index] = _Round(claim, index, pending.began, pending.step, owed=claim.defended)
        heappush(self._heap, (claim.defended + DEFEND_INTERVAL, next(self._sequence), owed))
        self._live += 1

    def _is_news(self, address: Address, mac: bytes, now: float) -> bool:
        """Whether this pair was not reported within the last second, and there is room to remember it."""
        while self._reported:
            oldest = next(iter(self._reported))
            if now - self._reported[oldest] < REPORT_INTERVAL:
                break
            del self._reported[oldest]
        if (address, mac) in self._reported or len(self._reported) >= REPORTS_REMEMBERED:
            return False
        self._reported[address, mac] = now
        return True


def _port(link: Link) -> _Port:
    # A tunnel has no MAC, a loopback an empty one: nobody there asks on Layer 2.
    usable = link.up and link.carrier and not link.loopback and len(link.mac) == 6 and link.mac != NO_MAC
    # NOARP switches off both protocols, as for MetalLB; a link without broadcast still has multicast.
    return _Port(link, link.mac, arp=usable and link.arp and link.broadcast, ndp=usable and link.arp)


def _allows(claim: _Claim, port: _Port) -> bool:
    return not claim.names or port.link.name in claim.names
