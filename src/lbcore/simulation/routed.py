"""What a history with routers has beside the others: the routers, the ways to them, their judge, their mishaps."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from attrs import define, frozen

from lbcore.addresses import Address
from lbcore.simulation.contacts import Contacts
from lbcore.simulation.fabric import Fabric
from lbcore.simulation.faults import Faults
from lbcore.simulation.node import Node
from lbcore.simulation.node_routes import NodeRoutes
from lbcore.simulation.oracle import Cluster
from lbcore.simulation.rib import Rib
from lbcore.simulation.route_checker import RouteChecker
from lbcore.simulation.route_oracle import End, RouterFacts
from lbcore.simulation.routed_users import NODE_ASN, PeerWish
from lbcore.simulation.router import Neighbor, Router, RouterSettings
from lbcore.simulation.watching import Peace
from lbcore.simulation.wires import Wires

__all__ = ["Routed", "Scheme"]


@frozen(kw_only=True)
class Scheme:
    """Which routers there are, drawn from a seed's own dice, and whether they call as well."""

    routers: tuple[RouterSettings, ...]
    dice: random.Random

    @classmethod
    def draw(cls, seed: int) -> Scheme:
        """The scheme of a seed."""
        dice = random.Random(f"routers of {seed}")
        calls = dice.random() < 0.3
        routers = tuple(
            RouterSettings(
                name=f"router-{number}",
                asn=dice.choice((64512, 64512, NODE_ASN)),
                node_asn=NODE_ASN,
                router_id=Address.parse(f"10.255.0.{number}"),
                addresses={
                    4: Address.parse(f"192.0.2.{number}"),
                    6: Address.parse(f"2001:db8:ffff::{number:x}"),
                },
                password=dice.choice(("", "", "a word")),
                hold_time=dice.choice((90, 90, 30)),
                calls=calls,
            )
            for number in range(1, dice.randint(1, 2) + 1)
        )
        return cls(routers=routers, dice=dice)

    @property
    def wishes(self) -> tuple[PeerWish, ...]:
        """Every session that there can be."""
        return tuple(
            PeerWish(
                name=f"{router.name}-v{version}",
                address=str(router.addresses[version]),
                asn=router.asn,
                password=router.password,
            )
            for router in self.routers
            for version in (4, 6)
        )


@define(eq=False)
class _Facts:
    """A router's end of a session, to the judge."""

    neighbor: Neighbor

    @property
    def rib(self) -> Rib:
        return self.neighbor.rib

    @property
    def up(self) -> bool:
        return self.neighbor.up

    @property
    def keeps(self) -> bool:
        return self.neighbor.keeps

    @property
    def stale_since(self) -> float | None:
        return self.neighbor.stale_since

    @property
    def hold_time(self) -> int:
        return self.neighbor.hold_time

    def detection(self) -> float | None:
        return self.neighbor.watching.detection(self.neighbor.node.name)


