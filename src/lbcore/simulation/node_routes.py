"""A pretend node's side of BGP and BFD: what `backends.bgp` does with sockets, the speaker's sessions and routes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from attrs import define, field

from lbcore.adapters.bfd.engine import Origin, Way
from lbcore.adapters.bgp.connection import LocalEnd
from lbcore.adapters.bgp.notifications import Cease, cease
from lbcore.adapters.bgp.session import Session
from lbcore.addresses import Address
from lbcore.backends.bgp_peering import session_settings
from lbcore.bgp import BGPPeer
from lbcore.events import Event, PeerSeen
from lbcore.intents import AdvertiseRoute, Intent, LoseSession, SetSessions, WithdrawRoute
from lbcore.routes import Path, Prefix
from lbcore.simulation.carried import Carried
from lbcore.simulation.clock import Clock
from lbcore.simulation.router import Router
from lbcore.simulation.watching import Peace, Watching
from lbcore.simulation.wires import Answer, Dialing, Plug, Wires

__all__ = ["NodeRoutes"]


@define(eq=False)
class _Peering:
    peer: BGPPeer
    carried: Carried
    number: int  # of the sessions of this history


@define(eq=False)
class NodeRoutes:
    """A node on the wires to its routers. `dialed` hears of each attempt to connect: node, peer, which session, and
    its connectTime.
    """

    name: str
    clock: Clock
    wires: Wires
    peace: Peace
    rng: random.Random
    addresses: dict[int, Address]
    routers: list[Router]
    listens: bool
    dialed: Callable[[str, str, int, int | None], None]
    powered: bool = True
    frozen: bool = False
    _tell: Callable[[Event], None] | None = None  # the speaker that runs
    _peerings: dict[str, _Peering] = field(factory=dict)
    _routes: dict[Prefix, dict[str, Path]] = field(factory=dict)
    _watching: Watching | None = None
    _sessions: int = 0

    @property
    def is_awake(self) -> bool:
        """Whether it has power, and does not stand still."""
        return self.powered and not self.frozen

    def dice(self) -> random.Random:
        """Dice of one's own."""
        return random.Random(self.rng.getrandbits(64))

    # The machine

    def freeze(self) -> None:
        """Nothing runs any more."""
        self.peace.rouse()
        self.frozen = True
        self.wires.noted()

    def thaw(self) -> None:
        """Everything goes on."""
        self.frozen = False
        for peering in self._peerings.values():
            peering.carried.resume()
        if self._watching is not None:
            self._watching.resume()
        self.wires.noted()

    def crash(self) -> None:
        """The power is gone."""
        for peering in self._peerings.values():
            peering.carried.vanish()
        self.powered = self.frozen = False
        self._forget()

    def set_cable(self, *, plugged: bool) -> None:
        """Pull the cable, or put it back."""
        self.peace.rouse()
        self.wires.plug(self.name, plugged=plugged)

    # The speaker's process

    def begin(self, tell: Callable[[Event], None]) -> None:
        """A speaker has started, that hears of its sessions."""
        self.powered = True
        self._tell = tell
        self.wires.noted()

    @property
    def speaks(self) -> bool:
        """Whether a speaker runs."""
        return self._tell is not None

    def die(self) -> None:
        """It is gone, and the kernel closes its connections."""
        for peering in self._peerings.values():
            peering.carried.die()
        self._forget()

    def stop(self) -> None:
        """It ends in order: with a word, unless its router is to keep the routes."""
        for peering in self._peerings.values():
            self._stop(peering, Cease.SHUTDOWN)
        self._forget()

    def _forget(self) -> None:
        self._peerings.clear()
        self._routes.clear()
        self._tell = None
        self.wires.noted()

    def apply(self, intent: Intent) -> None:
        """Carry out an intent about sessions and routes."""
        match intent:
            case SetSessions(peers, leaving):
                self._set_peers({peer.name: peer for peer in peers})
                for name, peering in self._peerings.items():
                    peering.carried.session.leave(leaving=name in leaving, now=self.clock.now)
                    peering.carried.wake()
            case LoseSession(name, why) if name in self._peerings:
                self._peerings[name].carried.lose(cease(Cease.BFD_DOWN), why)
            case LoseSession():
                pass
            case AdvertiseRoute(prefix=prefix, offers=offers):
                self._set_route(prefix, {offer.peer: offer.path for offer in offers})
            case WithdrawRoute(prefix):
                self._set_route(prefix, {})
            case _:
                raise ValueError(f"{type(intent).__name__} is not for BGP")

    def _set_peers(self, wanted: dict[str, BGPPeer]) -> None:
        for name, peering in list(self._peerings.items()):
            if wanted.get(name) == peering.peer:
                continue
            self._stop(peering, Cease.CHANGED if name in wanted else Cease.DECONFIGURED)
            del self._peerings[name]
            if name not in wanted:
                self._report(PeerSeen(name, None))
        for name, peer in wanted.items():
            if name in self._peerings:
                continue
            peering = self._peerings[name] = self._peering(peer)
            for prefix, paths in self._routes.items():
                if name in paths:
                    peering.carried.session.offer(prefix, paths[name], self.clock.now)
            peering.carried.start()

    def _set_route(self, prefix: Prefix, paths: dict[str, Path]) -> None:
        before = self._routes.pop(prefix, {})
        if paths:
            self._routes[prefix] = paths
        for name in {**before, **paths}:
            peering = self._peerings.get(name)
            if peering is not None and before.get(name) != paths.get(name):
                peering.carried.session.offer(prefix, paths.get(name), self.clock.now)
                peering.carried.wake()

    def _peering(self, peer: BGPPeer) -> _Peering:
        self._sessions += 1
        number, router = self._sessions, self._router(peer)
        assert peer.address is not None
        version = peer.address.version

        def dialing(connected: Callable[[Plug], None], failed: Callable[[str], None]) -> Dialing:
            self.dialed(self.name, peer.name, number, peer.connect_time)
            return Dialing(self, router, version, peer.password, connected, failed)

        local = LocalEnd(
            over=peer.address.family,
            router_id=peer.router_id or self.addresses[4],
            ipv4=self.addresses[4],
            ipv6=self.addresses[6],
        )
        carried = Carried(
            Session(peer.name, session_settings(peer), self.dice()),
            self.clock,
            self.wires,
            local,
            is_awake=lambda: self.is_awake,
            tell=self._report,
            dialing=dialing,
        )
        return _Peering(peer, carried, number)

    def _stop(self, peering: _Peering, cause: Cease) -> None:
        session = peering.carried.session
        keeps = peering.peer.graceful_restart and session.negotiated is not None and session.negotiated.keeps_routes
        silent = keeps and cause is Cease.SHUTDOWN
        peering.carried.stop(None if silent else cease(cause, ""))

    def _report(self, event: Event) -> None:
        if self._tell is not None:
            self._tell(event)

    def _router(self, peer: BGPPeer) -> Router:
        return next(each for each in self.routers if peer.address in each.settings.addresses.values())

    # The network

    def knock(self, caller: str, version: int, password: str) -> Answer:
        """Whether a router may connect."""
        if self._tell is None or not self.listens:
            return Answer.REFUSED
        peering = self._peering_with(caller, version)
        return Answer.SILENCE if peering is not None and peering.peer.password != password else Answer.WELCOME

    def welcome(self, caller: str, version: int, plug: Plug) -> None:
        """A router has connected."""
        peering = self._peering_with(caller, version)
        if peering is not None and peering.carried.session.may_accept:
            peering.carried.accept(plug)
        else:
            plug.close()

    def _peering_with(self, router: str, version: int) -> _Peering | None:
        address = next(each.settings.addresses[version] for each in self.routers if each.name == router)
        return next((each for each in self._peerings.values() if each.peer.address == address), None)

    # BFD, in the reflex process

    def watch(self, report: Callable[[Event], None]) -> Watching:
        """A reflex process is born, and with it its BFD sessions."""
        self._watching = Watching(
            self.clock,
            self.peace,
            self.dice(),
            is_awake=lambda: self.is_awake,
            send=self._send,
            report=report,
        )
        return self._watching

    def hear_bfd(self, source: Address, data: bytes) -> None:
        """A packet has come from a router's address."""
        if self._watching is not None:
            origin = Origin(source=source, interface="eth0", ttl=255, multihop=False)
            self._watching.take(data, origin)

    def _send(self, way: Way, data: bytes) -> None:
        address = way.address
        assert address is not None
        router = next(each for each in self.routers if address in each.settings.addresses.values())
        for multihop in way.hops:
            hear = partial(router.hear_bfd, self.name, address.version, multihop=multihop)
            self.wires.datagram(self, router, hear, data)
