"""What the answering engine counts for each address, as it crosses to the speaker, which need not load the engine."""

from __future__ import annotations

from attrs import frozen

from lbcore.addresses import Address

__all__ = ["AddressCount"]


@frozen(kw_only=True)
class AddressCount:
    """What was done for one address since its claim began: questions heard for it, answers, and frames unasked."""

    address: Address
    requests: int
    responses: int
    gratuitous: int
