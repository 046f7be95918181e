"""TCP connections as BGP wants them: from a chosen address, signed (RFC 2385), and what is known of our end.

Linux only. Nothing here waits: sockets do not block, and are connected by whoever asked for them.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import zlib
from pathlib import Path

from lbcore.adapters.bgp.connection import LocalEnd
from lbcore.addresses import Address
from lbcore.bgp import BGPPeer

__all__ = ["describe_error", "hold_to_hops", "is_far", "listen", "local_end", "open_socket", "sign"]

# Linux's numbers, which Python does not have.
_TCP_MD5SIG = 14
_IP_MINTTL, _IPV6_MINHOPCOUNT = 21, 73
_SIOCGIFCONF = 0x8912
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 1, 4, 5, 18
_IFREQ = struct.Struct("16s16x8x")  # 40 bytes: a name, and a sockaddr
_SCOPE_LINK, _SCOPE_GLOBAL = 0x20, 0x00
_TTL = 255  # what RFC 5082 wants to see, and as good as any to routers that do not look
_CONTROL = 0xC0  # internetwork control, the DSCP of routing protocols


Where = tuple[str, int] | tuple[str, int, int, int]


def open_socket(peer: BGPPeer, address: Address) -> tuple[socket.socket, Where]:
    """A socket that can be connected to a peer, who is at this address, and where to. Raises `OSError`."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _prepare(sock)
        if peer.vrf or peer.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, (peer.vrf or peer.interface).encode() + b"\0")
        if peer.source_address is not None:
            sock.bind((str(peer.source_address), 0))
        sign(sock, address, peer.password)
    except BaseException:
        sock.close()
        raise
    if peer.interface:
        return sock, (str(address), peer.port, 0, socket.if_nametoindex(peer.interface))
    return sock, (str(address), peer.port)


def is_far(address: Address, device: str = "") -> bool:
    """Whether packets to an address go by a router, as the kernel would send them; also where it does not say.

    Asked by RTM_GETROUTE, whose answer has RTA_GATEWAY or, for another family's, RTA_VIA.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    attributes = _attribute(_RTA_DST, address.packed)
    try:
        if device:
            attributes += _attribute(_RTA_OIF, struct.pack("=I", socket.if_nametoindex(device)))
        body = struct.pack("=BBBBBBBBI", family, address.family.bits, 0, 0, 0, 0, 0, 0, 0) + attributes
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(1.0)
            kernel.send(struct.pack("=IHHII", 16 + len(body), _RTM_GETROUTE, 1, 1, 0) + body)
            answer = kernel.recv(8192)
    except OSError:
        return False
    (kind,) = struct.unpack_from("=H", answer, 4)
    return kind == _RTM_NEWROUTE and not {_RTA_GATEWAY, _RTA_VIA}.isdisjoint(_attributes_in(answer[28:]))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value


def _attributes_in(data: bytes) -> set[int]:
    """The kinds of the attributes of a message of rtnetlink, behind its two heads of 16 and 12 octets."""
    found: set[int] = set()
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found.add(kind)
        data = data[max(4, (length + 3) & ~3) :]
    return found


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _TTL)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _TTL)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CONTROL)


def listen(family: socket.AddressFamily, port: int) -> socket.socket:
    """A socket that waits for routers to connect. Raises `OSError`: the port is taken, or not allowed."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _prepare(sock)
        sock.bind(("", port))
        sock.listen(64)
    except BaseException:
        sock.close()
        raise
    return sock


def sign(sock: socket.socket, address: Address, password: str) -> None:
    """Have segments from and to an address signed; with "" no more. On a socket that listens, for that peer alone."""
    with contextlib.suppress(FileNotFoundError):  # there was none to take away
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, _signature(address, password.encode()))


def hold_to_hops(sock: socket.socket, hops: int) -> None:
    """Drop what has come over more routers than that allows (GTSM, RFC 5082), 1 for a router on the same link.

    Set on a connection that is there: a router's answer to the first packet may have any TTL.
    """
    least = _TTL + 1 - hops
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, least)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, least)


