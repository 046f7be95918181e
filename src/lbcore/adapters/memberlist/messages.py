"""The messages of memberlist as values, and to and from bytes: a type byte and one map, fields named as in Go.

Unknown fields are skipped and missing ones are zero, as Go does. What is around a message on its way (compound,
compression, checksum, encryption, label) is in `envelope`, the framing of streams in `streams`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from attrs import frozen

from lbcore.adapters.memberlist.msgpack import Packable, Signed, Value, pack, unpack
from lbcore.addresses import Address
from lbcore.errors import AddressError, LocalProtocolError, RemoteProtocolError

__all__ = [
    "VERSIONS",
    "Ack",
    "Alive",
    "Code",
    "Dead",
    "Endpoint",
    "Fault",
    "IndirectPing",
    "Message",
    "Nack",
    "NodeState",
    "Ping",
    "PushPull",
    "Status",
    "Suspect",
    "User",
    "decode",
    "encode",
]

MAX_NODES = 1 << 16  # members in one exchange; Kubernetes itself is tested to 5,000 nodes
MAX_META = 512  # bytes: memberlist's MetaMaxSize
MAX_NAME = 253  # characters of a node's name (RFC 1123)

# Protocol and delegate versions: least, greatest, in use. 2 in use makes peers encrypt by version 1,
# 5 at most makes them add checksums. Old peers index past a shorter array, so it is always six.
VERSIONS = bytes((1, 5, 2, 0, 0, 0))


class Code(IntEnum):
    """The first byte of a message."""

    PING = 0
    INDIRECT_PING = 1
    ACK = 2
    SUSPECT = 3
    ALIVE = 4
    DEAD = 5
    PUSH_PULL = 6
    COMPOUND = 7
    USER = 8
    COMPRESS = 9
    ENCRYPT = 10
    NACK = 11
    CRC = 12
    ERROR = 13
    LABEL = 244


class Status(IntEnum):
    """What is thought of a member."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


@frozen(order=True)
class Endpoint:
    """Where a member listens, by UDP and TCP alike."""

    address: Address
    port: int

    def __str__(self) -> str:
        host = str(self.address)
        return f"[{host}]:{self.port}" if self.address.version == 6 else f"{host}:{self.port}"


@frozen(kw_only=True)
class Ping:
    """Are you there? The answer goes to `source` when it is told, else to where this came from."""

    seq: int
    node: str
    source: Endpoint | None = None
    source_node: str = ""


@frozen(kw_only=True)
class IndirectPing:
    """Ask that node for me; `nack` asks to be told when it does not answer."""

    seq: int
    target: Endpoint
    node: str
    nack: bool
    source: Endpoint | None = None
    source_node: str = ""


@frozen
class Ack:
    """Yes, I am."""

    seq: int
    payload: bytes | None = None


@frozen
class Nack:
    """I have asked, and it has not answered me either."""

    seq: int


@frozen(kw_only=True)
class Suspect:
    """`origin` has no answer from a node."""

    incarnation: int
    node: str
    origin: str


@frozen(kw_only=True)
class Dead:
    """`origin` holds a node for dead; when it is the node itself, it leaves."""

    incarnation: int
    node: str
    origin: str


@frozen(kw_only=True)
class Alive:
    """A node is there, at this address, since this incarnation. A port of 0 is the reader's own."""

    incarnation: int
    node: str
    endpoint: Endpoint
    meta: bytes = b""
    versions: bytes = VERSIONS


@frozen(kw_only=True)
class NodeState:
    """One member in an exchange of everything."""

    node: str
    endpoint: Endpoint
    meta: bytes
    incarnation: int
    status: Status
    versions: bytes = VERSIONS


@frozen(kw_only=True)
class PushPull:
    """All that one side knows; the answer is the same from the other side."""

    join: bool
    nodes: tuple[NodeState, ...]
    user_state: bytes = b""


@frozen
class Fault:
    """The other side could not use what it was sent."""

    text: str


@frozen
class User:
    """Bytes for the application above; MetalLB sends none."""

    data: bytes


Message = Ping | IndirectPing | Ack | Nack | Suspect | Dead | Alive | PushPull | Fault | User


# Writing


