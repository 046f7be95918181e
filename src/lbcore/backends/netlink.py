"""The network interfaces of this machine, by rtnetlink (rtnetlink(7)): one Source of `LinksSeen`.

The kernel tells of every change; nothing is polled. One socket carries both the notifications and
the dumps that give the first picture, so that their order is the kernel's own. When the kernel had
to drop notifications (ENOBUFS), and every 30 s to be sure, everything is listed anew. pyroute2
takes the messages apart; the lab aside, no other file knows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from attrs import evolve, frozen

from lbcore.addresses import Address, AddressRange
from lbcore.events import Event, Kind, LinksSeen, Listed
from lbcore.model import Link

__all__ = ["NetlinkLinks", "local_networks"]

RESCAN: Final = 30.0  # seconds
_GATHER: Final = 0.01  # seconds: one `ip` command makes several notifications, which are one change
_DUMP: Final = 5.0  # seconds for the kernel to answer; it takes milliseconds
_ATTEMPTS: Final = 16  # dumps that changes may spoil, one after the other
_BUFFER: Final = 1 << 20  # bytes: some thousand notifications while we are busy with something else
_READ: Final = 1 << 16  # bytes; the kernel's messages have at most half of it
_READS: Final = 64  # messages taken in one go, before others get their turn

# linux/rtnetlink.h and linux/netlink.h
_GROUPS: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP_INTR, _NLM_F_DUMP = 0x1, 0x10, 0x300

# linux/if.h
_IFF_UP, _IFF_BROADCAST, _IFF_LOOPBACK, _IFF_NOARP, _IFF_LOWER_UP = 0x1, 0x2, 0x8, 0x80, 0x10000


def _message_reader() -> Any:
    """pyroute2's reader of rtnetlink messages, and no more of pyroute2 than that takes.

    `import pyroute2`, which any import from it begins with, loads everything there is in it (a database,
    Plan 9): 7 MB and 0.1 s for each speaker. So an empty package takes its place for that moment.
    """
    found = find_spec("pyroute2")
    if "pyroute2" in sys.modules or found is None:
        return _import_marshal()
    sys.modules["pyroute2"] = stand_in = ModuleType("pyroute2")
    stand_in.__path__ = list(found.submodule_search_locations or ())
    try:
        return _import_marshal()
    finally:
        del sys.modules["pyroute2"]  # whoever imports it next gets all of it


def _import_marshal() -> Any:
    from pyroute2.netlink.rtnl.marshal import MarshalRtnl  # noqa: PLC0415 - see above

    return MarshalRtnl()


@frozen
class _LinkNotice:
    """An interface, without its addresses; `link` is None when it is gone."""

    index: int
    link: Link | None


@frozen
class _AddressNotice:
    """An address with its prefix length, come to an interface or gone from it."""

    index: int
    address: tuple[Address, int]
    gone: bool


class _Picture:
    """Every interface and address we know of: the sum of the notices so far."""

    def __init__(self) -> None:
        self._links: dict[int, Link] = {}
        self._addresses: dict[int, set[tuple[Address, int]]] = {}

    def take(self, notice: _LinkNotice | _AddressNotice) -> None:
        """Add one notice."""
        if isinstance(notice, _AddressNotice):
            held = self._addresses.setdefault(notice.index, set())
            (held.discard if notice.gone else held.add)(notice.address)
        elif notice.link is not None:
            self._links[notice.index] = notice.link
        else:
            self._links.pop(notice.index, None)  # its addresses were taken away one by one before

    @property
    def links(self) -> tuple[Link, ...]:
        """The interfaces with their addresses, sorted by index."""
        return tuple(self._complete(self._links[index]) for index in sorted(self._links))

    def _complete(self, link: Link) -> Link:
        held = sorted({address for address, _ in self._addresses.get(link.index, ())})
        link_local = next((address for address in held if _is_link_local(address)), None)
        return evolve(link, addresses=tuple(held), link_local=link_local)


class NetlinkLinks:
    """The interfaces of the network namespace that `events` is called in.

    `say` takes a line for the log; `rescan` is the time in seconds between lists for safety's sake.
    """

    def __init__(self, *, say: Callable[[str], None], rescan: float = RESCAN) -> None:
        self._say = say
        self._rescan = rescan

    async def events(self) -> AsyncIterator[Event]:
        """`LinksSeen` with all interfaces, `Listed(Kind.LINKS)`, then `LinksSeen` after every change.

        Raises `OSError` when the kernel cannot be asked.
        """
        with contextlib.closing(_Netlink()) as netlink:
            picture = await self._list(netlink)
            last = picture.links
            yield LinksSeen(last)
            yield Listed(Kind.LINKS)
            rescan_at = _now() + self._rescan
            while True:
                whole = await self._follow(netlink, picture, rescan_at)
                if not whole:
                    picture = await self._list(netlink)
                    rescan_at = _now() + self._rescan
                if picture.links != last:
                    last = picture.links
                    yield LinksSeen(last)

    async def _follow(self, netlink: _Netlink, picture: _Picture, until: float) -> bool:
        """Wait for notices and take them in; False when everything is to be listed anew."""
        try:
            async with asyncio.timeout_at(until):
                notices = await netlink.wait()
            await asyncio.sleep(_GATHER)
            notices += netlink.drain()
        except TimeoutError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._say("the kernel dropped notices of network interfaces: listing them anew")
            return False
        for notice in notices:
            picture.take(notice)
        return True

    async def _list(self, netlink: _Netlink) -> _Picture:
        """A picture from nothing; changes that spoil a dump have it begun again."""
        for _ in range(_ATTEMPTS):
            picture = _Picture()
            if netlink.dump(_RTM_GETLINK, picture) and netlink.dump(_RTM_GETADDR, picture):
                return picture
            await asyncio.sleep(_GATHER)
        raise OSError(errno.EAGAIN, "network interfaces change faster than they can be listed")


class _Netlink:
    """A socket that hears of links and addresses, and asks for them."""

    def __init__(self) -> None:
        self._marshal: Any = _message_reader()
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        # The kernel caps it at net.core.rmem_max; a smaller one means more lists, and nothing worse.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.setblocking(False)
        self._socket.bind((0, _GROUPS))

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    async def wait(self) -> list[_LinkNotice | _AddressNotice]:
        """The next notices. Raises `OSError` with ENOBUFS when some were lost."""
        data = await asyncio.get_running_loop().sock_recv(self._socket, _READ)
        return list(_notices(self._marshal.parse(data)))

    def drain(self) -> list[_LinkNotice | _AddressNotice]:
        """What else has already arrived, a bounded number."""
        notices: list[_LinkNotice | _AddressNotice] = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(_READS):
                notices += _notices(self._marshal.parse(self._socket.recv(_READ)))
        return notices

    def dump(self, kind: int, picture: _Picture) -> bool:
        """List everything of a kind into a picture, with the notices in between; whether nothing was lost.

        Not by asyncio: the kernel answers a dump while we read it, and waits for nobody.
        """
        self._sequence += 1
        header = struct.pack("=IHHII", 20, kind, _NLM_F_REQUEST | _NLM_F_DUMP, self._sequence, 0)
        self._socket.settimeout(_DUMP)
        try:
            self._socket.send(header + struct.pack("=Bxxx", socket.AF_UNSPEC))
            return self._take_dump(picture)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return False
        finally:
            self._socket.setblocking(False)

    def _take_dump(self, picture: _Picture) -> bool:
        whole = True
        while True:
            messages = list(self._marshal.parse(self._socket.recv(_READ)))
            for notice in _notices(messages):
                picture.take(notice)
            for header in (message["header"] for message in messages):
                if header["sequence_number"] != self._sequence:
                    continue
                whole = whole and not header["flags"] & _NLM_F_DUMP_INTR
                if header["type"] in (_NLMSG_DONE, _NLMSG_ERROR):
                    return whole and header["type"] == _NLMSG_DONE


def _notices(messages: Iterator[Any] | list[Any]) -> Iterator[_LinkNotice | _AddressNotice]:
    """The messages that concern us. pyroute2's messages are mappings with `get_attr`."""
    for message in messages:
        kind = message["header"]["type"]
        notice: _LinkNotice | _AddressNotice | None = None
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            notice = _link_notice(message, gone=kind == _RTM_DELLINK)
        elif kind in (_RTM_NEWADDR, _RTM_DELADDR):
            notice = _address_notice(message, gone=kind == _RTM_DELADDR)
        if notice is not None:
            yield notice


