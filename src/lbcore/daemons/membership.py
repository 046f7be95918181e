"""Who lives, as the reflex process asks it: by records in a folder, or by gossip (`lbcore.backends.gossip`).

Both are driven alike: `tick` when `deadline` has come, and what is learned is told to a listener.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Protocol

from lbcore.adapters.base import Report
from lbcore.adapters.heartbeat import Heartbeat, HeartbeatOutput, RemoveRecord, WriteRecord
from lbcore.adapters.views import View
from lbcore.addresses import Address
from lbcore.backends.gossip_settings import GossipSettings
from lbcore.backends.members import Records
from lbcore.backends.troubles import Troubles
from lbcore.events import Event, MembersSeen
from lbcore.intents import SetPresence

__all__ = ["Membership", "OpenMembership", "RecordMembership", "by_gossip", "by_records"]

_UNREAD = 2.0  # seconds without an answer from where the member records lie, before it is said


class Membership(Protocol):
    """One node's part in who lives. Times in seconds, on the clock that it was made with."""

    @property
    def deadline(self) -> float:
        """When to call `tick`."""
        ...

    @property
    def present(self) -> bool:
        """Whether this node counts itself in."""
        ...

    @property
    def seen(self) -> MembersSeen | None:
        """What was last reported, or None before the first report."""
        ...

    @property
    def ignored(self) -> int:
        """What came from elsewhere and could not be used."""
        ...

    @property
    def view(self) -> View | None:
        """What is seen of the others, for people, with times in seconds since 1970; None where there is no more to be
        seen than the names. The same object as long as it has not changed.
        """
        ...

    def command(self, intent: SetPresence) -> None:
        """Come in, or leave."""
        ...

    def set_peers(self, addresses: Iterable[Address]) -> None:
        """Where other members may be found, beside those that were named at the start."""
        ...

    def tick(self) -> None:
        """Whatever is due; calling early does no harm."""
        ...

    def close(self) -> None:
        """Leave, and give back what is held."""
        ...


OpenMembership = Callable[[selectors.BaseSelector, Callable[[Event], None], Callable[[str], None]], Membership]
"""Makes it, of the selector that will be waited on, who hears of members, and who hears of troubles."""


class RecordMembership:
    """A heartbeat and where the records lie."""

    def __init__(
        self,
        node: str,
        heartbeat: Heartbeat,
        records: Records,
        *,
        clock: Callable[[], float],
        report: Callable[[Event], None],
        say: Callable[[str], None],
    ) -> None:
        self._node = node
        self._heartbeat = heartbeat
        self._records = records
        self._clock = clock
        self._report = report
        self._troubles = Troubles(say)
        self._read_at = clock()

    @property
    def deadline(self) -> float:
        """When to look and beat next."""
        return self._heartbeat.deadline

    @property
    def present(self) -> bool:
        """Whether our record is being renewed."""
        return self._heartbeat.present

    @property
    def seen(self) -> MembersSeen | None:
        """What was last reported, or None before the first report."""
        return self._heartbeat.seen

    @property
    def ignored(self) -> int:
        """Records at the last look that are none."""
        return self._heartbeat.ignored + self._records.ignored

    @property
    def view(self) -> View | None:
        """Records say no more than names."""
        return None

    def command(self, intent: SetPresence) -> None:
        """Begin or end to renew our record."""
        self._carry_out(self._heartbeat.command(intent, self._clock()))

    def set_peers(self, addresses: Iterable[Address]) -> None:
        """Who shares the folder is found there."""

    def tick(self) -> None:
        """Look, then beat."""
        now = self._clock()
        if self._heartbeat.deadline > now:
            return
        try:
            records = self._records.read()
        except OSError as error:
            self._troubles.note("member records cannot be read", error)
        else:
            if records is not None:
                self._read_at = now
                self._carry_out(self._heartbeat.observe(records, now))
            silent = now - self._read_at
            self._troubles.note("member records cannot be read", "no answer" if silent > _UNREAD else None)
        self._carry_out(self._heartbeat.tick(now))

    def close(self) -> None:
        """Take our record away."""
        self.command(SetPresence(present=False, why="the end"))
        self._records.close()

    def _carry_out(self, outputs: Sequence[HeartbeatOutput]) -> None:
        for output in outputs:
            match output:
                case Report(event):
                    self._report(event)
                case WriteRecord(data):
                    self._keep(partial(self._records.write, self._node, data))
                case RemoveRecord():
                    self._keep(partial(self._records.remove, self._node))

    def _keep(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self._troubles.note("the member record cannot be kept", error)
        else:
            self._troubles.note("the member record cannot be kept", None)


def by_records(node: str, heartbeat: Heartbeat, records: Records, clock: Callable[[], float]) -> OpenMembership:
    """Membership by records: nothing is waited for in the selector."""

    def opened(
        _selector: selectors.BaseSelector, report: Callable[[Event], None], say: Callable[[str], None]
    ) -> Membership:
        return RecordMembership(node, heartbeat, records, clock=clock, report=report, say=say)

    return opened


def by_gossip(node: str, settings: GossipSettings, rng: Random, clock: Callable[[], float]) -> OpenMembership:
    """Membership by gossip. Opening it raises `OSError` when the port is taken, `SecretError` for a lost secret."""
    from lbcore.adapters.detector.engine import Detector  # noqa: PLC0415 - for those who gossip
    from lbcore.backends.gossip import Gossip  # noqa: PLC0415
    from lbcore.backends.witnesses import Witnesses  # noqa: PLC0415

    envelope = settings.envelope(os.environ)

    def opened(
        selector: selectors.BaseSelector, report: Callable[[Event], None], say: Callable[[str], None]
    ) -> Membership:
        if envelope.sealer is None:
            say("members gossip in plain text: there is no secret; anybody on the network may join")
        engine = Detector(
            node,
            settings.endpoint,
            rng=rng,
            life=rng.getrandbits(62) + 1,
            envelope=envelope,
            settings=settings.times,
            fast=settings.detects,
        )

        def witnesses(selector: selectors.BaseSelector, answered: Callable[[], None]) -> Witnesses:
            return Witnesses(
                selector=selector,
                clock=clock,
                answered=answered,
                say=say,
                hosts=[each.address for each in settings.witnesses if each.port == 0],
                servers=[each for each in settings.witnesses if each.port],
            )

        return Gossip(
            engine,
            envelope,
            settings.endpoint,
            selector=selector,
            clock=clock,
            report=report,
            say=say,
            peers=settings.peers,
            witnesses=witnesses,
            since=time.time() - clock(),
        )

    return opened
