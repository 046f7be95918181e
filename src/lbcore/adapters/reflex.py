"""The wire between a speaker and its reflex process: one JSON object per line, both ways.

The speaker (the parent) sends `Command`, `Ping` and `Bye`; the reflex process (the child) sends
`Hello` first, then `Ack`, `Nack`, `Report`, `Pong`, `Seen` and, when a newer parent has come, `Replaced`.
The two may be of different releases for a moment: a `Hello` always tells version and arguments in
the same two fields and a `Bye` never changes, so that any parent can send any child home.

JSON because the standard library reads it in C without importing anything else into the child.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from attrs import asdict, field, fields, frozen

from lbcore.adapters.base import Report
from lbcore.adapters.counts import AddressCount
from lbcore.adapters.views import View, read_view, view_document
from lbcore.addresses import Address
from lbcore.bfd import BfdDiagnostic, BfdState, Watch, WatchStatus
from lbcore.errors import AddressError, LocalProtocolError, RemoteProtocolError
from lbcore.events import AddressHeard, MembersSeen, WatchSeen
from lbcore.intents import Announce, AnnounceAnew, SetLinks, SetPeers, SetPresence, SetWatches, StandBy, Withdraw
from lbcore.model import Link

__all__ = [
    "MAX_LINE",
    "Ack",
    "Answering",
    "Bye",
    "Command",
    "Hello",
    "Lines",
    "Message",
    "Nack",
    "Ping",
    "Pong",
    "ReflexIntent",
    "Replaced",
    "Seen",
    "Statistics",
    "decode",
    "encode",
]

MAX_LINE = 16 << 20  # bytes; a Hello with 100,000 addresses takes about 6 MB

ReflexIntent = SetLinks | Announce | AnnounceAnew | StandBy | Withdraw | SetPresence | SetPeers | SetWatches
Answering = tuple[tuple[Address, tuple[str, ...]], ...]


@frozen
class Command:
    """Carry out an intent; the answer is an `Ack` or a `Nack` with the same number."""

    seq: int
    intent: ReflexIntent


@frozen
class Ping:
    """The parent lives. The answer is a `Pong`."""


@frozen
class Bye:
    """Leave membership, let go of every address, and exit at once."""


@frozen(kw_only=True)
class Statistics:
    """Counters since the child started, and how many `addresses` it answers for now.

    The first five are the answering engine's own. `frames_refused` the kernel would not take,
    `faults` are frames that the engine choked on, `reports_dropped` found no parent to hear them;
    `records_ignored` counts the files among the member records, at the last look, that are none.
    """

    arp_answered: int = 0
    ndp_answered: int = 0
    gratuitous: int = 0
    malformed: int = 0
    heard: int = 0
    addresses: int = 0
    frames_refused: int = 0
    faults: int = 0
    reports_dropped: int = 0
    records_ignored: int = 0


@frozen(kw_only=True)
class Hello:
    """The child's first message: its release, its command line's arguments, and what it does now."""

    version: str
    arguments: tuple[str, ...] = ()
    answering: Answering = ()
    present: bool = False


@frozen
class Ack:
    """The command with this number is carried out."""

    seq: int


@frozen(kw_only=True)
class Nack:
    """The command with this number is not carried out; `retry` says whether later may be better."""

    seq: int
    message: str
    retry: bool = True


@frozen
class Pong:
    """The child lives, and has done so much. `counts` are of some addresses for which they have changed
    since they were told, each since its claim began: what is not told in this Pong is in a later one.
    """

    statistics: Statistics = field(factory=Statistics)
    counts: tuple[AddressCount, ...] = ()


@frozen
class Seen:
    """What the child sees of the others, where it gossips: told when that changes, and to every new parent."""

    view: View


@frozen
class Replaced:
    """Another parent has connected; this one is no longer listened to."""


Message = Command | Ping | Bye | Hello | Ack | Nack | Report | Pong | Seen | Replaced


class Lines:
    """Cuts a byte stream into lines, without their ends. Holds at most `limit` bytes of an unfinished one."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by more bytes. Raises `RemoteProtocolError` when one is longer than `limit`."""
        self._rest += data
        if b"\n" not in data:
            self._check(len(self._rest))
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._check(max(map(len, (*lines, rest))))
        self._rest = bytearray(rest)
        return lines

    def _check(self, longest: int) -> None:
        if longest > self._limit:
            raise RemoteProtocolError(f"a line of {longest} bytes; {self._limit} are allowed")


def encode(message: Message) -> bytes:
    """One line with its end. Raises `LocalProtocolError` for a value that has no form on this wire."""
    try:
        body = _body(message)
        line = json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise LocalProtocolError(f"cannot send {type(message).__name__} to the other process: {error}") from None
    if len(line) > MAX_LINE:
        raise LocalProtocolError(f"{type(message).__name__} takes {len(line)} bytes; {MAX_LINE} are allowed")
    return line


