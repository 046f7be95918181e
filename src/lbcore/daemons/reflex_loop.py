"""The loop of the reflex process: engines, sockets, a clock, and one selector that waits for all.

One `turn` waits for the next thing to do and does it; whatever is wanted comes from the parent's
commands, and whatever is decided comes from the engines. Nothing here knows of processes, signals
or the command line (`lbcore.daemons.reflex` does), so that a test can turn it by hand.
"""

from __future__ import annotations

import random
import selectors
from collections.abc import Callable, Sequence

from lbcore.adapters.base import Hangup, Report, Send
from lbcore.adapters.reflex import Ack, Bye, Command, Hello, Message, Nack, Ping, Pong, Replaced, Seen, Statistics
from lbcore.adapters.responder import Responder
from lbcore.adapters.understudy import Understudy
from lbcore.adapters.views import View
from lbcore.backends.base import FrameLink, LinkFault
from lbcore.backends.bfd import BfdPorts
from lbcore.backends.linkset import LinkSet
from lbcore.backends.local import Connection, HangupError, Listener
from lbcore.backends.troubles import Troubles
from lbcore.daemons.membership import OpenMembership
from lbcore.errors import RemoteProtocolError
from lbcore.events import Event, MembersSeen, WatchSeen
from lbcore.intents import Announce, AnnounceAnew, SetLinks, SetPeers, SetPresence, SetWatches, StandBy, Withdraw
from lbcore.model import Link

__all__ = ["ReflexLoop"]

_NEVER = float("inf")
_COUNTS = 250  # addresses whose counts a Pong tells, about 1 ms: nobody who asks meanwhile waits longer
_ALWAYS = (MembersSeen, WatchSeen)
_PORTION = 100  # addresses taken over before others get their turn, some 3 ms
_MAX_UNHEARD = 256 << 10  # bytes waiting for the parent beyond which reports are dropped, not queued


