"""Asking the others, one after the other, whether they are there: directly, then through helpers and by TCP.

One question at a time. Who fails to answer is accused in the table, which does the rest; and a node
that hears little gives everybody more time, since the fault may be its own (Lifeguard's health).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from lbcore.adapters.base import Send
from lbcore.adapters.memberlist.messages import (
    Ack,
    Endpoint,
    IndirectPing,
    Message,
    Nack,
    Ping,
    Status,
    Suspect,
)
from lbcore.adapters.memberlist.outputs import Dial, GossipOutput
from lbcore.adapters.memberlist.settings import Settings
from lbcore.adapters.memberlist.table import Record, Table

__all__ = ["Prober"]

_NEVER = float("inf")
_SEQUENCES = 1 << 32
_MAX_RELAYS = 1024  # questions asked for others at once
_NACK_VERSION = 4  # the least protocol version that knows nacks


class _Probe:
    """One question and what came of it."""

    __slots__ = ("deadline", "dial", "helped_at", "nacks", "nacks_wanted", "name", "seq")

    def __init__(self, name: str, seq: int, helped_at: float, deadline: float) -> None:
        self.name = name
        self.seq = seq
        self.helped_at = helped_at  # when helpers are asked; never, once they were
        self.deadline = deadline
        self.nacks = self.nacks_wanted = 0
        self.dial: int | None = None


class _Relay:
    """A question asked for somebody else."""

    __slots__ = ("asker", "nack_at", "seq", "until")

    def __init__(self, asker: Endpoint, seq: int, *, wants_nack: bool, nack_at: float, until: float) -> None:
        self.asker = asker
        self.seq = seq
        self.nack_at = nack_at if wants_nack else _NEVER
        self.until = until  # when a late answer is of no more use

    @property
    def deadline(self) -> float:
        return min(self.nack_at, self.until)


class Prober:
    """Probes by the table's ring. `post` makes a datagram of a message; `dial` a connection with one message."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        table: Table,
        settings: Settings,
        rng: Random,
        *,
        post: Callable[[Endpoint, list[Message]], Send[Endpoint]],
        dial: Callable[[Endpoint, Message, float], Dial],
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self._table = table
        self._settings = settings
        self._rng = rng
        self._post = post
        self._dial = dial
        self._seq = 0
        self._index = 0
        self._next_at = _NEVER
        self._probe: _Probe | None = None
        self._relays: dict[int, _Relay] = {}
        self.health = 0  # 0: well; the greater, the more time everybody else gets

    @property
    def deadline(self) -> float:
        """When there is something to do."""
        relays = min((relay.deadline for relay in self._relays.values()), default=_NEVER)
        if self._probe is None:
            return min(self._next_at, relays)
        return min(self._probe.helped_at, self._probe.deadline, relays)

    def start(self, now: float) -> None:
        """Begin to ask, not in step with others who begin now."""
        self.stop()
        self._next_at = now + self._rng.random() * self._settings.probe_interval

    def stop(self) -> None:
        """Ask no more."""
        self._probe = None
        self._relays.clear()
        self._next_at = _NEVER
        self.health = 0

    def tick(self, now: float) -> list[GossipOutput]:
        """Whatever is due."""
        outputs: list[GossipOutput] = []
        for seq, relay in tuple(self._relays.items()):
            if relay.nack_at <= now:
                relay.nack_at = _NEVER
                outputs.append(self._post(relay.asker, [Nack(relay.seq)]))
            if relay.until <= now:
                del self._relays[seq]
        probe = self._probe
        if probe is not None and probe.deadline <= now:
            self._fail(probe, now)
        elif probe is not None and probe.helped_at <= now:
            outputs += self._ask_helpers(probe, now)
        if self._probe is None and self._next_at <= now:
            outputs += self._ask_next(now)
        return outputs

    def _ask_next(self, now: float) -> list[GossipOutput]:
        # What was missed while the last question took long is not made up for.
        self._next_at = now + self._settings.probe_interval
        target = self._next_target(now)
        if target is None:
            return []
        interval = self._settings.probe_interval * (self.health + 1)
        probe = self._probe = _Probe(target.name, self._sequence(), now + self._settings.probe_timeout, now + interval)
        messages: list[Message] = [Ping(seq=probe.seq, node=target.name, source=self._endpoint, source_node=self._name)]
        if target.status is Status.SUSPECT:  # let it know, so that it can say that it lives
            accusation = Suspect(incarnation=target.incarnation, node=target.name, origin=self._name)
            messages.append(accusation)
        return [self._post(target.endpoint, messages)]

    def _next_target(self, now: float) -> Record | None:
        for _ in range(len(self._table.ring) + 1):
            if self._index >= len(self._table.ring):
                self._index = 0
                self._table.forget_the_dead(now)
                if not self._table.ring:
                    return None
            record = self._table.records.get(self._table.ring[self._index])
            self._index += 1
            if record is not None and record.is_here and record.name != self._name:
                return record
        return None

    def _sequence(self) -> int:
        self._seq = (self._seq + 1) % _SEQUENCES
        return self._seq

    def _ask_helpers(self, probe: _Probe, now: float) -> list[GossipOutput]:
        probe.helped_at = _NEVER
        target = self._table.records.get(probe.name)
        if target is None:
            return []
        others = [each for each in self._table.others(Status.ALIVE) if each is not target]
        helpers = self._rng.sample(others, min(len(others), self._settings.indirect_checks))
        outputs: list[GossipOutput] = []
        for helper in helpers:
            knows_nacks = helper.versions[1] >= _NACK_VERSION
            probe.nacks_wanted += knows_nacks
            question = IndirectPing(
                seq=probe.seq,
                target=target.endpoint,
                node=target.name,
                nack=knows_nacks,
                source=self._endpoint,
                source_node=self._name,
            )
            outputs.append(self._post(helper.endpoint, [question]))
        ping = Ping(seq=probe.seq, node=target.name, source=self._endpoint, source_node=self._name)
        dial = self._dial(target.endpoint, ping, probe.deadline - now)
        probe.dial = dial.number
        return [*outputs, dial]

    def _fail(self, probe: _Probe, now: float) -> None:
        self._probe = None
        # Helpers that say nothing at all are a sign that it is us who cannot be heard.
        missing = probe.nacks_wanted - probe.nacks if probe.nacks_wanted else 1
        self._be(self.health + missing)
        self._table.accuse(probe.name, now)

    def refuted(self) -> None:
        """Somebody thought that we were gone: another sign."""
        self._be(self.health + 1)

    def _be(self, health: int) -> None:
        self.health = max(0, min(health, self._settings.awareness_max - 1))

    # What comes in

    def acknowledged(self, seq: int) -> list[GossipOutput]:
        """An answer: to us, or to somebody for whom we asked."""
        relay = self._relays.pop(seq, None)
        if relay is not None:
            return [self._post(relay.asker, [Ack(relay.seq)])]
        if self._probe is not None and self._probe.seq == seq:
            self._probe = None
            self._be(self.health - 1)
        return []

    def answered(self, number: int, seq: int) -> None:
        """An answer by TCP: it lives, though datagrams do not reach it."""
        if self._probe is not None and self._probe.dial == number and self._probe.seq == seq:
            self._probe = None

    def refused(self, seq: int) -> None:
        """A helper had no answer either: at least it heard us."""
        if self._probe is not None and self._probe.seq == seq:
            self._probe.nacks += 1

    def relay(self, question: IndirectPing, source: Endpoint, now: float) -> list[GossipOutput]:
        """Ask for somebody who has no answer."""
        if len(self._relays) >= _MAX_RELAYS:
            return []
        asker = question.source or source
        seq = self._sequence()
        timeout = self._settings.probe_timeout
        self._relays[seq] = _Relay(
            asker,
            question.seq,
            wants_nack=question.nack,
            nack_at=now + timeout * self._settings.nack_after,
            until=now + timeout,
        )
        target = question.target
        return [self._post(target, [Ping(seq=seq, node=question.node, source=self._endpoint, source_node=self._name)])]
