"""One member of a memberlist cluster: SWIM with Lifeguard, as hashicorp/memberlist speaks it, without I/O.

Datagrams and streams go in, and what is to be sent comes back; time and dice are handed in. See `table` for
what is known, `probing` for how silence is found, `broadcasts` for how news spreads; here they are
joined, and everything is exchanged with one member now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from attrs import frozen

from lbcore.adapters.base import Report, Send
from lbcore.adapters.memberlist.envelope import Envelope
from lbcore.adapters.memberlist.messages import (
    Ack,
    Alive,
    Dead,
    Endpoint,
    Fault,
    IndirectPing,
    Message,
    Nack,
    Ping,
    PushPull,
    Status,
    Suspect,
    User,
    encode,
)
from lbcore.adapters.memberlist.outputs import Answer, Dial, GossipOutput
from lbcore.adapters.memberlist.probing import Prober
from lbcore.adapters.memberlist.settings import LAN, Settings
from lbcore.adapters.memberlist.streams import frame_stream
from lbcore.adapters.memberlist.table import Table
from lbcore.errors import RemoteProtocolError
from lbcore.events import MembersSeen
from lbcore.intents import SetPresence

__all__ = ["Counts", "Memberlist"]

_NEVER = float("inf")
_FIRST_DIALS = 8  # peers asked at once at the start; each of them knows all others
_ASKED = 2  # one of them may have been away as well
_LATER_DIALS = 3
_HASTE = 0.005  # seconds between two rounds of gossip when there is news of ours
_PARTED = 32  # members that a last word is sent to at once


@frozen(kw_only=True)
class Counts:
    """What happened so far: `ignored` were no messages for us, `conflicts` claimed a name from another address."""

    ignored: int
    conflicts: int
    refutations: int
    health: int


def _nobody(_data: bytes, _source: Endpoint, _now: float) -> list[GossipOutput]:
    """Who stands above memberlist and takes user messages, where nobody does."""
    return []


class Memberlist:
    """A member called `name` that listens at `endpoint`. Times in seconds on the clock of `now`.

    `peers` that are no members yet are dialled by and by. The first `MembersSeen` comes when those asked
    first have answered or refused, and at the latest `settings.settle` after the start. `above` takes the bytes of
    user messages with where they came from, and returns what is to be sent.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        *,
        rng: Random,
        envelope: Envelope | None = None,
        settings: Settings = LAN,
        meta: bytes = b"",
        above: Callable[[bytes, Endpoint, float], list[GossipOutput]] = _nobody,
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self._rng = rng
        self._envelope = Envelope() if envelope is None else envelope
        self._settings = settings
        self._above = above
        self.table = Table(name, endpoint, meta, settings, rng)
        self._prober = Prober(name, endpoint, self.table, settings, rng, post=self._post_with_news, dial=self._dial)
        self._peers: tuple[Endpoint, ...] = ()
        self._dials = 0
        self._first_dials: set[int] = set()
        self._settle_at = self._gossip_at = self._exchange_at = self._rejoin_at = _NEVER
        self._reported: frozenset[str] | None = None
        self._refuted = 0
        self._ignored = 0

    @property
    def deadline(self) -> float:
        """When to call `tick` next."""
        if not self.table.present:
            return self._settle_at
        gossip = self._gossip_at if len(self.table.broadcasts) else _NEVER
        suspicion = self.table.deadline
        return min(
            self._settle_at,
            gossip,
            self._exchange_at,
            self._rejoin_at,
            self._prober.deadline,
            _NEVER if suspicion is None else suspicion,
        )

    @property
    def present(self) -> bool:
        """Whether we count ourselves in."""
        return self.table.present

    @property
    def has_peers(self) -> bool:
        """Whether we know of places where others may be, members or not."""
        return bool(self._peers)

    @property
    def members(self) -> frozenset[str] | None:
        """The names last reported, or None before the first report."""
        return self._reported

    @property
    def counts(self) -> Counts:
        """For the operator."""
        return Counts(
            ignored=self._ignored,
            conflicts=self.table.conflicts,
            refutations=self.table.refutations,
            health=self._prober.health,
        )

    # Commands

    def command(self, intent: SetPresence, now: float) -> list[GossipOutput]:
        """Come in, or leave; leaving is told at once."""
        if intent.present == self.table.present:
            return []
        return self._enter(now) if intent.present else self._leave(now)

    def set_peers(self, peers: Sequence[Endpoint], now: float) -> list[GossipOutput]:
        """Where members may be found; ourselves among them does no harm."""
        added = set(peers) - set(self._peers)
        self._peers = tuple(sorted(set(peers) - {self._endpoint}))
        if not added or not self.table.present:
            return []
        first = not self._first_dials and self._reported is None
        return [*self._rejoin(now, _FIRST_DIALS if first else _LATER_DIALS, first=first), *self._settled(now)]

    def _enter(self, now: float) -> list[GossipOutput]:
        self.table.enter(now)
        self._prober.start(now)
        self._settle_at = now + self._settings.settle
        self._gossip_at = now
        self._exchange_at = now + self._rng.random() * self._settings.push_pull_interval
        dials = self._rejoin(now, _FIRST_DIALS, first=True)
        return [*dials, *self._settled(now)]

    def _leave(self, now: float) -> list[GossipOutput]:
        word = self.table.leave(now)
        self._prober.stop()
        self._first_dials.clear()
        self._settle_at = self._gossip_at = self._exchange_at = self._rejoin_at = _NEVER
        outputs: list[GossipOutput] = []
        if word is not None:
            # Nobody is left to say it twice, so it is said to many at once, and to the first of them again.
            here = list(self.table.others(Status.ALIVE, Status.SUSPECT))
            chosen = self._rng.sample(here, min(len(here), _PARTED))
            outputs += (self._send(each.endpoint, [word]) for each in (*chosen, *chosen))
        self._reported = self.table.names
        return [*outputs, Report(MembersSeen(self._reported))]

    # Datagrams

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> list[GossipOutput]:
        """A datagram has come. Never raises for what is in it."""
        if not self.table.present:
            return []
        try:
            messages = self._envelope.unwrap(datagram)
        except RemoteProtocolError:
            self._ignored += 1
            return []
        outputs: list[GossipOutput] = []
        for message in messages:
            outputs += self._take(message, source, now)
        if all(isinstance(message, User) for message in messages):
            return outputs  # nothing is known that was not: twenty beats a second of each neighbour shall cost little
        return [*outputs, *self._settled(now)]

    def _take(self, message: Message, source: Endpoint, now: float) -> list[GossipOutput]:
        match message:
            case Ping():
                return self._pinged(message, source)
            case Ack(seq):
                return self._prober.acknowledged(seq)
            case Nack(seq):
                self._prober.refused(seq)
            case IndirectPing():
                return self._prober.relay(message, source, now)
            case Suspect():
                self.table.suspect(message, now)
            case Dead():
                self.table.dead(message, now)
            case Alive():
                self.table.alive(self._with_port(message), now)
            case User():
                return self._above(message.data, source, now)
            case _:
                self._ignored += 1
        return []

    def _with_port(self, alive: Alive) -> Alive:
        if alive.endpoint.port:
            return alive
        return Alive(
            incarnation=alive.incarnation,
            node=alive.node,
            endpoint=Endpoint(alive.endpoint.address, self._endpoint.port),
            meta=alive.meta,
            versions=alive.versions,
        )

    def _pinged(self, ping: Ping, source: Endpoint) -> list[GossipOutput]:
        if ping.node not in {"", self._name}:
            self._ignored += 1
            return []
        return [self._post_with_news(ping.source or source, [Ack(ping.seq)])]

    # Streams

    def receive_stream(self, message: Message, now: float) -> list[GossipOutput]:
        """The one message of a connection that somebody opened to us."""
        if not self.table.present:
            return []
        match message:
            case PushPull():
                # Ours first, as it was before theirs came: that is how Go does it.
                answer = self._answer(self.table.exchange(join=message.join))
                if not self.table.merge(message, now):
                    self._ignored += 1
                return [answer, *self._settled(now)]
            case Ping():
                return [self._answer(Ack(message.seq))] if message.node in {"", self._name} else []
            case _:
                self._ignored += 1
                return []

    def answered(self, number: int, message: Message | None, now: float) -> list[GossipOutput]:
        """What came back for a `Dial`; None when nothing did, or nothing that could be read."""
        if not self.table.present:
            return []
        match message:
            case PushPull() if not self.table.merge(message, now):
                self._ignored += 1
            case Ack(seq):
                self._prober.answered(number, seq)
            case Fault():
                self._ignored += 1
        self._first_dials.discard(number)
        return self._settled(now)

    def refuse(self, trouble: RemoteProtocolError) -> list[GossipOutput]:
        """The answer to a stream that could not be read."""
        self._ignored += 1
        return [self._answer(Fault(str(trouble)))]

    def _answer(self, message: Message) -> Answer:
        return Answer(frame_stream(self._envelope, encode(message), opening=False))

    # Time

    def tick(self, now: float) -> list[GossipOutput]:
        """Whatever is due; calling early or twice does no harm."""
        if not self.table.present:
            return []
        outputs = self._prober.tick(now)
        self.table.tick(now)
        if self._exchange_at <= now:
            outputs += self._exchange(now)
        if self._rejoin_at <= now:
            outputs += self._rejoin(now, _LATER_DIALS, first=False)
        return [*outputs, *self._settled(now)]

    def seek(self, now: float) -> list[GossipOutput]:
        """We were away: ask for those who are missing, as they may be reached again, and two of those who are here for
        what was said meanwhile. Gossip says it a few times only, and the next exchange may be 30 s away.
        """
        if not self.table.present:
            return []
        here = list(self.table.others(Status.ALIVE))
        asked = self._rng.sample(here, min(len(here), _ASKED))
        missing = self._rejoin(now, _FIRST_DIALS, first=False)
        return [*missing, *(self._dial_exchange(each.endpoint, join=False) for each in asked)]

    def _exchange(self, now: float) -> list[GossipOutput]:
        self._exchange_at = now + self._settings.exchange_every(self.table.count)
        here = list(self.table.others(Status.ALIVE))
        return [self._dial_exchange(self._rng.choice(here).endpoint, join=False)] if here else []

    def _rejoin(self, now: float, most: int, *, first: bool) -> list[GossipOutput]:
        """Ask a few of the peers that are no members."""
        self._rejoin_at = now + self._settings.rejoin * (1 - self._rng.random() / 4) if self._peers else _NEVER
        here = {record.endpoint for record in self.table.others(Status.ALIVE, Status.SUSPECT)}
        missing = [peer for peer in self._peers if peer not in here]
        dials = [self._dial_exchange(peer, join=True) for peer in self._rng.sample(missing, min(len(missing), most))]
        if first:
            self._first_dials = {dial.number for dial in dials}
        return [*dials]

    def _dial_exchange(self, where: Endpoint, *, join: bool) -> Dial:
        return self._dial(where, self.table.exchange(join=join), self._settings.stream_timeout)

    def _dial(self, where: Endpoint, message: Message, patience: float) -> Dial:
        self._dials += 1
        data = frame_stream(self._envelope, encode(message), opening=True)
        return Dial(number=self._dials, where=where, data=data, patience=patience)

    # What follows from what has changed

    def condemn(self, name: str, now: float) -> list[GossipOutput]:
        """Hold a member for dead at once: others than memberlist have found it so."""
        self.table.condemn(name, now)
        return self._settled(now)

    def _settled(self, now: float) -> list[GossipOutput]:
        """Gossip if it is time, and report if the members are others than before."""
        if self.table.refutations > self._refuted:
            self._refuted = self.table.refutations
            self._prober.refuted()
        outputs: list[GossipOutput] = []
        if self.table.urgent:
            self.table.urgent = False
            self._gossip_at = min(self._gossip_at, now + _HASTE)
        if self._gossip_at <= now and len(self.table.broadcasts):
            self._gossip_at = now + self._settings.gossip_interval
            outputs += self._gossip(now)
        return [*outputs, *self._report(now)]

    def _gossip(self, now: float) -> list[GossipOutput]:
        recent = now - self._settings.gossip_to_the_dead
        listeners = [
            record
            for record in self.table.others(Status.ALIVE, Status.SUSPECT, Status.DEAD)
            if record.is_here or record.since >= recent
        ]
        outputs: list[GossipOutput] = []
        for each in self._rng.sample(listeners, min(len(listeners), self._settings.gossip_nodes)):
            news = self.table.broadcasts.take(self._envelope.room, self.table.count)
            if news:
                outputs.append(self._send(each.endpoint, news))
        return outputs

    def _report(self, now: float) -> list[GossipOutput]:
        if self._reported is None or self._settle_at < _NEVER:
            if self._first_dials and now < self._settle_at:
                return []
            if not self._peers and now < self._settle_at:
                return []
            self._settle_at = _NEVER
        names = self.table.names
        if names == self._reported:
            return []
        self._reported = names
        return [Report(MembersSeen(names))]

    # Wrapping

    def _post_with_news(self, where: Endpoint, messages: list[Message]) -> Send[Endpoint]:
        """Messages with as much news as there is room for."""
        encoded = [encode(message) for message in messages]
        room = self._envelope.room - 2 - sum(len(each) + 2 for each in encoded)
        if len(encoded) == 1:
            encoded += self.table.broadcasts.take(room, self.table.count, most=64)
        return self._send(where, encoded)

    def _send(self, where: Endpoint, messages: list[bytes]) -> Send[Endpoint]:
        return Send(self._envelope.wrap(messages), where)
