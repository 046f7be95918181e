"""The speaker's side of the reflex process: finds it or starts it, commands it, hears what it reports.

To the speaker's loop this is one more Source and Sink. The child outlives the speaker: it has its
own session, and is told `Bye` only when it is of another release or was started with other
arguments. Nothing is decided here; the intents of which there is only one (`SetLinks`,
`SetPeers`, `SetPresence`, `SetWatches`) are remembered, to be said again to a child that has just been born.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from importlib import metadata
from pathlib import Path

from attrs import field, frozen

from lbcore.adapters.base import Report
from lbcore.adapters.counts import AddressCount
from lbcore.adapters.reflex import (
    MAX_LINE,
    Ack,
    Bye,
    Command,
    Hello,
    Message,
    Nack,
    Ping,
    Pong,
    ReflexIntent,
    Replaced,
    Seen,
    Statistics,
    decode,
    encode,
)
from lbcore.adapters.views import View
from lbcore.addresses import Address
from lbcore.backends.gossip_settings import GossipSettings
from lbcore.backends.link import CapabilityError
from lbcore.errors import LbcoreError, RemoteProtocolError
from lbcore.events import AnsweringSeen, Applied, Event, Failed, Kind, Listed, MembersSeen
from lbcore.intents import (
    Announce,
    AnnounceAnew,
    Intent,
    SetLinks,
    SetPeers,
    SetPresence,
    SetWatches,
    StandBy,
    Withdraw,
)

__all__ = ["Reflex", "ReflexRefusedError", "ReflexReplacedError", "ReflexSettings"]

_PING = 1.0  # seconds between two pings, or a fourth of the child's silence if that is less
_HUNG = 5.0  # seconds without a word from the child, which answers every ping
_ANSWER = 5.0  # seconds for the answer to one command
_BIRTH = 5.0  # seconds from starting a child to its socket
_LEAVE = 3.0  # seconds for a child that was told Bye
_BACKOFF = (0.05, 5.0)  # seconds before the first and the later attempts; doubled in between

# What the child's exit statuses mean (sysexits.h, and argparse's 2): no restart would help.
_EXIT_USAGE, _EXIT_NO_PERMISSION, _EXIT_CONFIG = 2, 77, 78


class ReflexRefusedError(LbcoreError):
    """The reflex process will not run with these arguments; its own line on stderr says why."""


class ReflexReplacedError(LbcoreError):
    """Another speaker has taken over this node's reflex process: two must not run on one node."""


class _LostError(Exception):
    """The connection is over; the message is for the log."""


def _installed_release() -> str:
    try:
        return metadata.version("lbcore")
    except metadata.PackageNotFoundError:  # run from a source tree that nobody installed
        return "unknown"


@frozen(kw_only=True)
class ReflexSettings:
    """How to find the reflex process and how to start it; times in seconds.

    `members` is the folder of member records (None: this node is alone, or with `tells_members` false: who lives is
    told by another source), `gossip` takes its place, `link_backend` is `packet`
    or `scapy`, `silence` how long the child goes on without us, `refresh` the time between
    repeated announcements (0: none), `log_format` is `text` or `json`. A child of another `release` is replaced.
    """

    socket: Path
    node: str
    members: Path | None = None
    tells_members: bool = True
    gossip: GossipSettings | None = None
    link_backend: str = "packet"
    silence: float = 5.0
    interval: float = 0.1
    expiry: float = 0.5
    refresh: float = 60.0
    log_format: str = "text"
    release: str = field(factory=_installed_release)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The child's command line after the program."""
        members = () if self.members is None else ("--members", str(self.members))
        return (
            *("--socket", str(self.socket), "--node", self.node, *members),
            *("--release", self.release),
            *("--link-backend", self.link_backend, "--silence", f"{self.silence:g}"),
            *("--interval", f"{self.interval:g}", "--expiry", f"{self.expiry:g}", "--refresh", f"{self.refresh:g}"),
            *("--log-format", self.log_format),
            *(() if self.gossip is None else self.gossip.arguments),
        )


