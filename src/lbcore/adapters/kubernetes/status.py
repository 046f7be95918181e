"""Intents -> the JSON that a cluster of files keeps beside its manifests, and a Service's status back.

One document for each Service and pool, one for the configuration, one line for each event. The
bytes depend on the intent alone (an event's time is an argument), so that writing twice is seen to
be no change.
"""

from __future__ import annotations

from datetime import UTC, datetime
from sys import intern

import msgspec
from attrs import frozen

from lbcore.addresses import Address
from lbcore.config import Pool
from lbcore.errors import AddressError, ManifestError, Problem
from lbcore.intents import PublishIngress, RecordEvent, ReportConfig, ReportPeer, SetAddresses, SetPoolUsage
from lbcore.verdicts import Refusal

__all__ = [
    "ServiceStatus",
    "config_status",
    "event_line",
    "ingress_status",
    "peer_status",
    "pool_status",
    "read_service_status",
    "service_status",
]


@frozen(kw_only=True)
class ServiceStatus:
    """What was last written for a Service: its addresses, their pool, or why there are none.

    `uid` is that of the Service it was written for (empty where manifests have none); `reason` is
    a value of `Reason`, as text because a newer lbcore may have written it.
    """

    uid: str = ""
    addresses: tuple[Address, ...] = ()
    pool: str | None = None
    reason: str | None = None
    message: str | None = None


class _PoolVerdict(msgspec.Struct):
    pool: str
    reason: str
    detail: str = ""


class _Refusal(msgspec.Struct):
    reason: str
    message: str
    pools: list[_PoolVerdict] = []


class _Service(msgspec.Struct):
    service: str = ""
    uid: str = ""
    addresses: list[str] = []
    pool: str | None = None
    refusal: _Refusal | None = None


_decoder = msgspec.json.Decoder(_Service)


def service_status(intent: SetAddresses) -> bytes:
    """The status of one Service."""
    document = _Service(
        service=str(intent.key),
        uid=intent.uid,
        addresses=[str(address) for address in intent.addresses],
        pool=intent.pool,
        refusal=None if intent.refusal is None else _refusal(intent.refusal),
    )
    return _text(document)


def _refusal(refusal: Refusal) -> _Refusal:
    pools = [_PoolVerdict(each.pool, each.reason.value, each.detail) for each in refusal.pools]
    return _Refusal(refusal.reason.value, refusal.detail, pools)


def read_service_status(data: bytes, source: str) -> ServiceStatus:
    """The status that `service_status` wrote. Raises `ManifestError` for anything else."""
    try:
        document = _decoder.decode(data)
        addresses = tuple(Address.parse(text) for text in document.addresses)
    except (msgspec.MsgspecError, AddressError, UnicodeError, RecursionError) as error:
        message = f"is not a status that lbcore wrote ({error}); remove the file and it is written anew"
        raise ManifestError(Problem(source=source, object="", field="", message=message)) from None
    refusal = document.refusal
    return ServiceStatus(
        uid=document.uid,
        addresses=addresses,
        pool=intern(document.pool) if document.pool is not None else None,
        reason=refusal.reason if refusal else None,
        message=refusal.message if refusal else None,
    )


def ingress_status(intent: PublishIngress) -> bytes:
    """The addresses and host names that one Ingress shows."""
    return _text({"ingress": str(intent.key), "uid": intent.uid, "addresses": list(intent.addresses)})


def pool_status(intent: SetPoolUsage) -> bytes:
    """`IPAddressPool.status`, with its field names."""
    return _text(
        {
            "assignedIPv4": intent.assigned_ipv4,
            "assignedIPv6": intent.assigned_ipv6,
            # As text where JSON numbers end: a /64 has 2^64 addresses.
            "availableIPv4": intent.available_ipv4,
            "availableIPv6": _number(intent.available_ipv6),
        }
    )


def peer_status(intent: ReportPeer) -> bytes:
    """How one node's session with a BGPPeer is."""
    status = intent.status
    assert status is not None
    return _text(
        {
            "node": intent.node,
            "peer": intent.peer,
            "router": intent.router,
            "state": status.state.value,
            "since": datetime.fromtimestamp(status.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "prefixesAdvertised": status.advertised,
            "prefixesReceived": status.received,
            "sessionsLost": status.flaps,
            "error": status.error,
            "bfd": "" if intent.watch is None else intent.watch.word,
        }
    )


def _number(value: int) -> int | str:
    return value if value < 2**63 else str(value)


def config_status(intent: ReportConfig) -> bytes:
    """The configuration in force, and the problems of a newer one that was refused."""
    pools = intent.config.pools if intent.config else ()
    adverts = intent.config.l2_advertisements if intent.config else ()
    return _text(
        {
            "result": "Invalid" if intent.problems else "Valid",
            "problems": [
                {"source": each.source, "object": each.object, "field": each.field, "message": each.message}
                for each in intent.problems
            ],
            "pools": [_pool(pool) for pool in pools],
            "l2Advertisements": [advert.name for advert in adverts],
        }
    )


def _pool(pool: Pool) -> dict[str, object]:
    return {"name": pool.name, "addresses": [str(each) for each in pool.ranges], "autoAssign": pool.auto_assign}


def event_line(intent: RecordEvent, when: str) -> bytes:
    """One event as one line of JSON; `when` is RFC 3339."""
    line = {
        "time": when,
        "about": intent.about,
        "type": intent.type.value,
        "reason": intent.reason,
        "message": intent.message,
    }
    return msgspec.json.encode(line) + b"\n"


def _text(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
