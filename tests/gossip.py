"""Members of a memberlist cluster joined in memory: a virtual clock, a network that loses, delays and parts.

Datagrams and connections are carried as bytes, so that the codecs are in every run. A node may be paused
(its process stands still, and its time with it), killed, or cut off; two sides may be parted.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from random import Random

from lbcore.adapters.base import Report, Send
from lbcore.adapters.detector.engine import Ask, Detector, DetectorOutput
from lbcore.adapters.memberlist.engine import Memberlist
from lbcore.adapters.memberlist.envelope import Envelope
from lbcore.adapters.memberlist.messages import Endpoint, Message
from lbcore.adapters.memberlist.outputs import Answer, Dial
from lbcore.adapters.memberlist.settings import LAN, Settings
from lbcore.adapters.memberlist.streams import StreamReader
from lbcore.addresses import Address
from lbcore.errors import RemoteProtocolError
from lbcore.events import MembersSeen
from lbcore.intents import SetPresence

__all__ = ["JOIN", "LEAVE", "GossipNode", "GossipWorld"]

JOIN = SetPresence(present=True, why="test")
LEAVE = SetPresence(present=False, why="test")
PORT = 7946


class GossipNode:
    """One member: its engine, and what it reported, each time with the moment."""

    def __init__(self, world: GossipWorld, name: str, endpoint: Endpoint) -> None:
        self.world = world
        self.name = name
        self.endpoint = endpoint
        self.engine = world.make(self)
        self.views: list[tuple[float, frozenset[str]]] = []
        self.seen = MembersSeen(frozenset())
        self.alive = False
        self.paused = False
        self.sent = 0
        self._missed: list[Callable[[], None]] = []

    @property
    def view(self) -> frozenset[str]:
        """The members it last reported."""
        return self.views[-1][1] if self.views else frozenset()

    def start(self) -> None:
        """A new process, which knows nothing."""
        self.engine = self.world.make(self)
        self.views = []
        self.alive, self.paused = True, False
        self.carry_out(self.engine.set_peers(self.world.endpoints, self.world.now))
        self.carry_out(self.engine.command(JOIN, self.world.now))

    def leave(self) -> None:
        """A clean stop."""
        self.carry_out(self.engine.command(LEAVE, self.world.now))
        self.alive = False

    def kill(self) -> None:
        """An unclean one."""
        self.alive = False

    def pause(self) -> None:
        """Stand still: nothing is done, and what comes in waits."""
        self.paused = True

    def resume(self) -> None:
        """Go on, beginning with what is due, as a loop does that reads its sockets first."""
        self.paused = False
        missed, self._missed = self._missed, []
        for action in missed:
            action()
        self.wake()

    def do(self, action: Callable[[], Iterable[DetectorOutput]]) -> None:
        """Let the engine take something in, now or when it runs again; the dead take nothing in."""
        if self.paused:
            self._missed.append(lambda: self.do(action))
        elif self.alive:
            self.carry_out(action())

    def wake(self) -> None:
        """Whatever is due."""
        if self.alive and not self.paused and self.engine.deadline <= self.world.now:
            self.carry_out(self.engine.tick(self.world.now))

    def carry_out(self, outputs: Iterable[DetectorOutput]) -> None:
        """Do what the engine asks for, and note when it wants to be called."""
        for output in outputs:
            match output:
                case Send(data, where):
                    self.sent += 1
                    self.world.deliver(self, where, data)
                case Dial():
                    self.world.connect(self, output)
                case Report(MembersSeen() as seen):
                    self.views.append((self.world.now, seen.names))
                    self.seen = seen
                case Ask():
                    self.world.ask(self)
        self.world.at(self.engine.deadline, self.wake)


class GossipWorld:
    """So many members, all of whom know the addresses of all."""

    def __init__(
        self,
        count: int,
        *,
        seed: int = 1,
        loss: float = 0.0,
        delay: float = 0.001,
        settings: Settings = LAN,
        envelope: Envelope | None = None,
    ) -> None:
        self.now = 0.0
        self.rng = Random(seed)
        self.loss = loss
        self.delay = delay
        self.settings = settings
        self.envelope = Envelope(compressed=count < 30) if envelope is None else envelope
        self.sides: dict[str, int] = {}
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self.endpoints = [Endpoint(Address(4, 0x0A000000 + index), PORT) for index in range(1, count + 1)]
        self.nodes = [self.node_of(f"n{index}", where) for index, where in enumerate(self.endpoints, 1)]
        self._at = {node.endpoint: node for node in self.nodes}

    def node_of(self, name: str, endpoint: Endpoint) -> GossipNode:
        """A machine."""
        return GossipNode(self, name, endpoint)

    def make(self, node: GossipNode) -> Memberlist | Detector:
        """The engine of a node that starts."""
        return Memberlist(
            node.name,
            node.endpoint,
            rng=Random(self.rng.random()),
            envelope=self.envelope,
            settings=self.settings,
        )

    def start(self) -> GossipWorld:
        """Start every node at once."""
        for node in self.nodes:
            node.start()
        return self

    def part(self, *sides: Sequence[GossipNode]) -> None:
        """Nothing passes between these sides from now on; who is in none is alone."""
        self.sides = {node.name: -index for index, node in enumerate(self.nodes, 1)}
        self.sides |= {node.name: index for index, side in enumerate(sides) for node in side}

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self.sides = {}

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Do something later."""
        if moment < float("inf"):
            heapq.heappush(self._queue, (max(moment, self.now), next(self._numbers), action))

    def run(self, seconds: float) -> GossipWorld:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end
        return self

    def until(self, condition: Callable[[], bool], most: float) -> float:
        """Let time pass until something is true; how long it took."""
        began = self.now
        while not condition():
            assert self.now - began < most, f"waited {most:g} s in vain: {[sorted(node.view) for node in self.nodes]}"
            self.run(0.01)
        return self.now - began

    @property
    def agreed(self) -> bool:
        """Whether every living node sees exactly the living."""
        living = frozenset(node.name for node in self.nodes if node.alive)
        return all(node.view == living for node in self.nodes if node.alive and not node.paused)

    # The network

    def ask(self, node: GossipNode) -> None:
        """Ask the witnesses, of whom there are none here."""

    def reaches(self, one: GossipNode, other: GossipNode) -> bool:
        """Whether anything passes from one to the other."""
        return self.sides.get(one.name) == self.sides.get(other.name)

    def deliver(self, sender: GossipNode, where: Endpoint, data: bytes) -> None:
        """A datagram, which may be lost or come late."""
        receiver = self._at.get(where)
        if receiver is None or not self.reaches(sender, receiver) or self.rng.random() < self.loss:
            return

        def arrive() -> None:
            receiver.do(lambda: receiver.engine.receive(data, sender.endpoint, self.now))

        self.at(self.now + self.delay * (0.5 + self.rng.random()), arrive)

    def connect(self, caller: GossipNode, dial: Dial) -> None:
        """A connection: refused where nobody listens, silent where nothing passes, else TCP keeps its word."""
        callee = self._at.get(dial.where)
        if callee is None or not self.reaches(caller, callee):
            self.at(self.now + dial.patience, lambda: self._answer(caller, dial, None))
        elif not callee.alive:
            self.at(self.now + self.delay, lambda: self._answer(caller, dial, None))
        else:
            self.at(self.now + 2 * self.delay, lambda: callee.do(lambda: self._accept(caller, callee, dial)))

    def _accept(self, caller: GossipNode, callee: GossipNode, dial: Dial) -> list[DetectorOutput]:
        try:
            message = StreamReader(self.envelope, opening=True).feed(dial.data)
            assert message is not None
            outputs: list[DetectorOutput] = [*callee.engine.receive_stream(message, self.now)]
        except RemoteProtocolError as error:
            outputs = [*callee.engine.refuse(error)]
        answers = [output.data for output in outputs if isinstance(output, Answer)]
        read = StreamReader(self.envelope, opening=False).feed(answers[0]) if answers else None
        self.at(self.now + self.delay, lambda: self._answer(caller, dial, read))
        return [output for output in outputs if not isinstance(output, Answer)]

    def _answer(self, caller: GossipNode, dial: Dial, message: Message | None) -> None:
        caller.do(lambda: caller.engine.answered(dial.number, message, self.now))