def _link_notice(message: Any, *, gone: bool) -> _LinkNotice | None:
    name = message.get_attr("IFLA_IFNAME")
    # A bridge tells of its ports in the family AF_BRIDGE: half a picture, and a port that leaves it
    # looks deleted. Wireless events have no name and say nothing of the link.
    if message["family"] != socket.AF_UNSPEC or not name:
        return None
    index, flags = message["index"], message["flags"]
    if gone:
        return _LinkNotice(index, None)
    link = Link(
        index=index,
        name=name,
        mac=_mac(message.get_attr("IFLA_ADDRESS")),
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        broadcast=bool(flags & _IFF_BROADCAST),
        arp=not flags & _IFF_NOARP,
        loopback=bool(flags & _IFF_LOOPBACK),
        enslaved=message.get_attr("IFLA_MASTER") is not None,
    )
    return _LinkNotice(index, link)


def _address_notice(message: Any, *, gone: bool) -> _AddressNotice | None:
    # On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL, where it is told, is ours.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    family = message["family"]
    if not text or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    address = Address.from_bytes(socket.inet_pton(family, text))
    return _AddressNotice(message["index"], (address, message["prefixlen"]), gone)


def _mac(text: object) -> bytes:
    """The hardware address: 6 bytes for Ethernet, none or others for tunnels."""
    try:
        return bytes.fromhex(str(text or "").replace(":", ""))
    except ValueError:
        return b""


def _is_link_local(address: Address) -> bool:
    return address.version == 6 and address.value >> 118 == 0xFE80 >> 6


def _now() -> float:
    return asyncio.get_running_loop().time()


def local_networks() -> tuple[AddressRange, ...]:
    """The subnets of this machine's addresses, loopback's and those of one address left out."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - all of pyroute2, for `lbcore doctor` only

    found = set()
    with IPRoute() as ip:
        for each in ip.get_addr():
            text = f"{each.get_attr('IFA_ADDRESS')}/{each['prefixlen']}"
            network = AddressRange.parse(text)
            if network.size > 1 and not text.startswith(("127.", "fe80:")):
                found.add(network)
    return tuple(sorted(found))