class ReflexLoop:
    """Carries the engines with sockets and a clock: one `turn` waits for something to do and does it.

    `node` is the name among members, `membership` and `open_link` open what their names say, `say` takes a line for
    the operator, and times are in seconds on `clock`; `release` and `arguments` are told to every parent. `silence` is
    how long a parent may say nothing; `linger` is for how long addresses are answered after `ask_to_end`, so that a
    successor can be heard first.
    """

    def __init__(
        self,
        *,
        node: str,
        listener: Listener,
        responder: Responder,
        membership: OpenMembership,
        open_link: Callable[[Link], FrameLink | LinkFault],
        clock: Callable[[], float],
        say: Callable[[str], None],
        release: str,
        arguments: tuple[str, ...] = (),
        silence: float = 5.0,
        linger: float = 2.0,
    ) -> None:
        self._listener = listener
        self._responder = responder
        self._open_link = open_link
        self._clock = clock
        self._say = say
        self._release = release
        self._arguments = arguments
        self._silence = silence
        self._linger = linger
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._parent: Connection | None = None
        self._heard_at = clock()
        self._troubles = Troubles(say)
        self._understudy = Understudy(node)
        self._membership = membership(self._selector, self._report, say)
        self._links = LinkSet(open_link, selector=self._selector, hear=self._hear_frames, troubles=self._troubles)
        # Discriminators and ports are nobody's secret; that two sessions of a network differ is enough.
        self._bfd = BfdPorts(rng=random.Random(), selector=self._selector, clock=clock, report=self._report, say=say)
        self._groups_changed = False
        self._told: View | None = None
        self._end_at = _NEVER
        self._ending = False
        self._frames_refused = self._faults = self._reports_dropped = 0

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do but `close`."""
        return self._clock() >= self._end_at

    def watch(self, handle: int, callback: Callable[[int], None]) -> None:
        """Call back when another file is readable: the signals' wake-up."""
        self._selector.register(handle, selectors.EVENT_READ, callback)

    def ask_to_end(self) -> None:
        """Leave membership now and the addresses after `linger`; asked twice: at once."""
        now = self._clock()
        if self._ending:
            self._end_at = now
            return
        self._ending = True
        self._end_at = now + (self._linger if self._responder.answering else 0.0)
        self._membership.command(SetPresence(present=False, why="asked to end"))

    def run(self) -> None:
        """Turn until the end, then leave whatever is still held."""
        try:
            while not self.ended:
                self.turn()
        finally:
            self.close()

    def turn(self, patience: float = _NEVER) -> None:
        """Wait for the next thing to do, at most until the next deadline or `patience` seconds, and do it."""
        timeout = max(0.0, min(patience, self._deadline() - self._clock()))
        for key, events in self._selector.select(timeout):
            key.data(events)
        self._tick()
        if self._groups_changed and not self._understudy.waiting:  # who is told unasked need not ask
            self._groups_changed = False
            self._links.set_groups(self._responder.groups)
        self._tell_view()
        self._flush()

    def close(self) -> None:
        """Leave membership, let go of every address, hang up and give the name back."""
        self._membership.close()
        self._bfd.close()
        self._links.close()
        self._flush()
        self._hang_up()
        self._listener.close()
        self._selector.close()

    # Time

    def _deadline(self) -> float:
        responder = self._responder.deadline
        return min(
            0.0 if self._understudy.waiting else _NEVER,
            self._membership.deadline,
            self._bfd.deadline,
            _NEVER if responder is None else responder,
            self._heard_at + self._silence,
            self._links.retry_at,
            self._end_at,
        )

    def _tick(self) -> None:
        now = self._clock()
        due = self._responder.deadline
        if due is not None and due <= now:
            self._carry_out(self._responder.tick(now))
        self._take_over(now)
        if self._membership.deadline <= now:
            self._membership.tick()
        if self._bfd.deadline <= now:
            self._bfd.tick()
        if self._links.retry_at <= now:
            self._groups_changed |= self._links.retry(now)
        if now - self._heard_at >= self._silence and not self._ending:
            self._say(f"no speaker was heard for {self._silence:g} s: leaving")
            self._ending = True
            self._end_at = now

    # Outputs

    def _carry_out(self, outputs: Sequence[Send[int] | Report | Hangup]) -> None:
        for output in outputs:
            match output:
                case Send(data, index):
                    if not self._links.send(data, index):
                        self._frames_refused += 1
                case Report(event):
                    self._report(event)
                case Hangup(reason):
                    self._say(reason)

    def _take_over(self, now: float) -> None:
        """Some of what is to be answered for since a member is gone, or no longer since one is back."""
        for intent in self._understudy.due(_PORTION):
            self._carry_out(self._responder.command(intent, now))
            self._groups_changed = True

    def _report(self, event: Event) -> None:
        if isinstance(event, MembersSeen):
            self._understudy.see(event.names)
            self._take_over(self._clock())
        if self._parent is not None and (self._parent.waiting <= _MAX_UNHEARD or isinstance(event, _ALWAYS)):
            self._parent.send(Report(event))
        elif not isinstance(event, _ALWAYS):  # told anew to every parent
            self._reports_dropped += 1

    def _tell_view(self) -> None:
        view = self._membership.view
        if view is not self._told and view is not None and self._parent is not None:
            self._told = view
            self._parent.send(Seen(view))

    # The parent

    def _accept(self, _events: int) -> None:
        connection = self._listener.accept()
        if connection is None:
            return
        if self._parent is not None:
            self._parent.send(Replaced())
            self._flush()
            self._hang_up()
        self._parent = connection
        self._heard_at = self._clock()
        self._selector.register(connection, selectors.EVENT_READ, self._hear_parent)
        connection.send(
            Hello(
                version=self._release,
                arguments=self._arguments,
                answering=self._responder.answering,
                present=self._membership.present,
            )
        )
        self._understudy.clear()  # this parent will say its own
        self._responder.recount()
        if self._membership.seen is not None:
            connection.send(Report(self._membership.seen))
        self._told = None
        self._bfd.recount()

    def _hear_parent(self, events: int) -> None:
        if self._parent is None or not events & selectors.EVENT_READ:
            return
        try:
            messages = self._parent.receive()
        except HangupError:
            self._hang_up()
            return
        except RemoteProtocolError as error:
            self._say(f"the speaker does not keep to the protocol, hanging up: {error}")
            self._hang_up()
            return
        self._heard_at = self._clock()
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        match message:
            case Command():
                self._answer(self._obey(message))
            case Ping():
                self._answer(Pong(self.statistics, self._responder.counts(_COUNTS)))
            case Bye():
                self._ending = True
                self._end_at = self._clock()
            case _:
                self._say(f"the speaker sent a {type(message).__name__}, which only this process sends; ignored")

    def _answer(self, message: Message) -> None:
        if self._parent is not None:
            self._parent.send(message)

    def _flush(self) -> None:
        if self._parent is None:
            return
        try:
            self._parent.flush()
        except HangupError:
            self._hang_up()
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._parent.waiting else 0)
        if self._selector.get_key(self._parent).events != wanted:
            self._selector.modify(self._parent, wanted, self._hear_parent)

    def _hang_up(self) -> None:
        if self._parent is not None:
            self._selector.unregister(self._parent)
            self._parent.close()
            self._parent = None

    @property
    def statistics(self) -> Statistics:
        """What has been done since the start."""
        engine = self._responder.statistics
        return Statistics(
            arp_answered=engine.arp_answered,
            ndp_answered=engine.ndp_answered,
            gratuitous=engine.gratuitous,
            malformed=engine.malformed,
            heard=engine.heard,
            addresses=len(self._responder.answering),
            frames_refused=self._frames_refused,
            faults=self._faults,
            reports_dropped=self._reports_dropped,
            records_ignored=self._membership.ignored,
        )

    # Commands

    def _obey(self, command: Command) -> Ack | Nack:
        now = self._clock()
        match command.intent:
            case SetPresence() as intent:
                if intent.present and self._ending:
                    return Nack(seq=command.seq, message="the reflex process is ending", retry=True)
                self._membership.command(intent)
            case SetPeers(addresses):
                self._membership.set_peers(addresses)
            case SetWatches(watches):
                self._bfd.set(watches)
            case SetLinks() as intent:
                return self._set_links(command.seq, intent, now)
            case AnnounceAnew() as intent:
                self._carry_out(self._responder.command(intent, now))
            case Announce() | Withdraw() as intent:
                self._understudy.settle(intent.address)
                self._carry_out(self._responder.command(intent, now))
                self._groups_changed = True
            case StandBy() as intent:
                self._carry_out(self._responder.command(Withdraw(address=intent.address), now))
                self._groups_changed = True
                self._understudy.command(intent)
        return Ack(command.seq)

    def _set_links(self, seq: int, intent: SetLinks, now: float) -> Ack | Nack:
        missing = self._links.set(intent.links, now)
        self._carry_out(self._responder.command(intent, now))
        self._groups_changed = True
        return Ack(seq) if missing is None else Nack(seq=seq, message=f"cannot use {missing}", retry=True)

    def _hear_frames(self, index: int, frames: list[bytes]) -> None:
        """The hot path: frames in, engine, frames out."""
        now = self._clock()
        receive = self._responder.receive
        for frame in frames:
            try:
                outputs = receive(frame, index, now)
            except Exception as error:  # one frame must not end the answers to all others
                self._faults += 1
                self._troubles.note("a frame was not understood; please report it", f"{error!r} {frame.hex()}")
                continue
            if outputs:
                self._carry_out(outputs)
