"""NOTIFICATION: the one message that ends a session and says why, as a value and in words.

Sources: RFC 4271 sections 4.5 and 6, RFC 4486 (Cease), RFC 6608 (state machine), RFC 9003 (shutdown
communication), RFC 9687 (send hold timer). Everything that a peer may break carries the NOTIFICATION
that answers it, in a `BgpError`.
"""

from __future__ import annotations

from enum import IntEnum

from attrs import frozen

from lbcore.errors import RemoteProtocolError

__all__ = ["BgpError", "Cease", "Code", "Notification", "cease"]


class Code(IntEnum):
    """What kind of error ends the session."""

    HEADER = 1
    OPEN = 2
    UPDATE = 3
    HOLD_TIMER = 4
    STATE = 5
    CEASE = 6
    ROUTE_REFRESH = 7
    SEND_HOLD_TIMER = 8


class Cease(IntEnum):
    """Why a session is ended that has no error (RFC 4486)."""

    MAXIMUM_PREFIXES = 1
    SHUTDOWN = 2
    DECONFIGURED = 3
    RESET = 4
    REJECTED = 5
    CHANGED = 6
    COLLISION = 7
    RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


_CODES = {
    1: "message header error",
    2: "OPEN error",
    3: "UPDATE error",
    4: "hold timer expired",
    5: "state machine error",
    6: "cease",
    7: "ROUTE-REFRESH error",
    8: "send hold timer expired",
}
_SUBCODES = {
    (1, 1): "connection not synchronized",
    (1, 2): "bad message length",
    (1, 3): "bad message type",
    (2, 1): "unsupported version",
    (2, 2): "bad peer AS; compare the AS numbers on both sides",
    (2, 3): "bad BGP identifier; two routers have one router ID",
    (2, 4): "unsupported optional parameter",
    (2, 6): "unacceptable hold time",
    (2, 7): "unsupported capability",
    (2, 11): "role mismatch",
    (3, 1): "malformed attribute list",
    (3, 2): "unrecognized well-known attribute",
    (3, 3): "missing well-known attribute",
    (3, 4): "attribute flags error",
    (3, 5): "attribute length error",
    (3, 6): "invalid ORIGIN",
    (3, 8): "invalid NEXT_HOP",
    (3, 9): "optional attribute error",
    (3, 10): "invalid network field",
    (3, 11): "malformed AS_PATH",
    (5, 1): "unexpected message in OpenSent",
    (5, 2): "unexpected message in OpenConfirm",
    (5, 3): "unexpected message in Established",
    (6, 1): "maximum number of prefixes reached",
    (6, 2): "administrative shutdown",
    (6, 3): "peer deconfigured",
    (6, 4): "administrative reset",
    (6, 5): "connection rejected; is this node configured as a neighbour of the router?",
    (6, 6): "other configuration change",
    (6, 7): "connection collision resolution",
    (6, 8): "out of resources",
    (6, 9): "hard reset",
    (6, 10): "BFD down",
    (7, 1): "invalid message length",
}
_MOST_SHOWN = 255  # octets of a shutdown communication, RFC 9003 section 2


@frozen
class Notification:
    """Why a session ends: a code, a subcode and data that depends on them."""

    code: int
    subcode: int = 0
    data: bytes = b""

    @property
    def communication(self) -> str:
        """The shutdown communication (RFC 9003 section 2), without what a terminal could choke on; "" for none."""
        if (self.code, self.subcode) not in {(Code.CEASE, Cease.SHUTDOWN), (Code.CEASE, Cease.RESET)} or not self.data:
            return ""
        # "If the length is larger than what is there, or no valid UTF-8, it is to be treated as none."
        text = self.data[1 : 1 + self.data[0]]
        if len(text) != self.data[0]:
            return ""
        try:
            return "".join(each if each.isprintable() else " " for each in text.decode()).strip()
        except UnicodeDecodeError:
            return ""

    def __str__(self) -> str:
        name = _CODES.get(self.code, f"error {self.code}")
        detail = _SUBCODES.get((self.code, self.subcode), f"subcode {self.subcode}" if self.subcode else "")
        said = f' ("{self.communication}")' if self.communication else ""
        return f"{name}: {detail}{said}" if detail else name


def cease(why: Cease, text: str = "") -> Notification:
    """End a session without an error; a text goes with SHUTDOWN and RESET only, and is cut to what fits."""
    if not text or why not in (Cease.SHUTDOWN, Cease.RESET):
        return Notification(Code.CEASE, why)
    encoded = text.encode("utf-8", "replace")[:_MOST_SHOWN]
    encoded = encoded.decode("utf-8", "ignore").encode()  # no half of a character at the cut
    return Notification(Code.CEASE, why, bytes((len(encoded),)) + encoded)


class BgpError(RemoteProtocolError):
    """The peer broke the protocol; `notification` is what it is to be told before the connection is closed."""

    def __init__(self, message: str, notification: Notification) -> None:
        super().__init__(message)
        self.notification = notification
