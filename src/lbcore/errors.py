"""What can go wrong, as types: whose fault it is sits on the class.

A *refusal* (a full pool, a busy address) is not here: it is a value, see `lbcore.verdicts`.
Here are faults: bytes that break a protocol, text that is no address, a manifest nobody can use.
"""

from __future__ import annotations

from attrs import frozen

__all__ = [
    "AddressError",
    "CommunityError",
    "LbcoreError",
    "LocalProtocolError",
    "ManifestError",
    "Problem",
    "RemoteProtocolError",
]


@frozen(kw_only=True, order=True)
class Problem:
    """One thing wrong with one place in the configuration, as an operator needs to read it.

    `source` is the file (with the document's number) or the API server, `object` is
    `Kind namespace/name`, `field` is the path inside the object (`spec.addresses[0]`), and
    `message` says what is wrong and what to do.
    """

    source: str
    object: str
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.object, self.field, self.message) if part)


class LbcoreError(Exception):
    """The parent of every exception that lbcore raises on purpose."""


class AddressError(LbcoreError, ValueError):
    """A text that is no address, no CIDR and no range; the message says why and what to write."""


class CommunityError(LbcoreError, ValueError):
    """A text that is no BGP community; the message says why and what to write."""


class RemoteProtocolError(LbcoreError):
    """The other side sent bytes that its protocol forbids. Only `decode` raises it."""


class LocalProtocolError(LbcoreError):
    """We were about to send what the protocol forbids. Only `encode` raises it: a bug of ours."""


class ManifestError(LbcoreError):
    """A manifest that cannot be used; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem
