"""MetalLB's old ConfigMap `config` (up to v0.12) -> pools, and an L2Advertisement for each `layer2` pool.

The ConfigMap's data key `config` holds a YAML text of its own; problems name the place in it
(`data.config:address-pools[0].addresses[1]`). Advertisements are named `l2advertisement1`, 2, ...
as MetalLB's own converter names them; pools keep their names, because Services ask for them by it.
"""

from __future__ import annotations

import re
from enum import Enum

from lbcore.adapters.kubernetes.fields import Faults, Fields
from lbcore.adapters.kubernetes.pools import read_ranges
from lbcore.adapters.kubernetes.text import TextError, parse, split
from lbcore.config import L2Advertisement, Origin, Pool, Resource

__all__ = ["is_legacy_config", "read_legacy_config"]

TEXT_KEY = "config"
NAMESPACE = "metallb-system"  # where MetalLB's manifests put it

_POOL_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_TELLTALE = re.compile(r"^(?:address-pools|peers)\s*:", re.MULTILINE)
_BGP_FIELDS = ("peers", "bgp-communities", "bfd-profiles")


class _Protocol(Enum):
    LAYER2 = "layer2"
    BGP = "bgp"


def is_legacy_config(name: str, namespace: str, data: object) -> bool:
    """Whether a ConfigMap is MetalLB's: by its name, and by its namespace or what its text says.

    Many programs have a ConfigMap called `config`, so in other namespaces the text must look like it.
    """
    if name != "config":
        return False
    text = data.get(TEXT_KEY) if isinstance(data, dict) else None
    return namespace == NAMESPACE or (isinstance(text, str) and bool(_TELLTALE.search(text)))


def read_legacy_config(document: Fields, origin: Origin, faults: Faults) -> tuple[Resource, ...]:
    """The resources that the text describes. Pools of protocol `bgp` can be assigned from but are not announced."""
    data = document.child("data")
    text = data.required_text(TEXT_KEY, "put MetalLB's configuration text there")
    content = _parsed(text, faults)
    if content is None:
        return ()
    config = Fields(content, f"data.{TEXT_KEY}:", faults)
    config.only("address-pools", *_BGP_FIELDS)
    resources: list[Resource] = []
    names: set[str] = set()
    adverts = 0
    for entry in config.children("address-pools"):
        pool = _pool(entry, origin, names)
        resources.append(pool)
        if _protocol(entry) is _Protocol.LAYER2:
            adverts += 1
            resources.append(L2Advertisement(name=f"l2advertisement{adverts}", pools=(pool.name,), origin=origin))
    return tuple(resources)


def _parsed(text: str, faults: Faults) -> dict[str, object] | None:
    path = f"data.{TEXT_KEY}"
    try:
        documents = [document for chunk in split(text) for document in parse(chunk)]
    except TextError as error:
        faults.add(path, str(error))
        return None
    if not documents:
        return {}
    if len(documents) > 1 or not isinstance(documents[0], dict):
        faults.add(path, "must be one YAML mapping with `address-pools`")
        return None
    return documents[0]


def _pool(entry: Fields, origin: Origin, names: set[str]) -> Pool:
    entry.only("name", "protocol", "addresses", "auto-assign", "avoid-buggy-ips", "bgp-advertisements")
    name = entry.required_text("name", "give the pool a name")
    if name and not _POOL_NAME.fullmatch(name):
        entry.fault("name", f"{name[:80]!r} is no pool name; up to 63 of A-Z a-z 0-9 - _ . are allowed")
    if name in names:
        entry.fault("name", f"pool {name[:80]!r} is defined twice; rename one")
    names.add(name)
    return Pool(
        name=name,
        ranges=read_ranges(entry, "addresses"),
        auto_assign=entry.flag("auto-assign", default=True),
        avoid_buggy_ips=entry.flag("avoid-buggy-ips", default=False),
        origin=origin,
    )


def _protocol(entry: Fields) -> _Protocol:
    if not entry.has("protocol"):
        entry.fault("protocol", "is missing; write layer2 or bgp")
    return entry.choice("protocol", _Protocol.LAYER2)
