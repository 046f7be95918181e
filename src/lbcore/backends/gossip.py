"""The sockets of one memberlist member: a port by UDP and TCP, driven by a selector that somebody else waits on.

What is said and when is decided by `lbcore.adapters.memberlist`; here bytes are carried, connections are
limited in number, size and time, and nothing blocks.
"""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Callable, Iterable
from functools import partial

from lbcore.adapters.base import Report, Send
from lbcore.adapters.detector.engine import Ask, Detector, DetectorOutput
from lbcore.adapters.memberlist.envelope import Envelope
from lbcore.adapters.memberlist.messages import Endpoint, Message
from lbcore.adapters.memberlist.outputs import Answer, Dial
from lbcore.adapters.memberlist.streams import StreamReader
from lbcore.adapters.views import View
from lbcore.addresses import Address
from lbcore.backends.troubles import Troubles
from lbcore.backends.witnesses import OpenWitnesses, nobody
from lbcore.errors import RemoteProtocolError
from lbcore.events import Event, MembersSeen
from lbcore.intents import SetPresence

__all__ = ["Gossip"]

_MAX_ACCEPTED, _MAX_DIALLED = 128, 64  # connections at once; memberlist refuses more than 128, too
_PATIENCE = 10.0  # seconds for what somebody who has dialled us wants to say
_BURST = 64  # datagrams read before others get their turn
_BUFFER = 2 << 20  # bytes; memberlist asks for as much
_CHUNK = 1 << 16
_VIEW = 0.25  # seconds between two views of all members, which with a thousand of them take some milliseconds

_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EAGAIN, errno.EWOULDBLOCK})


class _Stream:
    """One connection, of which side so ever: what is still to be sent, what has come, and until when."""

    def __init__(self, connection: socket.socket, reader: StreamReader, until: float, dial: int | None) -> None:
        self.connection = connection
        self.reader = reader
        self.until = until
        self.dial = dial  # the engine's number, when it was us who dialled
        self.to_send = b""

    def send(self) -> bool:
        """Send what goes; whether all is gone. Raises `OSError` when the connection is broken."""
        while self.to_send:
            try:
                sent = self.connection.send(self.to_send)
            except BlockingIOError:
                return False
            self.to_send = self.to_send[sent:]
        return True


