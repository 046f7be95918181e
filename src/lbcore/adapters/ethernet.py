"""The Ethernet header that ARP and NDP share: 14 bytes of destination, source and EtherType.

Only what both need lives here. An 802.1Q tag is another EtherType, hence never ours: the frame
belongs to another VLAN, whose own interface will hear it.
"""

from __future__ import annotations

from lbcore.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["BROADCAST", "ETHERTYPE_ARP", "ETHERTYPE_IPV6", "HEADER", "NO_MAC", "check_frame", "check_mac", "mac_text"]

BROADCAST = b"\xff" * 6
NO_MAC = bytes(6)
ETHERTYPE_ARP = b"\x08\x06"
ETHERTYPE_IPV6 = b"\x86\xdd"
HEADER = 14


def mac_text(mac: bytes) -> str:
    """`02:00:00:00:00:01`, as `ip link` prints it."""
    return mac.hex(":")


def check_frame(frame: bytes, ethertype: bytes, name: str, size: int) -> None:
    """Raise `RemoteProtocolError` unless `frame` has this EtherType and at least `size` bytes."""
    if len(frame) < HEADER:
        raise RemoteProtocolError(f"{len(frame)} bytes are no Ethernet frame; its header alone has {HEADER}")
    if frame[12:HEADER] != ethertype:
        raise RemoteProtocolError(f"EtherType 0x{frame[12:HEADER].hex()} is not {name}, 0x{ethertype.hex()}")
    if len(frame) < size:
        raise RemoteProtocolError(f"{name} needs {size} bytes, the frame ends after {len(frame)}")


def check_mac(mac: bytes, what: str) -> None:
    """Raise `LocalProtocolError` unless `mac` has the 6 bytes of an Ethernet address."""
    if len(mac) != 6:
        raise LocalProtocolError(f"the {what} has {len(mac)} bytes, an Ethernet address has 6")