def decode(line: bytes) -> Message:
    """The message in one line. Raises `RemoteProtocolError`, and nothing else, for any other bytes."""
    try:
        body = json.loads(line)
        if not isinstance(body, dict):
            raise TypeError("a message is an object")
        return _DECODERS[_text(body["type"])](body)
    except (KeyError, TypeError, ValueError, AddressError, RecursionError) as error:
        raise RemoteProtocolError(f"no message of the reflex process: {error!r}") from None


def _body(message: Message) -> dict[str, Any]:
    match message:
        case Command(seq, intent):
            return {"type": "command", "seq": seq, **_intent_body(intent)}
        case Report(event):
            return {"type": "report", **_event_body(event)}
        case Hello():
            return {
                "type": "hello",
                "version": message.version,
                "arguments": message.arguments,
                "answering": [[str(address), names] for address, names in message.answering],
                "present": message.present,
            }
        case Ack(seq):
            return {"type": "ack", "seq": seq}
        case Nack():
            return {"type": "nack", "seq": message.seq, "message": message.message, "retry": message.retry}
        case Pong(statistics, counts):
            return {"type": "pong", **asdict(statistics), "counts": [_count_body(each) for each in counts]}
        case Seen(view):
            return {"type": "seen", **view_document(view)}
        case Ping():
            return {"type": "ping"}
        case Bye():
            return {"type": "bye"}
        case Replaced():
            return {"type": "replaced"}


def _count_body(count: AddressCount) -> list[str | int]:
    # Without names, since there may be hundreds of them in a line.
    return [str(count.address), count.requests, count.responses, count.gratuitous]


def _intent_body(intent: ReflexIntent) -> dict[str, Any]:
    match intent:
        case Announce():
            # Said only where it is so: thousands of these lines go out at a start.
            yielding = {"yielding": True} if intent.yielding else {}
            return {
                "intent": "announce",
                "address": str(intent.address),
                "interfaces": intent.interfaces,
                **yielding,
            }
        case AnnounceAnew(reunions):
            return {"intent": "anew", "reunions": reunions}
        case StandBy():
            return {
                "intent": "standby",
                "address": str(intent.address),
                "member": intent.member,
                "interfaces": intent.interfaces,
            }
        case Withdraw():
            return {"intent": "withdraw", "address": str(intent.address)}
        case SetLinks():
            return {"intent": "links", "links": [_link_body(link) for link in intent.links]}
        case SetPresence():
            return {"intent": "presence", "present": intent.present, "why": intent.why}
        case SetPeers(addresses):
            return {"intent": "peers", "addresses": [str(each) for each in addresses]}
        case SetWatches(watches):
            return {"intent": "watches", "watches": [_watch_body(each) for each in watches]}
    raise TypeError(f"{type(intent).__name__} is not for the reflex process")


def _event_body(event: object) -> dict[str, Any]:
    match event:
        case MembersSeen():
            return {
                "event": "members",
                "names": sorted(event.names),
                "waiting": sorted(event.waiting),
                "reunions": event.reunions,
            }
        case AddressHeard():
            return {"event": "heard", "address": str(event.address), "mac": event.mac.hex(), "link": event.link}
        case WatchSeen(peer, status):
            return {"event": "watch", "peer": peer, "status": None if status is None else _watch_status_body(status)}
    raise TypeError(f"{type(event).__name__} is not told by the reflex process")


def _watch_body(watch: Watch) -> dict[str, Any]:
    return {
        **asdict(watch),
        "address": None if watch.address is None else str(watch.address),
        "source": None if watch.source is None else str(watch.source),
    }


def _watch_status_body(status: WatchStatus) -> dict[str, Any]:
    return {
        **{each: getattr(status, each) for each in (*_WATCH_COUNTS, "failed")},
        **{each: getattr(status, each).value for each in ("state", "remote", "diagnostic")},
    }


_WATCH_COUNTS = ("refused_ttl", "detection", "ups", "downs", "received", "sent")


def _link_body(link: Link) -> dict[str, Any]:
    return {
        **{name: getattr(link, name) for name in _LINK_FLAGS},
        "index": link.index,
        "name": link.name,
        "mac": link.mac.hex(),
        "addresses": [str(address) for address in link.addresses],
        "link_local": None if link.link_local is None else str(link.link_local),
    }


_LINK_FLAGS = ("up", "carrier", "broadcast", "arp", "loopback", "enslaved")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is not a number")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _items(value: object) -> Iterator[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return iter(value)


def _address(value: object) -> Address:
    return Address.parse(_text(value))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _items(value))


def _mac(value: object) -> bytes:
    mac = bytes.fromhex(_text(value))
    if len(mac) != 6:
        raise ValueError(f"a MAC has 6 bytes, not {len(mac)}")
    return mac


def _link(body: object) -> Link:
    if not isinstance(body, dict):
        raise TypeError("a link is an object")
    link_local = body["link_local"]
    return Link(
        index=_number(body["index"]),
        name=_text(body["name"]),
        mac=bytes.fromhex(_text(body["mac"])),  # of any length: a tunnel has none, or an address
        addresses=tuple(_address(item) for item in _items(body["addresses"])),
        link_local=None if link_local is None else _address(link_local),
        **{name: _flag(body[name]) for name in _LINK_FLAGS},
    )


def _announce(body: dict[str, Any]) -> Announce:
    return Announce(
        address=_address(body["address"]),
        interfaces=_texts(body["interfaces"]),
        yielding=_flag(body.get("yielding", False)),
    )


def _stand_by(body: dict[str, Any]) -> StandBy:
    return StandBy(
        address=_address(body["address"]),
        member=_text(body["member"]),
        interfaces=_texts(body["interfaces"]),
    )


def _withdraw(body: dict[str, Any]) -> Withdraw:
    return Withdraw(address=_address(body["address"]))


def _set_links(body: dict[str, Any]) -> SetLinks:
    return SetLinks(links=tuple(_link(item) for item in _items(body["links"])))


def _set_presence(body: dict[str, Any]) -> SetPresence:
    return SetPresence(present=_flag(body["present"]), why=_text(body["why"]))


def _set_peers(body: dict[str, Any]) -> SetPeers:
    return SetPeers(tuple(_address(item) for item in _items(body["addresses"])))


def _set_watches(body: dict[str, Any]) -> SetWatches:
    return SetWatches(tuple(_watch(item) for item in _items(body["watches"])))


def _watch(body: object) -> Watch:
    if not isinstance(body, dict):
        raise TypeError("a watch is an object")
    numbers = ("transmit_interval", "receive_interval", "detect_multiplier", "minimum_ttl")
    return Watch(
        peer=_text(body["peer"]),
        address=None if body["address"] is None else _address(body["address"]),
        interface=_text(body["interface"]),
        source=None if body["source"] is None else _address(body["source"]),
        multihop=None if body["multihop"] is None else _flag(body["multihop"]),
        passive=_flag(body["passive"]),
        **{name: _number(body[name]) for name in numbers},
    )


def _command(body: dict[str, Any]) -> Command:
    return Command(_number(body["seq"]), _INTENTS[_text(body["intent"])](body))


def _members(body: dict[str, Any]) -> MembersSeen:
    names, waiting = (frozenset(_texts(body[each])) for each in ("names", "waiting"))
    return MembersSeen(names, waiting, _number(body["reunions"]))


def _heard(body: dict[str, Any]) -> AddressHeard:
    return AddressHeard(address=_address(body["address"]), mac=_mac(body["mac"]), link=_text(body["link"]))


def _watch_seen(body: dict[str, Any]) -> WatchSeen:
    status = body["status"]
    if status is None:
        return WatchSeen(_text(body["peer"]), None)
    return WatchSeen(
        _text(body["peer"]),
        WatchStatus(
            state=BfdState(_number(status["state"])),
            remote=BfdState(_number(status["remote"])),
            diagnostic=BfdDiagnostic(_number(status["diagnostic"])),
            failed=_flag(status["failed"]),
            **{name: _number(status[name]) for name in _WATCH_COUNTS},
        ),
    )


def _report(body: dict[str, Any]) -> Report:
    return Report(_EVENTS[_text(body["event"])](body))


def _hello(body: dict[str, Any]) -> Hello:
    """Of another release's Hello only the version is sure: the rest may be missing or strange."""
    return Hello(
        version=_text(body["version"]),
        arguments=_texts(body["arguments"]),
        answering=tuple((_address(address), _texts(names)) for address, names in _items(body.get("answering", []))),
        present=_flag(body.get("present", False)),
    )


def _nack(body: dict[str, Any]) -> Nack:
    return Nack(seq=_number(body["seq"]), message=_text(body["message"]), retry=_flag(body["retry"]))


def _pong(body: dict[str, Any]) -> Pong:
    statistics = Statistics(**{each.name: _number(body[each.name]) for each in fields(Statistics)})
    return Pong(statistics, tuple(_count(item) for item in _items(body["counts"])))


def _count(body: object) -> AddressCount:
    address, requests, responses, gratuitous = _items(body)
    return AddressCount(
        address=_address(address),
        requests=_number(requests),
        responses=_number(responses),
        gratuitous=_number(gratuitous),
    )


_INTENTS: dict[str, Callable[[dict[str, Any]], ReflexIntent]] = {
    "announce": _announce,
    "anew": lambda body: AnnounceAnew(_number(body["reunions"])),
    "standby": _stand_by,
    "withdraw": _withdraw,
    "links": _set_links,
    "presence": _set_presence,
    "peers": _set_peers,
    "watches": _set_watches,
}

_EVENTS: dict[str, Callable[[dict[str, Any]], MembersSeen | AddressHeard | WatchSeen]] = {
    "members": _members,
    "heard": _heard,
    "watch": _watch_seen,
}

_DECODERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "command": _command,
    "ping": lambda _: Ping(),
    "bye": lambda _: Bye(),
    "hello": _hello,
    "ack": lambda body: Ack(_number(body["seq"])),
    "nack": _nack,
    "report": _report,
    "pong": _pong,
    "seen": lambda body: Seen(read_view(body)),
    "replaced": lambda _: Replaced(),
}