class Gossip:
    """A member at `endpoint`, whose sockets are in `selector`. `report` hears what the engine learns.

    `since` is how many seconds after 1970 `clock` began. Raises `OSError` when the port cannot be had. `deadline` and
    `clock` are in seconds; call `tick` when it has come.
    """

    def __init__(
        self,
        engine: Detector,
        envelope: Envelope,
        endpoint: Endpoint,
        *,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        report: Callable[[Event], None],
        say: Callable[[str], None],
        peers: Iterable[Address] = (),
        witnesses: OpenWitnesses = nobody,
        since: float = 0.0,
    ) -> None:
        self._engine = engine
        self._envelope = envelope
        self._endpoint = endpoint
        self._selector = selector
        self._clock = clock
        self._report = report
        self._troubles = Troubles(say)
        self._streams: set[_Stream] = set()
        self._datagrams, self._listener = _open(endpoint)
        selector.register(self._datagrams, selectors.EVENT_READ, self._hear)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._witnesses = witnesses(selector, self._witnessed)
        self._named = tuple(peers)
        self._since = since
        self._revision: object = None
        self._view: View | None = None
        self._view_at = 0.0
        self.set_peers(())

    @property
    def deadline(self) -> float:
        """When to call `tick`."""
        return min((self._engine.deadline, *(stream.until for stream in self._streams)))

    @property
    def present(self) -> bool:
        """Whether we count ourselves in."""
        return self._engine.present

    @property
    def seen(self) -> MembersSeen | None:
        """What was last reported, or None before the first report."""
        return self._engine.seen

    @property
    def ignored(self) -> int:
        """Datagrams and connections that were none for us."""
        return self._engine.counts.ignored

    @property
    def view(self) -> View | None:
        """What we see of the others; the same object as long as it has not changed."""
        now = self._clock()
        if self._engine.revision != self._revision and now >= self._view_at:
            self._revision, self._view_at = self._engine.revision, now + _VIEW
            view = self._engine.view(now).shifted(self._since)
            self._view = view if view != self._view else self._view
        return self._view

    def command(self, intent: SetPresence) -> None:
        """Come in, or leave."""
        self._carry_out(self._engine.command(intent, self._clock()))

    def set_peers(self, addresses: Iterable[Address]) -> None:
        """Where members may be found, beside the `peers` that were named at the start, all at the same port.

        Those of the other family are passed over: a member has one address.
        """
        version = self._endpoint.address.version
        chosen = (each for each in {*self._named, *addresses} if each.version == version)
        peers = [Endpoint(each, self._endpoint.port) for each in chosen]
        self._carry_out(self._engine.set_peers(peers, self._clock()))

    def tick(self) -> None:
        """Whatever is due."""
        now = self._clock()
        for stream in [each for each in self._streams if each.until <= now]:
            self._end(stream, None)
        if self._engine.deadline <= now:
            self._carry_out(self._engine.tick(now))

    def close(self, *, leave: bool = True) -> None:
        """Leave, with a word to the others, and give the port back."""
        if leave:
            self.command(SetPresence(present=False, why="the end"))
        for stream in tuple(self._streams):
            self._drop(stream)
        self._witnesses.close()
        for each in (self._datagrams, self._listener):
            self._selector.unregister(each)
            each.close()

    def _carry_out(self, outputs: Iterable[DetectorOutput]) -> None:
        for output in outputs:
            match output:
                case Send(data, where):
                    self._send(data, where)
                case Dial():
                    self._dial(output)
                case Report(event):
                    self._report(event)
                case Ask(routine):
                    self._witnesses.ask(routine=routine)
                case Answer():
                    raise AssertionError("an answer without a connection to send it on")

    def _witnessed(self) -> None:
        self._carry_out(self._engine.witnessed(self._clock()))

    # Datagrams

    def _send(self, data: bytes, where: Endpoint) -> None:
        try:
            self._datagrams.sendto(data, (str(where.address), where.port))
        except BlockingIOError:
            pass  # as good as lost on the way
        except OSError as error:
            # One that names a peer would make a line for each of them when our own network is gone.
            self._troubles.note("datagrams cannot be sent to other members", error.strerror)
        else:
            self._troubles.note("datagrams cannot be sent to other members", None)

    def _hear(self, _events: int) -> None:
        for _ in range(_BURST):
            try:
                data, source = self._datagrams.recvfrom(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                continue  # a peer's "nobody listens here" comes by here, too
            self._carry_out(self._engine.receive(data, _endpoint(source), self._clock()))

    # Connections

    def _accept(self, _events: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if sum(stream.dial is None for stream in self._streams) >= _MAX_ACCEPTED:
            connection.close()
            return
        reader = StreamReader(self._envelope, opening=True)
        self._hold(_Stream(connection, reader, self._clock() + _PATIENCE, None), selectors.EVENT_READ)

    def _dial(self, dial: Dial) -> None:
        if sum(stream.dial is not None for stream in self._streams) >= _MAX_DIALLED:
            self._carry_out(self._engine.answered(dial.number, None, self._clock()))
            return
        connection = socket.socket(_family(dial.where), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        reader = StreamReader(self._envelope, opening=False)
        stream = _Stream(connection, reader, self._clock() + dial.patience, dial.number)
        stream.to_send = dial.data
        connection.setblocking(False)
        try:
            connection.bind((str(self._endpoint.address), 0))  # peers know us by this address
            status = connection.connect_ex((str(dial.where.address), dial.where.port))
        except OSError as error:
            status = error.errno or errno.EIO
        self._hold(stream, selectors.EVENT_WRITE)
        if status not in _UNDER_WAY and status:
            self._end(stream, None)

    def _hold(self, stream: _Stream, events: int) -> None:
        stream.connection.setblocking(False)
        self._streams.add(stream)
        self._selector.register(stream.connection, events, partial(self._ready, stream))

    def _ready(self, stream: _Stream, events: int) -> None:
        if stream not in self._streams:
            return  # ended earlier in this turn
        try:
            if events & selectors.EVENT_WRITE:
                self._write(stream)
            if events & selectors.EVENT_READ:
                self._read(stream)
        except OSError:
            self._end(stream, None)
        except RemoteProtocolError as error:
            self._misunderstand(stream, error)

    def _write(self, stream: _Stream) -> None:
        if not stream.send():
            return
        if stream.dial is None:
            self._drop(stream)  # the answer is out, and there is one only
        else:
            self._selector.modify(stream.connection, selectors.EVENT_READ, partial(self._ready, stream))

    def _read(self, stream: _Stream) -> None:
        try:
            data = stream.connection.recv(_CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._end(stream, None)
            return
        message = stream.reader.feed(data)
        if message is not None:
            self._take(stream, message)

    def _take(self, stream: _Stream, message: Message) -> None:
        if stream.dial is not None:
            self._end(stream, message)
            return
        self._respond(stream, self._engine.receive_stream(message, self._clock()))

    def _misunderstand(self, stream: _Stream, error: RemoteProtocolError) -> None:
        if stream.dial is not None:
            self._end(stream, None)
        else:
            self._respond(stream, self._engine.refuse(error))

    def _respond(self, stream: _Stream, outputs: list[DetectorOutput]) -> None:
        answers = [output.data for output in outputs if isinstance(output, Answer)]
        self._carry_out(output for output in outputs if not isinstance(output, Answer))
        if not answers:
            self._drop(stream)
            return
        stream.to_send = answers[0]
        self._selector.modify(stream.connection, selectors.EVENT_WRITE, partial(self._ready, stream))

    def _end(self, stream: _Stream, message: Message | None) -> None:
        """A connection is over; whoever asked for it hears what came of it."""
        self._drop(stream)
        if stream.dial is not None:
            self._carry_out(self._engine.answered(stream.dial, message, self._clock()))

    def _drop(self, stream: _Stream) -> None:
        self._streams.discard(stream)
        self._selector.unregister(stream.connection)
        stream.connection.close()


def _open(endpoint: Endpoint) -> tuple[socket.socket, socket.socket]:
    where = (str(endpoint.address), endpoint.port)
    datagrams = socket.socket(_family(endpoint), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    listener = socket.socket(_family(endpoint), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for each in (datagrams, listener):
            each.setblocking(False)
            each.bind(where)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        listener.listen(_MAX_ACCEPTED)
    except OSError as error:
        datagrams.close()
        listener.close()
        raise OSError(error.errno, f"cannot listen for members at {endpoint}: {error.strerror}") from None
    return datagrams, listener


def _family(endpoint: Endpoint) -> socket.AddressFamily:
    return socket.AF_INET6 if endpoint.address.version == 6 else socket.AF_INET


def _endpoint(source: tuple[str, int]) -> Endpoint:
    host = source[0].partition("%")[0]  # a link-local one carries its interface
    return Endpoint(Address.parse(host), source[1])