class _Channel:
    """One connection to a child: numbered commands out, their answers matched, the rest handed on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[Ack | Nack]] = {}

    @classmethod
    async def open(cls, path: Path) -> _Channel:
        """Connect; raises `OSError` when nobody listens."""
        return cls(*await asyncio.open_unix_connection(path, limit=MAX_LINE))

    @property
    def pid(self) -> int:
        """The child's process id, or 0 when it is in another pid namespace."""
        connected: socket.socket = self._writer.get_extra_info("socket")
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])

    async def receive(self, patience: float) -> Message:
        """The next message. Raises `_LostError` at the end, and `TimeoutError` after `patience` seconds."""
        async with asyncio.timeout(patience):
            try:
                line = await self._reader.readline()
            except (OSError, ValueError) as error:  # ValueError: a line longer than the limit
                raise _LostError(str(error)) from None
        if not line.endswith(b"\n"):
            raise _LostError("the reflex process hung up")
        try:
            return decode(line)
        except RemoteProtocolError as error:
            raise _LostError(str(error)) from None

    def send(self, message: Message) -> None:
        """Put a message on its way; a broken connection shows at the next `receive`."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    def command(self, intent: ReflexIntent) -> asyncio.Future[Ack | Nack]:
        """Send an intent; the future is its answer, cancelled when the connection ends first."""
        self._sequence += 1
        answer: asyncio.Future[Ack | Nack] = asyncio.get_running_loop().create_future()
        self._waiting[self._sequence] = answer
        self.send(Command(self._sequence, intent))
        return answer

    def settle(self, answer: Ack | Nack) -> None:
        """Match an answer with its command."""
        waiting = self._waiting.pop(answer.seq, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def close(self) -> None:
        """Hang up; whoever still waits for an answer gets none."""
        self._writer.close()
        for waiting in self._waiting.values():
            waiting.cancel()
        self._waiting.clear()


class Reflex:
    """The reflex process as a Source of `AnsweringSeen`, `MembersSeen`, `WatchSeen` and `AddressHeard`, and
    as a Sink for `SetLinks`, `Announce`, `AnnounceAnew`, `StandBy`, `Withdraw`, `SetPeers`, `SetPresence` and
    `SetWatches`.

    `replaced` is whether another speaker has taken the child. `view` is what a child that gossips sees of the others,
    `statistics` are the child's counters, and `counts` those of each address it answers for, as it told them last: a
    second ago, or longer where there are many. `say` takes a line for the log. `events()` is to be iterated for as long
    as the sink is used: it carries the connection. It raises `CapabilityError` when the child lacks CAP_NET_RAW,
    `ReflexRefusedError` when it will not start, and `ReflexReplacedError` when another speaker took it.
    """

    handles: tuple[type[Intent], ...] = (
        SetLinks, Announce, AnnounceAnew, StandBy, Withdraw, SetPeers, SetPresence, SetWatches,
    )  # fmt: skip

    def __init__(self, settings: ReflexSettings, *, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._channel: _Channel | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._remembered: dict[type[Intent], ReflexIntent] = {}
        self._listed = False
        self._closing = False
        self._carrier: asyncio.Task[None] | None = None
        self._disconnected = asyncio.Event()
        self._disconnected.set()
        self._diverted: Callable[[MembersSeen], None] | None = None
        self._members = frozenset[str]()  # as the child said last
        self._taken_up: int | None = None  # a descriptor of the child's process, where another speaker started it
        self.replaced = False
        self.view: View | None = None
        self.statistics = Statistics()
        self.counts: dict[Address, AddressCount] = {}

    @property
    def pid(self) -> int | None:
        """The process id of the child that is connected; None while there is none."""
        return None if self._channel is None else self._channel.pid

    def divert_members(self, hear: Callable[[MembersSeen], None]) -> None:
        """Have somebody else hear who the members are, and not `events`."""
        self._diverted = hear

    async def events(self) -> AsyncIterator[Event]:
        """`AnsweringSeen` at every connection, then what the child reports; `Listed(Kind.MEMBERS)`
        follows the first membership. Ends after `close`.
        """
        carrier = self._carrier = asyncio.create_task(self._carry())
        carrier.add_done_callback(lambda _: self._events.put_nowait(None))
        try:
            while (event := await self._events.get()) is not None:
                yield event
            if not carrier.cancelled():
                carrier.result()
        finally:
            carrier.cancel()
            await asyncio.wait((carrier,))

    async def apply(self, intent: Intent) -> Applied | Failed:
        """Have the child carry out one intent; `Failed(retry=True)` while there is none."""
        if not isinstance(intent, ReflexIntent):
            return Failed(intent=intent, message=f"{type(intent).__name__} is not for Layer 2", retry=False)
        if isinstance(intent, SetLinks | SetPeers | SetPresence | SetWatches):
            self._remembered[type(intent)] = intent
        if self._channel is None:
            return Failed(intent=intent, message="the reflex process is away")
        told: ReflexIntent = intent
        if isinstance(intent, StandBy) and intent.member not in self._members:
            # Others told us of that member, as in `Crossing`: the child does not know it, and would hold it for gone.
            told = Withdraw(address=intent.address)
        try:
            async with asyncio.timeout(_ANSWER):
                answer = await asyncio.shield(self._channel.command(told))
        except TimeoutError:
            return Failed(intent=intent, message=f"the reflex process has not answered for {_ANSWER:g} s")
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return Failed(intent=intent, message="the reflex process went away")
        if isinstance(answer, Nack):
            return Failed(intent=intent, message=answer.message, retry=answer.retry)
        if isinstance(intent, StandBy | Withdraw):
            self.counts.pop(intent.address, None)
        return Applied(intent)

    async def close(self, *, leave: bool) -> None:
        """End `events()`. With `leave` the child leaves membership, lets go of its addresses and
        exits; without, it goes on for its `silence`, for the next speaker to find.
        """
        self._closing = True
        if leave and self._channel is not None:
            self._channel.send(Bye())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE):
                    await self._disconnected.wait()
        elif leave and self._child is not None:
            self._child.terminate()
        elif leave and not self.replaced:
            await self._end_taken_up()
        if self._carrier is not None:
            self._carrier.cancel()
        await self._reap(_LEAVE if leave else 0.0)
        self._let_go()

    # The connection, over and over

    async def _carry(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = _BACKOFF[0]
        while not self._closing:
            began = clock()
            channel = await self._connect_or_start()
            if channel is not None:
                await self._use(channel)
            if clock() - began > _BACKOFF[1]:
                pause = _BACKOFF[0]
            if not self._closing:
                await asyncio.sleep(pause)
            pause = min(pause * 2, _BACKOFF[1])

    async def _use(self, channel: _Channel) -> None:
        """One connection from its greeting to its end."""
        try:
            hello = await self._greet(channel)
            if hello is not None:
                self._take_up(channel)
                await self._converse(channel, hello)
        except TimeoutError:
            self._say("the reflex process does not answer: killing it")
            _kill(channel)
        except _LostError as error:
            if not self._closing:
                self._say(f"reflex process lost: {error}")
        finally:
            self._channel = None
            channel.close()
            self._disconnected.set()

    async def _connect_or_start(self) -> _Channel | None:
        """A connection to the child that is there, or to a new one; None when this did not work out."""
        with contextlib.suppress(OSError):
            return await _Channel.open(self._settings.socket)
        await self._reap(0.0)
        if self._child is None:
            self._child = _start(self._settings)
        return await self._await_birth(self._child)

    async def _await_birth(self, child: subprocess.Popen[bytes]) -> _Channel | None:
        for _ in range(int(_BIRTH / 0.02)):
            status = child.poll()
            if status is not None:
                self._child = None
                self._judge(status)
                return None
            with contextlib.suppress(OSError):
                return await _Channel.open(self._settings.socket)
            await asyncio.sleep(0.02)
        self._say(f"the reflex process does not open {self._settings.socket} within {_BIRTH:g} s: killing it")
        child.kill()
        await self._reap(_LEAVE)
        return None

    def _judge(self, status: int) -> None:
        """Raise for a child that would never start; say so for one that may."""
        if status == _EXIT_NO_PERMISSION:
            raise CapabilityError("reflex process")
        if status in (_EXIT_USAGE, _EXIT_CONFIG):
            raise ReflexRefusedError(f"the reflex process ended with status {status}; it said why on stderr")
        self._say(f"the reflex process ended with status {status} before it listened")

    async def _greet(self, channel: _Channel) -> Hello | None:
        """The child's greeting; None after sending home one that is not as we would have started it."""
        hello = await channel.receive(_HUNG)
        if not isinstance(hello, Hello):
            raise _LostError(f"it began with {type(hello).__name__}")
        if (hello.version, hello.arguments) == (self._settings.release, self._settings.arguments):
            return hello
        self._say(f"found a reflex process of version {hello.version} with {' '.join(hello.arguments)}: replacing it")
        channel.send(Bye())
        with contextlib.suppress(_LostError):
            while True:
                await channel.receive(_LEAVE)
        return None

    async def _converse(self, channel: _Channel, hello: Hello) -> None:
        """Everything after the greeting; ends with `_LostError`, or `TimeoutError` when the child hangs."""
        for intent in self._remembered.values():
            channel.command(intent)
        self._disconnected.clear()
        self._channel = channel
        self.counts.clear()  # a child that has gone on says them all again
        self._events.put_nowait(AnsweringSeen(hello.answering))
        pings = asyncio.create_task(_ping(channel, min(_PING, self._settings.silence / 4)))
        try:
            while True:
                try:
                    message = await channel.receive(_HUNG)
                except TimeoutError:  # or was it us who stood still? What lies there unread is read first
                    message = await channel.receive(_PING)
                self._take(channel, message)
        finally:
            pings.cancel()

    def _take(self, channel: _Channel, message: Message) -> None:
        match message:
            case Ack() | Nack():
                channel.settle(message)
            case Report(MembersSeen()) if not self._settings.tells_members:
                pass
            case Report(MembersSeen() as seen) if self._diverted is not None:
                self._members = seen.names
                self._diverted(seen)
            case Seen(view):
                self.view = view
            case Report(event):
                self._events.put_nowait(event)
                if isinstance(event, MembersSeen):
                    self._members = event.names
                    if not self._listed:
                        self._listed = True
                        self._events.put_nowait(Listed(Kind.MEMBERS))
            case Pong(statistics, counts):
                self.statistics = statistics
                self.counts.update((count.address, count) for count in counts)
            case Replaced():
                self.replaced = True
                self._child = None  # the other speaker's now: our end must not end it
                raise ReflexReplacedError("another speaker has taken over this node's reflex process; only one may run")
            case _:
                raise _LostError(f"it sent a {type(message).__name__}")

    # The process

    def _take_up(self, channel: _Channel) -> None:
        """Keep hold of a child that is not ours: at our end there may be no connection left to tell it by."""
        self._let_go()
        if self._child is None and channel.pid > 0 and hasattr(os, "pidfd_open"):  # which some builds of Python lack
            with contextlib.suppress(OSError):  # it is gone already, or the kernel has no such descriptors
                self._taken_up = os.pidfd_open(channel.pid)

    def _let_go(self) -> None:
        if self._taken_up is not None:
            os.close(self._taken_up)
            self._taken_up = None

    async def _end_taken_up(self) -> None:
        if self._taken_up is None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._taken_up, signal.SIGTERM)
        end = select.poll()
        end.register(self._taken_up, select.POLLIN)
        for _ in range(int(_LEAVE / 0.02)):
            if end.poll(0):
                return
            await asyncio.sleep(0.02)

    async def _reap(self, patience: float) -> None:
        """Take note of our child's end, waiting for it for so many seconds."""
        for _ in range(int(patience / 0.02) + 1):
            if self._child is None or self._child.poll() is not None:
                self._child = None
                return
            await asyncio.sleep(0.02)


async def _ping(channel: _Channel, pause: float) -> None:
    while True:
        channel.send(Ping())
        await asyncio.sleep(pause)


def _kill(channel: _Channel) -> None:
    """End a child that hangs: it holds the socket's name, and nobody answers for its addresses."""
    with contextlib.suppress(OSError):
        if channel.pid > 0:
            os.kill(channel.pid, signal.SIGKILL)


def _start(settings: ReflexSettings) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that what ends the speaker does not end it.

    Not by asyncio's subprocesses: they kill their child when the event loop is closed.
    """
    return subprocess.Popen(
        (sys.executable, "-m", "lbcore.daemons.reflex", *settings.arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _is_cancelled() -> bool:
    """Whether it is this task that is to end, rather than the answer that will not come."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