class Routed:
    """The routers of one history."""

    def __init__(
        self,
        scheme: Scheme,
        fabric: Fabric,
        nodes: Sequence[Node],
        faults: Faults,
        cluster: Callable[[], Cluster | None],
        complain: Callable[[str, str], None],
    ) -> None:
        clock, dice = fabric.clock, scheme.dice
        self._in = fabric
        self._dice = dice
        self._faults = faults
        self._wires = wires = Wires(clock, fabric.trace, fabric.weather, self._roll(), fabric.counts)
        self._peace = peace = Peace(clock, fabric.weather)
        self.judge = judge = RouteChecker(lambda: clock.now, clock.after, cluster, faults, complain)
        self._contacts = judge.contacts = Contacts(lambda: clock.now, self._look, judge.parted)
        wires.noted = self._contacts.note
        self._routers = {
            settings.name: Router(settings, clock, fabric.trace, wires, peace, self._roll(), judge)
            for settings in scheme.routers
        }
        self._nodes: dict[str, NodeRoutes] = {}
        self._parted = ("", "")
        for number, node in enumerate(nodes):
            self._add_node(node, number, listens=scheme.routers[0].calls)
        faults.forewarned.append(peace.rouse)
        faults.add(
            (3, "router crashed", self._crash_router),
            (3, "router's daemon crashed", self._crash_daemon),
            (2, "router froze", self._freeze_router),
            (4, "way to a router cut", self._cut_way),
            (2, "router asks again", self._refresh),
        )

    def _roll(self) -> random.Random:
        return random.Random(self._dice.getrandbits(64))

    def _add_node(self, node: Node, number: int, *, listens: bool) -> None:
        addresses = {4: Address.parse(f"192.0.2.{10 + number}"), 6: Address.parse(f"2001:db8:ffff::a{number:x}")}
        routes = node.routes = self._nodes[node.name] = NodeRoutes(
            name=node.name,
            clock=self._in.clock,
            wires=self._wires,
            peace=self._peace,
            rng=self._roll(),
            addresses=addresses,
            routers=list(self._routers.values()),
            listens=listens,
            dialed=self.judge.dialed,
        )
        texts = {version: str(ip_address(str(address))) for version, address in addresses.items()}
        for version in (4, 6):
            self.judge.ends[node.name, version] = End(node.name, version, texts)
        for router in self._routers.values():
            router.add(routes, addresses)
            router.deliver[node.name] = routes
            self._contacts.add(node.name, router.name)
            for neighbor in router.sessions():
                self.judge.sessions[router.name, *neighbor.key] = _Facts(neighbor)
            own = {version: str(address) for version, address in router.settings.addresses.items()}
            facts = RouterFacts(router.name, router.settings.asn, router.settings.password, own)
            self.judge.routers[router.name] = facts

    def start(self) -> None:
        """The routers start."""
        for router in self._routers.values():
            router.start()

    def choose(self, restart: Callable[[], None]) -> Callable[[], None]:
        """A restart that may change nothing: this one, or one of a speaker, that routers may not notice."""
        return self._restart_speaker if self._dice.random() < 0.5 else restart

    def _restart_speaker(self) -> None:
        self.judge.expect_stillness(self._faults.restart_speaker())

    def part_for_long(self) -> None:
        """Cut a way for so long that every hold time ends; call `rejoin` after that."""
        self._peace.rouse()
        pair = self._parted = self._dice.choice(list(self._contacts.pairs))
        self._in.trace.add("history", f"{pair[0]} and {pair[1]} are parted")
        self._wires.part(*pair)

    def rejoin(self) -> None:
        """Let those who were parted talk again."""
        self._wires.mend(*self._parted)

    def _look(self, node: str, router: str) -> tuple[bool, bool, bool]:
        near, far = self._nodes[node], self._routers[router]
        running = far.is_awake and far.running
        linked = near.is_awake and running and self._wires.passes(node, router)
        return linked, linked and near.speaks, running

    # Mishaps

    def _some_router(self) -> Router | None:
        well = [router for router in self._routers.values() if not self._faults.ails(router.name)]
        return self._dice.choice(well) if well else None

    def _crash_router(self) -> None:
        router = self._some_router()
        if router is not None:
            self._faults.last(router.name, router.start, self._dice.uniform(1.0, 30.0))
            router.crash(power=False)

    def _crash_daemon(self) -> None:
        router = self._some_router()
        if router is not None:
            self._faults.last(router.name, router.start, self._dice.choice((0.3, 3.0, 20.0)))
            router.crash(power=True)

    def _freeze_router(self) -> None:
        router = self._some_router()
        if router is not None:
            self._faults.last(router.name, router.thaw, self._dice.choice((0.5, 2.0, 12.0)))
            router.freeze()

    def _cut_way(self) -> None:
        pair = self._dice.choice(list(self._contacts.pairs))
        if not self._faults.ails(f"way {pair}"):
            self._faults.last(f"way {pair}", lambda: self._wires.mend(*pair), self._dice.choice((0.4, 3.0, 20.0)))
            self._wires.part(*pair)

    def _refresh(self) -> None:
        router = self._some_router()
        if router is not None:
            for neighbor in router.sessions():
                neighbor.refresh()