def _signature(address: Address, key: bytes) -> bytes:
    """`struct tcp_md5sig`: whose segments are signed with which key. Raises `OSError` for one beyond 80 bytes."""
    if len(key) > 80:
        raise OSError(errno.EINVAL, "a password has at most 80 bytes")
    if address.version == 4:
        where = struct.pack("<H2s4s", socket.AF_INET, b"", address.packed)
    else:
        where = struct.pack("<H2sI16sI", socket.AF_INET6, b"", 0, address.packed, 0)
    return where.ljust(128, b"\0") + struct.pack("=BBHi", 0, 0, len(key), 0) + key.ljust(80, b"\0")


def describe_error(error: OSError, peer: BGPPeer) -> str:
    """Why a connection did not come about, in words an operator can act on."""
    if error.errno == errno.EADDRNOTAVAIL and peer.source_address is not None:
        return f"sourceAddress {peer.source_address} is not an address of this node"
    if error.errno == errno.ENODEV and peer.vrf:
        return f"there is no VRF {peer.vrf!r} on this node"
    if peer.interface and (error.errno == errno.ENODEV or error.args[0] == "no interface with this name"):
        return f"there is no interface {peer.interface!r} on this node"
    if error.errno == errno.ECONNREFUSED:
        return f"{peer.router} port {peer.port} refuses connections; is BGP on there, and is this node a neighbour?"
    return f"{peer.router} port {peer.port}: {os.strerror(error.errno) if error.errno else error}"


def local_end(sock: socket.socket, peer: BGPPeer, node: str) -> LocalEnd:
    """What is known of our end of a connection: next hops for both families, and the router ID.

    The other family's next hop is an address of the interface that has ours. The router ID is the
    configured one, else our IPv4 address or the first of that interface, else, as with MetalLB, a
    checksum of the node's name.
    """
    address = Address.parse(sock.getsockname()[0].partition("%")[0])
    four, six = _ipv4_addresses(), _ipv6_addresses()
    interface = peer.interface or next((name for name, known, _ in (*four, *six) if known == address), None)
    ipv4 = next((known for name, known, _ in four if name == interface), None)
    ipv6 = next((known for name, known, scope in six if name == interface and scope == _SCOPE_GLOBAL), None)
    link_local = next((known for name, known, scope in six if name == interface and scope == _SCOPE_LINK), None)
    if peer.interface:
        ipv6 = None  # the router need not know the way to any other address on this cable
    elif address.version == 4:
        ipv4 = address
    elif address.value >> 118 != 0xFE80 >> 6:
        ipv6 = address
    checksum = int.from_bytes(zlib.crc32(node.encode()).to_bytes(4, "little"), "big")
    return LocalEnd(
        over=address.family,
        router_id=peer.router_id or ipv4 or Address(4, checksum or 1),
        ipv4=ipv4,
        ipv6=ipv6,
        # Beside a global one it may be told to peers on the same link only, and nobody needs it there.
        link_local=link_local if ipv6 is None else None,
    )


_Known = tuple[str, Address, int]


def _ipv4_addresses() -> list[_Known]:
    """Interface, address and scope of each IPv4 address of this namespace."""
    buffer = array.array("B", bytes(40 * 1024))
    start, size = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iL", size, start))
    (length, _) = struct.unpack("iL", answer)
    data = buffer.tobytes()
    found = []
    for at in range(0, length, _IFREQ.size):
        name = data[at : at + 16].partition(b"\0")[0].decode().partition(":")[0]
        found.append((name, Address.from_bytes(data[at + 20 : at + 24]), _SCOPE_GLOBAL))
    return found


def _ipv6_addresses() -> list[_Known]:
    try:
        lines = Path("/proc/thread-self/net/if_inet6").read_text("ascii").splitlines()
    except OSError:
        return []  # IPv6 is off
    parts = (line.split() for line in lines)
    return [(name, Address(6, int(number, 16)), int(scope, 16)) for number, _, _, scope, _, name in parts]
