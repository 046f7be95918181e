"""Intents -> what is written to the API server: a patch of one object's status, or None where it says so already.

What others own is left alone: their conditions and ingress entries without an address (a host name) are
written back as they are, `ipMode` is nobody's business here. A patch of a Service carries the `resourceVersion`
that it was made for, so that the server refuses it (409) when somebody was faster.
"""

from __future__ import annotations

from typing import Any

from lbcore.adapters.kubernetes.services import CONDITION
from lbcore.addresses import Address
from lbcore.errors import AddressError
from lbcore.intents import ReportConfig, SetAddresses, SetPoolUsage
from lbcore.verdicts import Refusal

__all__ = ["CONDITION", "POOL_ANNOTATION", "configuration_state", "pool_status_patch", "service_patch", "shows_state"]

POOL_ANNOTATION = "metallb.io/ip-allocated-from-pool"
_MOST = 2**63 - 1  # JSON of the API server has no larger whole number; a /64 has 2^64 addresses
_MOST_TEXT = 32_768  # characters of a condition's message, by the API's own schema
_MOST_SUMMARY = 16_384

Document = dict[str, Any]


def service_patch(intent: SetAddresses, service: Document, when: str) -> Document | None:
    """A merge patch of `services/status`, for a Service as it looks now; `when` is the time as RFC 3339."""
    metadata, status = service.get("metadata") or {}, service.get("status") or {}
    ingress = [each for each in (status.get("loadBalancer") or {}).get("ingress") or () if isinstance(each, dict)]
    conditions = [each for each in status.get("conditions") or () if isinstance(each, dict)]
    wanted_conditions = _conditions(intent.refusal, conditions, when)
    annotations = metadata.get("annotations") or {}
    patch: Document = {}
    if _addresses(ingress) != intent.addresses:
        others = [each for each in ingress if not each.get("ip")]
        ours = [{"ip": str(address)} for address in intent.addresses]
        patch["status"] = {"loadBalancer": {"ingress": [*ours, *others] or None}}
    if wanted_conditions != conditions:
        patch.setdefault("status", {})["conditions"] = wanted_conditions or None
    changed: Document = {}
    if annotations.get(POOL_ANNOTATION) != intent.pool:
        changed["annotations"] = {POOL_ANNOTATION: intent.pool}
    if not patch and not changed:
        return None
    patch["metadata"] = {**changed, "resourceVersion": metadata.get("resourceVersion"), "uid": metadata.get("uid")}
    return patch


def _addresses(ingress: list[Document]) -> tuple[Address | str, ...]:
    return tuple(_parsed(each["ip"]) for each in ingress if isinstance(each.get("ip"), str) and each["ip"])


def _parsed(text: str) -> Address | str:
    try:
        return Address.parse(text)
    except AddressError:
        return text  # equal to no address: it is replaced


def _conditions(refusal: Refusal | None, there: list[Document], when: str) -> list[Document]:
    """The conditions as they should be; the time of ours changes with its reason, not with its message."""
    others = [each for each in there if each.get("type") != CONDITION]
    if refusal is None:
        return others
    before = next((each for each in there if each.get("type") == CONDITION), None)
    reason, message = refusal.reason.value, refusal.detail[:_MOST_TEXT]
    ours = {"type": CONDITION, "status": "True", "reason": reason, "message": message, "lastTransitionTime": when}
    if before is not None and all(before.get(name) == ours[name] for name in ("status", "reason")):
        ours["lastTransitionTime"] = before.get("lastTransitionTime") or when
        if before.get("message") == message:
            return there
    return [*others, ours]


def pool_status_patch(intent: SetPoolUsage, pool: Document | None) -> Document | None:
    """A merge patch of `ipaddresspools/status`; `pool` is the object as far as it is known."""
    wanted = {
        "assignedIPv4": min(intent.assigned_ipv4, _MOST),
        "assignedIPv6": min(intent.assigned_ipv6, _MOST),
        "availableIPv4": min(intent.available_ipv4, _MOST),
        "availableIPv6": min(intent.available_ipv6, _MOST),
    }
    status = (pool or {}).get("status") or {}
    if all(status.get(name) == number for name, number in wanted.items()):
        return None
    return {"status": wanted}


def configuration_state(intent: ReportConfig, condition: str, when: str) -> Document:
    """The status of a ConfigurationState; `condition` is the one that its component has."""
    summary = "\n".join(str(each) for each in intent.problems)
    valid = not intent.problems
    return {
        "result": "Valid" if valid else "Invalid",
        "errorSummary": summary[:_MOST_SUMMARY],
        "conditions": [
            {
                "type": condition,
                "status": "True" if valid else "False",
                "reason": "Reconciled" if valid else "ConfigurationError",
                "message": summary[:_MOST_TEXT],
                "lastTransitionTime": when,
            }
        ],
    }


def shows_state(wanted: Document, there: Document) -> bool:
    """Whether a ConfigurationState says so already; when it came to that does not matter."""
    return _timeless(wanted) == _timeless(there)


def _timeless(status: Document) -> tuple[Any, ...]:
    names = ("type", "status", "reason")
    conditions = [tuple(each.get(name) for name in names) for each in status.get("conditions") or ()]
    return status.get("result"), status.get("errorSummary") or "", sorted(conditions, key=str)
