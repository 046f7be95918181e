"""A member of a memberlist cluster with a fast detector beside it, without I/O.

While all members are ours, which their metadata says, each beats to a few neighbours (`rings`), listens to them
(`hearing`), and votes on those that it no longer hears (`jury`); votes are passed on from neighbour to neighbour. As
soon as one member is another's program, memberlist alone says who lives, as that program expects it.

A node that hears nobody asks witnesses whether it is cut off itself (`contact`), and then no longer counts itself in.
One that was held for dead comes back as a member at once, and as a candidate when it has stayed for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from attrs import evolve, frozen

from lbcore.adapters.base import Report, Send
from lbcore.adapters.detector.contact import Contact
from lbcore.adapters.detector.hearing import Hearing
from lbcore.adapters.detector.jury import Jury
from lbcore.adapters.detector.messages import Beat, Vote, decode, encode
from lbcore.adapters.detector.penance import Parting, Penance
from lbcore.adapters.detector.rings import neighbours
from lbcore.adapters.detector.sightings import Sightings
from lbcore.adapters.detector.times import FAST, SLOW, Times
from lbcore.adapters.memberlist.engine import Counts, Memberlist
from lbcore.adapters.memberlist.envelope import Envelope
from lbcore.adapters.memberlist.messages import Dead, Endpoint, Message, Status, User
from lbcore.adapters.memberlist.messages import encode as encode_message
from lbcore.adapters.memberlist.outputs import GossipOutput
from lbcore.adapters.memberlist.settings import LAN, Settings
from lbcore.adapters.memberlist.table import Record, Table
from lbcore.adapters.returning import Returning
from lbcore.adapters.views import View
from lbcore.errors import RemoteProtocolError
from lbcore.events import MembersSeen
from lbcore.intents import SetPresence

__all__ = ["Ask", "Detector", "DetectorOutput"]

_NEVER = float("inf")
_READY, _STANDBY = b"lbcore/1", b"lbcore/1 standby"  # our metadata; MetalLB's members have none
_RELEASE = b"lbcore/"
_REPEATED = 0.2  # seconds between two accusations of a node that stays silent


@frozen
class Ask:
    """Ask every witness whether it hears us; an answer goes to `Detector.witnessed`. `routine`: nothing is wrong."""

    routine: bool


DetectorOutput = GossipOutput | Ask


class Detector:
    """A member called `name` that listens at `endpoint`, with the calls of `Memberlist`. Times in seconds.

    `life` is a number that no other process of this node has had. `fast` is what the operator wants: without it, or
    with others' programs among the members, memberlist alone tells who lives.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        *,
        rng: Random,
        life: int,
        envelope: Envelope | None = None,
        settings: Settings = LAN,
        times: Times = FAST,
        fast: bool = True,
    ) -> None:
        envelope = Envelope() if envelope is None else envelope
        self._name = name
        self._rng = rng
        self._life = life
        self._number = 0
        self._fast = fast
        self._times = times
        self._plain = evolve(envelope, compressed=False)  # a beat gets no smaller
        self._inner = Memberlist(
            name,
            endpoint,
            rng=rng,
            envelope=envelope,
            settings=settings,
            meta=_READY if fast else b"",
            above=self._hear,
        )
        self._hearing = Hearing(times)
        self._jury = Jury(times)
        self._contact = Contact(times)
        self._penance = Penance(times)
        self._parting = Parting()
        self._sightings = Sightings(name, _STANDBY)
        self._active = False
        self._last = 0.0
        self._beat_at = _NEVER
        self._heard_any = 0.0  # when anything came from a member
        self._accused: dict[str, float] = {}  # when we last did
        self._deaths = 0
        self._stale = True  # whether who is to be reported must be worked out again
        self._returning = Returning()
        self._reported: MembersSeen | None = None

    # What one may ask

    @property
    def table(self) -> Table:
        """What memberlist knows."""
        return self._inner.table

    @property
    def active(self) -> bool:
        """Whether the fast detector is in force."""
        return self._active

    @property
    def cut_off(self) -> bool:
        """Whether we are the one who is cut off, as far as we can know."""
        return self._contact.cut_off

    @property
    def waits(self) -> bool:
        """Whether we are a member, and for a while no candidate."""
        return self._penance.lasts

    @property
    def present(self) -> bool:
        """Whether we count ourselves in."""
        return self._inner.present

    @property
    def members(self) -> frozenset[str] | None:
        """The names last reported, or None before the first report."""
        return None if self._reported is None else self._reported.names

    @property
    def seen(self) -> MembersSeen | None:
        """What was last reported."""
        return self._reported

    @property
    def counts(self) -> Counts:
        """For the operator."""
        return self._inner.counts

    @property
    def revision(self) -> tuple[int, bool, bool]:
        """Another one when `view` may be another."""
        return self.table.news, self._active, self._contact.cut_off

    def view(self, now: float) -> View:
        """What there is to be seen of all, for people."""
        return View(
            node=self._name,
            fast=self._active,
            why=self._why(),
            cut_off=self._contact.cut_off,
            sights=self._sightings.see(self.table, now),
        )

    def _why(self) -> str:
        others = list(self.table.others(Status.ALIVE, Status.SUSPECT))
        strange = sorted(each.name for each in others if not each.meta.startswith(_RELEASE))
        if not self._fast:
            return "memberlist alone was asked for"
        if strange:
            return f"not lbcore's, or without its detector: {', '.join(strange)}"
        return "all members are lbcore's" if others else "there is no other member"

    @property
    def deadline(self) -> float:
        """When to call `tick` next."""
        if not self.present:
            return self._inner.deadline
        times = [self._inner.deadline, self._contact.deadline]
        if not self._contact.cut_off:
            times.append(self._penance.deadline)
        if self._active:
            times += [self._beat_at, self._jury.deadline(self._last) or _NEVER, self._next_doubt()]
        elif self._has_others():
            times.append(self._last + SLOW.interval)
        return min(times)

    def _next_doubt(self) -> float:
        soonest = _NEVER
        for voice in self._hearing.voices.values():
            for after in (self._times.doubt, self._times.expiry):
                if voice.heard + after > self._last:
                    soonest = min(soonest, voice.heard + after)
                    break
            if voice.heard + self._times.doubt <= self._last:
                soonest = min(soonest, max(voice.asked, self._last) + self._times.again)
        return soonest

    # The calls of memberlist

    def command(self, intent: SetPresence, now: float) -> list[DetectorOutput]:
        """Come in, or leave; leaving is told at once."""
        before = self.present
        outputs = self._inner.command(intent, now)
        if self.present and not before:
            self._last = self._heard_any = self._beat_at = now
            self._stale = True
        elif before and not self.present:
            self._be(active=False, now=now)
            self._contact.reassure(now)
        return self._settled(outputs, now)

    def set_peers(self, peers: Sequence[Endpoint], now: float) -> list[DetectorOutput]:
        """Where members may be found; ourselves among them does no harm."""
        return self._settled(self._inner.set_peers(peers, now), now)

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> list[DetectorOutput]:
        """A datagram has come. Never raises for what is in it."""
        self._wake(now)
        ignored = self._inner.counts.ignored
        outputs = self._inner.receive(datagram, source, now)
        if self._inner.counts.ignored == ignored:
            self._heard_any = now
        return self._settled(outputs, now)

    def receive_stream(self, message: Message, now: float) -> list[DetectorOutput]:
        """The one message of a connection that somebody opened to us."""
        self._heard_any = now
        return self._settled(self._inner.receive_stream(message, now), now)

    def answered(self, number: int, message: Message | None, now: float) -> list[DetectorOutput]:
        """What came back for a `Dial`; None when nothing did, or nothing that could be read."""
        if message is not None:
            self._heard_any = now
        return self._settled(self._inner.answered(number, message, now), now)

    def refuse(self, trouble: RemoteProtocolError) -> list[DetectorOutput]:
        """The answer to a stream that could not be read."""
        return [*self._inner.refuse(trouble)]

    def witnessed(self, now: float) -> list[DetectorOutput]:
        """A witness has answered: we are not cut off."""
        was = self._contact.cut_off
        self._contact.answered(now)
        return self.tick(now) if was and self.present else []

    def tick(self, now: float) -> list[DetectorOutput]:
        """Whatever is due; calling early or twice does no harm."""
        if not self.present:
            return self._settled(self._inner.tick(now), now)
        self._wake(now)
        outputs: list[DetectorOutput] = []
        if self._active:
            outputs += self._beat(now)
            outputs += self._doubt(now)
        outputs += self._mind_contact(now)
        if self._active:
            outputs += self._judge(now)
        if self._inner.deadline <= now:
            outputs += self._inner.tick(now)
        if not self._contact.cut_off and self._penance.ends(now):
            self.table.set_meta(_READY, now)
        return self._settled(outputs, now)

    def _wake(self, now: float) -> None:
        late = self._hearing.awake(now) if self._active else 0.0
        if late:
            self._contact.late(late)
        self._last = now

    # Beats and votes

    def _beat(self, now: float) -> list[DetectorOutput]:
        if self._beat_at > now:
            return []
        # Not in step with others; what was missed is not made up for.
        self._beat_at = now + self._times.interval * (1 - self._rng.random() / 10)
        return self._say(self._own_beat(asks=False), self._hearing.voices)

    def _own_beat(self, *, asks: bool) -> Beat:
        self._number += 1
        return Beat(name=self._name, life=self._life, number=self._number, asks=asks)

    def _say(self, message: Beat | Vote, names: Iterable[str]) -> list[DetectorOutput]:
        """One datagram, the same to each of them."""
        places = [self.table.records[name].endpoint for name in sorted(names) if name in self.table.records]
        if not places:
            return []
        data = self._plain.wrap([encode_message(User(encode(message)))])
        return [Send(data, where) for where in places]

    def _doubt(self, now: float) -> list[DetectorOutput]:
        """Ask those who are silent, and accuse those who stay so."""
        outputs: list[DetectorOutput] = []
        for name in self._hearing.quiet(self._times.doubt, now):
            voice = self._hearing.voices[name]
            if voice.asked + self._times.again <= now:
                voice.asked = now
                outputs += self._say(self._own_beat(asks=True), [name])
            if now - voice.heard >= self._times.expiry and self._accused.get(name, -_NEVER) + _REPEATED <= now:
                self._accused[name] = now
                outputs += self._vote(name, voice.life, now, accuses=True)
        return outputs

    def _vote(self, subject: str, life: int, now: float, *, accuses: bool) -> list[DetectorOutput]:
        self._number += 1
        vote = Vote(
            name=self._name,
            life=self._life,
            number=self._number,
            subject=subject,
            subject_life=life,
            accuses=accuses,
        )
        self._jury.take(vote, now)
        # Who hears nobody keeps it to himself: it would reach the others when he is back, and be wrong.
        return self._say(vote, self._hearing.voices) if self._may_judge(now) else []

    def _hear(self, data: bytes, _source: Endpoint, now: float) -> list[GossipOutput]:
        """Bytes that memberlist has brought for us."""
        try:
            message = decode(data)
        except RemoteProtocolError:
            return []
        outputs: list[DetectorOutput] = []
        if message.name != self._name and self._fast:
            outputs = self._take_beat(message, now) if isinstance(message, Beat) else self._take_vote(message, now)
        return [output for output in outputs if not isinstance(output, Ask)]

    def _take_beat(self, beat: Beat, now: float) -> list[DetectorOutput]:
        record = self.table.records.get(beat.name)
        if record is None:
            return []
        if record.status is Status.DEAD:
            # With a beat, as we beat to members only: two that come back together would hold us for dead.
            return [self._tell_the_dead(record), *self._say(self._own_beat(asks=False), [record.name])]
        outputs: list[DetectorOutput] = []
        if self._hearing.hear(beat, now) and self._accused.pop(beat.name, None) is not None:
            outputs += self._vote(beat.name, beat.life, now, accuses=False)
        if beat.asks and record.is_here:
            outputs += self._say(self._own_beat(asks=False), [beat.name])
        return outputs

    def _tell_the_dead(self, record: Record) -> Send[Endpoint]:
        """Somebody woke up, or was cut off: it is to know what we think, and can say that it is not so."""
        word = Dead(incarnation=record.incarnation, node=record.name, origin=self._name)
        return Send(self._plain.wrap([encode_message(word)]), record.endpoint)

    def _take_vote(self, vote: Vote, now: float) -> list[DetectorOutput]:
        subject = self.table.records.get(vote.subject)
        if not self._active:
            return []
        if subject is not None and not subject.is_here and vote.accuses:
            return self._second(vote, subject)
        if subject is None or not subject.is_here or not self._jury.take(vote, now):
            return []
        outputs = self._say(vote, self._hearing.voices.keys() - {vote.name, vote.subject})
        voice = self._hearing.voices.get(vote.subject)
        if voice is not None and vote.accuses and vote.subject_life in {0, voice.life}:
            if now - voice.heard < self._times.doubt:
                outputs += self._vote(vote.subject, voice.life, now, accuses=False)
            else:
                outputs += self._doubt(now)
        return [*outputs, *self._judge(now)]

    def _second(self, vote: Vote, subject: Record) -> list[DetectorOutput]:
        """Somebody waits for our vote on one whom we hold for dead already: the verdict did not reach him.

        Gossip tells it four times in a small cluster, to the dead among others; nobody votes on the dead again, and
        memberlist by itself takes up to 24 s.
        """
        accuser = self.table.records.get(vote.name)
        if accuser is None or not accuser.is_here:
            return []
        origin = subject.name if subject.status is Status.LEFT else self._name
        word = Dead(incarnation=subject.incarnation, node=subject.name, origin=origin)
        return [Send(self._plain.wrap([encode_message(word)]), accuser.endpoint)]

    def _judge(self, now: float) -> list[DetectorOutput]:
        """Hold for dead whom the votes say so of, as long as we are not the one who hears nobody."""
        outputs: list[DetectorOutput] = []
        subjects = self._jury.subjects
        names = self.table.names if subjects else frozenset[str]()
        for subject in subjects:
            if subject not in names:
                self._jury.close(subject)
                continue
            ours = subject == self._name
            if not self._jury.is_guilty(subject, neighbours(subject, names), now, by_all=ours):
                continue
            if ours:
                self._jury.close(subject)
                self._was_away()
                self._do_penance(now)
            elif self._may_judge(now):
                self._sightings.blame(subject, self._jury.accusers(subject, now))
                self._jury.close(subject)
                outputs += self._inner.condemn(subject, now)
        self._jury.tick(now)
        return outputs

    def _may_judge(self, now: float) -> bool:
        if self._hearing.any_heard(now) or self._contact.is_answered(now):
            return True
        return self._contact.is_helpless(now)

    # Our own place

    def _has_others(self) -> bool:
        return len(self.table.records) > 1 and any(True for _ in self.table.others(Status.ALIVE, Status.SUSPECT))

    def _mind_contact(self, now: float) -> list[DetectorOutput]:
        """Ask the witnesses while no member is heard, and see what follows from their silence."""
        contact, was = self._contact, self._contact.cut_off
        if self._active:
            heard = any(now - voice.heard < self._times.doubt for voice in self._hearing.voices.values())
        elif was:
            heard = now - self._heard_any < self._times.doubt or contact.is_answered(now)
        elif self._has_others():
            heard = now - self._heard_any < SLOW.doubt
        else:  # who was left alone goes on for as long as a witness answers
            heard = not (self._inner.has_peers and contact.has_witness)
        outputs: list[DetectorOutput] = []
        if contact.reassure(now) if heard else contact.doubt(now):
            outputs.append(Ask(routine=heard))
        if not heard:
            contact.judge(now)
        if contact.cut_off != was:
            self._stale = True
            self._do_penance(now)
            if was:  # what was silent then was silent to us alone
                self._jury.clear()
                self._hearing.forgive(now)
                self.table.forgive(now)
                outputs += self._inner.seek(now)
        return outputs

    def _was_away(self) -> None:
        """We were held for dead: what we announce was announced by others meanwhile, and clients may believe them."""
        self._returning.come_back()
        self._stale = True

    def _do_penance(self, now: float) -> None:
        """We were held for dead, or held ourselves for cut off: stay in, and be no candidate for a while."""
        self._penance.begin(now)
        if self._fast:
            self.table.set_meta(_STANDBY, now)

    # What follows

    def _be(self, *, active: bool, now: float) -> None:
        if active is not self._active:
            self._active = active
            self._contact.times = self._times if active else SLOW
            self._beat_at = now
        chosen = neighbours(self._name, self.table.names) if active else frozenset[str]()
        self._hearing.listen_to(chosen, now)
        for name in self._accused.keys() - chosen:
            del self._accused[name]

    def _settled(self, outputs: Iterable[DetectorOutput], now: float) -> list[DetectorOutput]:
        """Memberlist's own reports give way to ours."""
        table = self.table
        if table.changed:
            self._parting.see(table, now)
        missed: list[DetectorOutput] = []
        if table.deaths > self._deaths:
            self._deaths = table.deaths
            self._was_away()
            missed += self._inner.seek(now)
            if not self._parting.prevails(table.names, self._name, now):
                self._do_penance(now)
        if table.changed:
            table.changed, self._stale = False, True
            others = list(table.others(Status.ALIVE, Status.SUSPECT))
            ours = bool(others) and all(record.meta.startswith(_RELEASE) for record in others)
            self._be(active=self._fast and self.present and ours, now=now)
        kept: list[DetectorOutput] = [output for output in (*outputs, *missed) if not isinstance(output, Report)]
        if not self._stale or self._inner.members is None:
            return kept
        self._stale = False
        names, waiting = self._candidates()
        if self._reported is not None:
            lost, waited = (self._dead_of(each) for each in (self._reported.names, self._reported.waiting))
            self._returning.lose(lost, waited)
        self._returning.see(names, waiting)
        seen = MembersSeen(names, waiting, self._returning.reunions)
        if seen == self._reported:
            return kept
        self._reported = seen
        return [*kept, Report(seen)]

    def _dead_of(self, names: frozenset[str]) -> list[str]:
        """Those that are held for dead, sorted."""
        return sorted(each.name for each in self.table.others(Status.DEAD) if each.name in names)

    def _candidates(self) -> tuple[frozenset[str], frozenset[str]]:
        """The members, but for those that are to wait, and these; all when all are. Without us when we are cut off."""
        table = self.table
        names, waiting = table.names, frozenset[str]()
        if self._active or (self._fast and len(names) == 1):
            ready = frozenset(name for name in names if table.records[name].meta != _STANDBY)
            waiting = names - ready if ready else waiting
        out = frozenset({self._name} if self._contact.cut_off else ())
        return names - waiting - out, waiting - out
