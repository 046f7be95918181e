"""A pretend router: the same BGP and BFD engines as the nodes', and what it learns in each session.

It waits to be called (or calls, too), takes everything, and helps those who restart gracefully: when a session
breaks without a word, its routes stay for `RESTART_TIME` seconds or until the node has told all again (RFC 4724
section 4.2). A NOTIFICATION, of either side, ends that at once, and so does BFD.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Protocol

from attrs import define, field, frozen

from lbcore.adapters.bfd.engine import Origin, Way
from lbcore.adapters.bgp.connection import LocalEnd, SessionSettings
from lbcore.adapters.bgp.messages import RouteRefresh as Refresh
from lbcore.adapters.bgp.messages import encode_route_refresh, kinds_of
from lbcore.adapters.bgp.notifications import Cease, cease
from lbcore.adapters.bgp.session import Session
from lbcore.addresses import Address, Family
from lbcore.bfd import Watch
from lbcore.events import PeerSeen, WatchSeen
from lbcore.simulation.carried import Carried
from lbcore.simulation.clock import Clock, Trace
from lbcore.simulation.rib import NOTIFICATION, UPDATE, Reading, Rib, Route
from lbcore.simulation.watching import Peace, Watching
from lbcore.simulation.wires import Answer, Dialing, Host, Plug, Wires

__all__ = ["RESTART_TIME", "Hearer", "Neighbor", "Router", "RouterSettings"]

RESTART_TIME = 120.0  # seconds, what our speakers ask for


class Hearer(Protocol):
    """Who is told what routers learn: the judge."""

    def withdrawn(self, router: str, node: str, version: int, prefix: str, route: Route) -> None:
        """A route was taken back in a session that goes on."""
        ...

    def fell(self, router: str, node: str, version: int) -> None:
        """A session that was up has ended."""
        ...

    def lost(self, router: str, node: str, version: int, count: int) -> None:
        """So many routes of a session went without being taken back."""
        ...


@frozen(kw_only=True)
class RouterSettings:
    """How a router is configured. Addresses by IP version; `calls`: it connects to the nodes as well."""

    name: str
    asn: int
    node_asn: int
    router_id: Address
    addresses: dict[int, Address]
    password: str
    hold_time: int
    calls: bool


@define(eq=False)
class Neighbor:
    """What a router has of one node over one IP version."""

    router: Router
    node: Host
    address: Address
    carried: Carried = field(init=False)
    watching: Watching = field(init=False)
    rib: Rib = field(factory=Rib)
    up: bool = False
    keeps: bool = False
    word: bool = False  # a NOTIFICATION was sent or heard
    stale_since: float | None = None
    hold_time: int = 90
    _failed: bool = False
    _readings: dict[Plug, Reading] = field(factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """The node, and the IP version."""
        return self.node.name, self.address.version

    def begin(self) -> None:
        """The router starts."""
        router, clock = self.router, self.router.clock
        families = frozenset(Family)
        settings = SessionSettings(
            asn=router.settings.asn,
            peer_asn=router.settings.node_asn,
            families=families,
            hold_time=router.settings.hold_time,
            restart_time=int(RESTART_TIME),
            has_password=bool(router.settings.password),
        )
        own = router.settings.addresses
        local = LocalEnd(over=self.address.family, router_id=router.settings.router_id, ipv4=own[4], ipv6=own[6])
        self.rib, self.up, self.keeps, self.word, self.stale_since = Rib(), False, False, False, None
        self._readings.clear()
        self._failed = False
        self.carried = Carried(
            Session(self.node.name, settings, router.dice()),
            clock,
            router.wires,
            local,
            is_awake=lambda: router.is_awake,
            tell=self._look,
            dialing=self._dialing if router.settings.calls else None,
            heard=self._read,
            said=self._note_word,
        )
        self.watching = Watching(
            clock,
            router.peace,
            router.dice(),
            is_awake=lambda: router.is_awake,
            send=self._send,
            report=self._see_watch,
            waits=True,
        )
        self.watching.set([Watch(peer=self.node.name, address=self.address, passive=True)])
        self.carried.start()

    def end(self, *, power: bool) -> None:
        """The router's daemon is gone, or with `power` False all of the router."""
        self.watching.die()
        if power:
            self.carried.die()
        else:
            self.carried.vanish()
        self.rib, self.up, self.stale_since = Rib(), False, None

    # BGP

    def _dialing(self, connected: Callable[[Plug], None], failed: Callable[[str], None]) -> Dialing:
        password = self.router.settings.password
        return Dialing(self.router, self.node, self.address.version, password, connected, failed)

    def _note_word(self, data: bytes) -> None:
        self.word |= NOTIFICATION in kinds_of(data)

    def _read(self, plug: Plug, data: bytes) -> None:
        for kind, body in self._readings.setdefault(plug, Reading()).feed(data):
            if kind == NOTIFICATION:
                self.word = True
            if kind == UPDATE:
                for prefix, route in self.rib.take(body):
                    self.router.hearer.withdrawn(self.router.name, *self.key, prefix, route)

    def _look(self, _event: PeerSeen) -> None:
        negotiated = self.carried.session.negotiated
        if negotiated is not None and not self.up:
            self.up, self.word = True, False
            self.keeps, self.hold_time = negotiated.keeps_routes, negotiated.hold_time
            self.stale_since = None
            restart = negotiated.peer.capabilities.graceful_restart
            kept = {family for family, forwards in restart.families if forwards} if restart is not None else set()
            for family in [
                each for each in Family if each not in kept
            ]:  # "MUST immediately remove all the stale routes", RFC 4724 section 4.2
                self.rib.drop_stale(family.version)
            self._note("up")
        elif negotiated is None and self.up:
            self.up = False
            self._readings = {plug: reading for plug, reading in self._readings.items() if plug.alive}
            self.router.hearer.fell(self.router.name, *self.key)
            if self.word or not self.keeps:
                self._drop()
            else:
                self._keep()
            self._note(f"down: {self.carried.session.status.error}")

    def _keep(self) -> None:
        self.rib.keep_for_now()
        self.stale_since = self.router.clock.now
        self.router.clock.after(RESTART_TIME, self._give_up, self.rib, self.stale_since)

    def _give_up(self, rib: Rib, since: float) -> None:
        if rib is self.rib and self.stale_since == since:
            self._drop()

    def _drop(self) -> None:
        self.stale_since = None
        if self.rib.routes:
            self.router.hearer.lost(self.router.name, *self.key, len(self.rib.routes))
        self.rib.routes.clear()

    def refresh(self) -> None:
        """Ask the node for everything again."""
        for plug in self._readings:
            for family in Family:
                plug.send(encode_route_refresh(Refresh(family)))

    def _note(self, what: str) -> None:
        node, version = self.key
        self.router.trace.add(self.router.name, f"session with {node} over IPv{version} {what}")

    # BFD

    def _send(self, _way: Way, data: bytes) -> None:
        source = self.router.settings.addresses[self.address.version]
        self.router.wires.datagram(
            self.router, self.node, lambda packet: self.router.reach(self.node.name, source, packet), data
        )

    def hear_bfd(self, data: bytes, *, multihop: bool) -> None:
        """A datagram of the node's."""
        origin = Origin(source=self.address, interface="eth0", ttl=255, multihop=multihop)
        self.watching.take(data, origin)

    def _see_watch(self, event: WatchSeen) -> None:
        failed = event.status is not None and event.status.failed
        if failed and not self._failed:
            self._note("lost, says BFD")
            self.carried.lose(cease(Cease.BFD_DOWN), "BFD")
            if not self.up:
                self._drop()  # what was kept for a restart
        self._failed = failed