def encode(message: Message) -> bytes:
    """One message as a datagram carries it. Raises `LocalProtocolError` for what Go's fields cannot hold."""
    match message:
        case Ping():
            fields = {"SeqNo": message.seq, "Node": message.node, **_source(message)}
            return _message(Code.PING, fields)
        case IndirectPing():
            fields = {
                "SeqNo": message.seq,
                "Target": message.target.address.packed,
                "Port": message.target.port,
                "Node": message.node,
                "Nack": message.nack,
                **_source(message),
            }
            return _message(Code.INDIRECT_PING, fields)
        case Ack(seq, payload):
            return _message(Code.ACK, {"SeqNo": seq, "Payload": payload})
        case Nack(seq):
            return _message(Code.NACK, {"SeqNo": seq})
        case Suspect():
            return _message(Code.SUSPECT, _accusation(message))
        case Dead():
            return _message(Code.DEAD, _accusation(message))
        case Alive():
            fields = {"Incarnation": message.incarnation, "Node": message.node, **_place(message)}
            return _message(Code.ALIVE, fields)
        case PushPull():
            return _encode_exchange(message)
        case Fault(text):
            return _message(Code.ERROR, {"Error": text})
        case User(data):
            return bytes((Code.USER,)) + data


def _message(code: Code, fields: dict[str, Packable]) -> bytes:
    return bytes((code,)) + pack(fields)


def _source(message: Ping | IndirectPing) -> dict[str, Packable]:
    """The three fields that Go leaves out when they are empty."""
    fields: dict[str, Packable] = {}
    if message.source is not None:
        fields |= {"SourceAddr": message.source.address.packed, "SourcePort": message.source.port}
    if message.source_node:
        fields["SourceNode"] = message.source_node
    return fields


def _accusation(message: Suspect | Dead) -> dict[str, Packable]:
    return {"Incarnation": message.incarnation, "Node": message.node, "From": message.origin}


def _place(message: Alive | NodeState) -> dict[str, Packable]:
    if len(message.meta) > MAX_META:
        raise LocalProtocolError(f"{len(message.meta)} bytes of metadata; memberlist takes {MAX_META}")
    return {
        "Addr": message.endpoint.address.packed,
        "Port": message.endpoint.port,
        "Meta": message.meta or None,
        "Vsn": message.versions,
    }


def _encode_exchange(message: PushPull) -> bytes:
    header: dict[str, Packable] = {
        "Nodes": Signed(len(message.nodes)),
        "UserStateLen": Signed(len(message.user_state)),
        "Join": message.join,
    }
    parts = [_message(Code.PUSH_PULL, header)]
    for node in message.nodes:
        fields = {"Name": node.node, "Incarnation": node.incarnation, "State": Signed(node.status), **_place(node)}
        parts.append(pack(fields))
    return b"".join((*parts, message.user_state))


# Reading


def decode(data: bytes) -> Message:
    """The message in these bytes; what follows it is ignored. Raises `RemoteProtocolError` and nothing else."""
    if not data:
        raise RemoteProtocolError("no message: there are no bytes")
    if data[0] == Code.USER:
        return User(data[1:])
    if data[0] == Code.PUSH_PULL:
        return _decode_exchange(data)
    reader = _READERS.get(data[0])
    if reader is None:
        raise RemoteProtocolError(f"message type {data[0]} is unknown")
    fields, _ = _read_fields(data, 1)
    return reader(fields)


