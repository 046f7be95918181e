"""An interface by scapy: slower and larger, but it knows more systems than Linux.

Import this module only when it is chosen: scapy costs some 40 MB. What a kernel filter does for
`backends.link` is done here, frame by frame, after scapy has put back the VLAN tag that the
interface took off.
"""

from __future__ import annotations

from typing import Any

import scapy.layers.l2  # noqa: F401 -- registers Ethernet, without which scapy has no Layer 2 sockets
from scapy.config import conf
from scapy.error import Scapy_Exception

from lbcore.addresses import Address
from lbcore.backends.base import LinkFault
from lbcore.backends.groups import Memberships
from lbcore.backends.link import BATCH, CapabilityError, fault_of, is_there, told
from lbcore.model import Link

__all__ = ["ScapyLink"]

_ARP = b"\x08\x06"
_IPV6 = b"\x86\xdd"
_NEIGHBOR = (b"\x87\x00", b"\x88\x00")  # type and code of Solicitation and Advertisement


class ScapyLink:
    """A `FrameLink` by whatever Layer 2 socket scapy has for this system."""

    def __init__(self, link: Link, opened: Any) -> None:
        self._link = link
        self._socket = opened
        self._memberships = Memberships(link.index)

    @classmethod
    def open(cls, link: Link) -> ScapyLink | LinkFault:
        """Open the interface of this name and index.

        `LinkFault.GONE` when there is no such interface, `LinkFault.DOWN` while it is down: try
        again when it is up. Raises `CapabilityError`.
        """
        try:
            if not is_there(link):
                return LinkFault.GONE
            # Not promiscuous: frames for other stations are none of our business.
            return cls(link, conf.L2socket(iface=link.name, promisc=False))
        except PermissionError:
            raise CapabilityError(link.name) from None
        except Scapy_Exception as error:
            if "ermission" in str(error):  # BSD: scapy's own words about /dev/bpf
                raise CapabilityError(link.name) from None
            raise
        except OSError as error:
            return fault_of(error)

    @property
    def readers(self) -> tuple[int, ...]:
        """The file descriptors to wait on."""
        return () if self._socket.closed else (self._socket.fileno(),)

    def receive(self) -> list[bytes] | LinkFault:
        """Of at most `BATCH` frames those that are ARP or Neighbor Discovery."""
        frames: list[bytes] = []
        try:
            for _ in range(BATCH):
                if not self._socket.select([self._socket], 0):
                    break
                _, frame, _ = self._socket.recv_raw()
                if frame is not None and _concerns_us(frame):
                    frames.append(frame)
        except OSError as error:
            return frames or told(fault_of(error), self._link) or []
        return frames

    def send(self, frame: bytes) -> LinkFault | None:
        """Put one frame on the wire."""
        try:
            self._socket.send(frame)
        except OSError as error:
            return fault_of(error)
        return None

    def set_groups(self, groups: frozenset[Address]) -> LinkFault | None:
        """Be a member of exactly these IPv6 multicast groups."""
        return self._memberships.set(groups)

    def rejoin(self) -> LinkFault | None:
        """Tell the switches of all groups anew."""
        return self._memberships.renew()

    def close(self) -> None:
        """Leave the groups and close the socket."""
        self._memberships.close()
        self._socket.close()


def _concerns_us(frame: bytes) -> bool:
    ethertype = frame[12:14]
    return ethertype == _ARP or (ethertype == _IPV6 and frame[20:21] == b"\x3a" and frame[54:56] in _NEIGHBOR)