class Router:
    """A machine with a BGP daemon, a neighbor for each node and IP version."""

    def __init__(
        self,
        settings: RouterSettings,
        clock: Clock,
        trace: Trace,
        wires: Wires,
        peace: Peace,
        rng: random.Random,
        hearer: Hearer,
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.clock = clock
        self.trace = trace
        self.wires = wires
        self.peace = peace
        self.hearer = hearer
        self.neighbors: dict[tuple[str, int], Neighbor] = {}
        self.powered = True
        self.frozen = False
        self.running = False
        # How a datagram gets to a node: the assembly knows.
        self.deliver: dict[str, BfdHearer] = {}
        self._rng = rng

    def dice(self) -> random.Random:
        """Dice of one's own."""
        return random.Random(self._rng.getrandbits(64))

    def add(self, node: Host, addresses: dict[int, Address]) -> None:
        """A node is configured as a neighbor, by each of its addresses."""
        for version, address in addresses.items():
            self.neighbors[node.name, version] = Neighbor(self, node, address)

    # The machine

    @property
    def is_awake(self) -> bool:
        """Whether it has power, and does not stand still."""
        return self.powered and not self.frozen

    def start(self) -> None:
        """Power, and the daemon."""
        self.powered = True
        if not self.running:
            self.trace.add(self.name, "started")
            self.running = True
            for neighbor in self.neighbors.values():
                neighbor.begin()
        self.wires.noted()

    def crash(self, *, power: bool) -> None:
        """The daemon is gone; with `power` False all of it."""
        self.trace.add(self.name, "daemon crashed" if power else "crashed")
        self.peace.rouse()
        if self.running:
            self.running = False
            for neighbor in self.neighbors.values():
                neighbor.end(power=power)
        self.powered = power
        self.frozen = False
        self.wires.noted()

    def freeze(self) -> None:
        """Nothing runs any more."""
        self.peace.rouse()
        self.trace.add(self.name, "frozen")
        self.frozen = True
        self.wires.noted()

    def thaw(self) -> None:
        """It goes on."""
        self.trace.add(self.name, "thawed")
        self.frozen = False
        if self.running:
            for neighbor in self.neighbors.values():
                neighbor.carried.resume()
                neighbor.watching.resume()
        self.wires.noted()

    # The network

    def knock(self, caller: str, version: int, password: str) -> Answer:
        """Whether somebody may connect."""
        if password != self.settings.password:
            return Answer.SILENCE
        return Answer.WELCOME if self.running else Answer.REFUSED

    def welcome(self, caller: str, version: int, plug: Plug) -> None:
        """A node has connected."""
        neighbor = self.neighbors.get((caller, version))
        if neighbor is not None and self.running and neighbor.carried.session.may_accept:
            neighbor.carried.accept(plug)
        else:
            plug.close()

    def hear_bfd(self, caller: str, version: int, data: bytes, *, multihop: bool) -> None:
        """A datagram of a node's."""
        if self.running:
            self.neighbors[caller, version].hear_bfd(data, multihop=multihop)

    def reach(self, node: str, source: Address, data: bytes) -> None:
        """A datagram of ours arrives at a node."""
        self.deliver[node].hear_bfd(source, data)

    def sessions(self) -> Iterator[Neighbor]:
        """Every neighbor."""
        return iter(self.neighbors.values())


class BfdHearer(Protocol):
    """A node, to a datagram."""

    def hear_bfd(self, source: Address, data: bytes) -> None:
        """A packet has come from a router's address."""
        ...