class _Fields:
    """The fields of one struct, each read as the type that Go declares for it."""

    def __init__(self, values: dict[bytes, Value]) -> None:
        self._values = values

    def number(self, name: str, bits: int = 32) -> int:
        value = self._values.get(name.encode())
        if value is None:
            return 0
        if not isinstance(value, int) or not 0 <= value < 1 << bits:
            raise RemoteProtocolError(f"{name} is no number of {bits} bits: {value!r}")
        return int(value)

    def flag(self, name: str) -> bool:
        return bool(self.number(name, 1))

    def raw(self, name: str) -> bytes | None:
        value = self._values.get(name.encode())
        if value is None or isinstance(value, bytes):
            return value
        if isinstance(value, list) and all(type(each) is int and 0 <= each < 256 for each in value):
            return bytes(each for each in value if isinstance(each, int))
        raise RemoteProtocolError(f"{name} is no row of bytes")

    def text(self, name: str, limit: int = MAX_NAME) -> str:
        data = self.raw(name) or b""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError(f"{name} is no text: {data[:64]!r}") from None
        if len(text) > limit:
            raise RemoteProtocolError(f"{name} has {len(text)} characters; {limit} are allowed")
        return text

    def name(self, field: str = "Node") -> str:
        text = self.text(field)
        if not text:
            raise RemoteProtocolError(f"{field} is empty")
        return text

    def endpoint(self, address: str = "Addr", port: str = "Port") -> Endpoint:
        packed = self.raw(address) or b""
        try:
            return Endpoint(Address.from_bytes(packed), self.number(port, 16))
        except AddressError as error:
            raise RemoteProtocolError(f"{address} is no address: {error}") from None

    def source(self) -> Endpoint | None:
        """Where an answer is wanted: only when both parts are told."""
        if not self.raw("SourceAddr") or not self.number("SourcePort", 16):
            return None
        return self.endpoint("SourceAddr", "SourcePort")

    def meta(self) -> bytes:
        meta = self.raw("Meta") or b""
        if len(meta) > MAX_META:
            raise RemoteProtocolError(f"{len(meta)} bytes of metadata; {MAX_META} are allowed")
        return meta


def _read_fields(data: bytes, offset: int) -> tuple[_Fields, int]:
    values, end = unpack(data, offset)
    if not isinstance(values, dict):
        raise RemoteProtocolError("a message's body is a map, and this is none")
    return _Fields(values), end


def _read_ping(fields: _Fields) -> Ping:
    return Ping(
        seq=fields.number("SeqNo"),
        node=fields.text("Node"),
        source=fields.source(),
        source_node=fields.text("SourceNode"),
    )


def _read_indirect_ping(fields: _Fields) -> IndirectPing:
    return IndirectPing(
        seq=fields.number("SeqNo"),
        target=fields.endpoint("Target"),
        node=fields.text("Node"),
        nack=fields.flag("Nack"),
        source=fields.source(),
        source_node=fields.text("SourceNode"),
    )


def _read_suspect(fields: _Fields) -> Suspect:
    return Suspect(incarnation=fields.number("Incarnation"), node=fields.name(), origin=fields.text("From"))


def _read_dead(fields: _Fields) -> Dead:
    return Dead(incarnation=fields.number("Incarnation"), node=fields.name(), origin=fields.text("From"))


def _read_alive(fields: _Fields) -> Alive:
    return Alive(
        incarnation=fields.number("Incarnation"),
        node=fields.name(),
        endpoint=fields.endpoint(),
        meta=fields.meta(),
        versions=fields.raw("Vsn") or b"",
    )


def _read_state(fields: _Fields) -> NodeState:
    status = fields.number("State", 8)
    if status not in _STATUSES:
        raise RemoteProtocolError(f"a member's state is 0 to 3, not {status}")
    return NodeState(
        node=fields.name("Name"),
        endpoint=fields.endpoint(),
        meta=fields.meta(),
        incarnation=fields.number("Incarnation"),
        status=Status(status),
        versions=fields.raw("Vsn") or b"",
    )


_STATUSES = frozenset(Status)


def _decode_exchange(data: bytes) -> PushPull:
    fields, offset = _read_fields(data, 1)
    count = fields.number("Nodes", 31)
    if count > MAX_NODES:
        raise RemoteProtocolError(f"{count} members in one exchange; {MAX_NODES} are allowed")
    nodes = []
    for _ in range(count):
        each, offset = _read_fields(data, offset)
        nodes.append(_read_state(each))
    size = fields.number("UserStateLen", 31)
    if offset + size > len(data):
        raise RemoteProtocolError(f"{size} bytes of user state are announced, {len(data) - offset} came")
    return PushPull(join=fields.flag("Join"), nodes=tuple(nodes), user_state=data[offset : offset + size])


_READERS: dict[int, Callable[[_Fields], Message]] = {
    Code.PING: _read_ping,
    Code.INDIRECT_PING: _read_indirect_ping,
    Code.ACK: lambda fields: Ack(fields.number("SeqNo"), fields.raw("Payload")),
    Code.NACK: lambda fields: Nack(fields.number("SeqNo")),
    Code.SUSPECT: _read_suspect,
    Code.DEAD: _read_dead,
    Code.ALIVE: _read_alive,
    Code.ERROR: lambda fields: Fault(fields.text("Error", 1 << 16)),
}
