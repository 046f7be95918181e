"""MetalLB's old ConfigMap `config` (up to v0.12) -> pools, advertisements, peers, profiles, communities.

The ConfigMap's data key `config` holds a YAML text of its own; problems name the place in it
(`data.config:address-pools[0].addresses[1]`). What has no name there gets the one that MetalLB's own
converter gives it (`l2advertisement1`, `bgpadvertisement1`, `peer1`, ...); pools and BFD profiles
keep theirs, because Services and peers ask for them by it.
"""

from __future__ import annotations

import re
from enum import Enum

from attrs import evolve

from lbcore.adapters.kubernetes.bgp import read_bfd_profile, read_bgp_advertisement, read_community, read_peer
from lbcore.adapters.kubernetes.fields import Faults, Fields, Spelling
from lbcore.adapters.kubernetes.pools import read_ranges
from lbcore.adapters.kubernetes.text import TextError, parse, split
from lbcore.bgp import BFDProfile, BGPAdvertisement
from lbcore.config import L2Advertisement, Origin, Pool, Resource

__all__ = ["is_legacy_config", "read_legacy_config"]

TEXT_KEY = "config"
NAMESPACE = "metallb-system"  # where MetalLB's manifests put it

_POOL_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_TELLTALE = re.compile(r"^(?:address-pools|peers)\s*:", re.MULTILINE)

_SELECTOR = Spelling({"match-labels": "matchLabels", "match-expressions": "matchExpressions"})
_PEER = Spelling(
    {
        "my-asn": "myASN",
        "peer-asn": "peerASN",
        "peer-address": "peerAddress",
        "source-address": "sourceAddress",
        "peer-port": "peerPort",
        "hold-time": "holdTime",
        "keepalive-time": "keepaliveTime",
        "router-id": "routerID",
        "node-selectors": "nodeSelectors",
        "password": "password",
        "bfd-profile": "bfdProfile",
        "ebgp-multihop": "ebgpMultiHop",
    },
    {"nodeSelectors": _SELECTOR},
)
_BGP_ADVERTISEMENT = Spelling(
    {
        "aggregation-length": "aggregationLength",
        "aggregation-length-v6": "aggregationLengthV6",
        "localpref": "localPref",
        "communities": "communities",
    }
)
_BFD_PROFILE = Spelling(
    {
        "receive-interval": "receiveInterval",
        "transmit-interval": "transmitInterval",
        "detect-multiplier": "detectMultiplier",
        "echo-interval": "echoInterval",
        "echo-mode": "echoMode",
        "passive-mode": "passiveMode",
        "minimum-ttl": "minimumTtl",
    }
)


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
    """The resources that the text describes."""
    data = document.child("data")
    text = data.required_text(TEXT_KEY, "put MetalLB's configuration text there")
    content = _parsed(text, faults)
    if content is None:
        return ()
    config = Fields(content, f"data.{TEXT_KEY}:", faults)
    config.only("address-pools", "peers", "bgp-communities", "bfd-profiles")
    peers = [
        read_peer(each.respelled(_PEER), f"peer{number}", origin, is_old=True)
        for number, each in enumerate(config.children("peers"), 1)
    ]
    profiles = [_bfd_profile(each, origin) for each in config.children("bfd-profiles")]
    communities = config.child("bgp-communities")
    aliases = [read_community(communities, name, name, origin) for name in communities]
    return (*_announced_pools(config, origin), *peers, *profiles, *(alias for alias in aliases if alias is not None))


def _announced_pools(config: Fields, origin: Origin) -> list[Resource]:
    """Every pool with its advertisements. Those for BGP count whatever the pool's protocol says, as in MetalLB."""
    resources: list[Resource] = []
    names: set[str] = set()
    layer2 = bgp = 0
    for entry in config.children("address-pools"):
        pool = _pool(entry, origin, names)
        resources.append(pool)
        adverts = [
            _bgp_advertisement(each.respelled(_BGP_ADVERTISEMENT), bgp + number, pool.name, origin)
            for number, each in enumerate(entry.children("bgp-advertisements"), 1)
        ]
        protocol = _protocol(entry)
        if protocol is _Protocol.LAYER2:
            layer2 += 1
            advert = L2Advertisement(name=f"l2advertisement{layer2}", pools=(pool.name,), origin=origin, path=pool.path)
            resources.append(advert)
        elif not adverts:
            name = f"bgpadvertisement{bgp + 1}"
            adverts.append(BGPAdvertisement(name=name, pools=(pool.name,), origin=origin, path=pool.path))
        bgp += len(adverts)
        resources += adverts
    return resources


def _bgp_advertisement(entry: Fields, number: int, pool: str, origin: Origin) -> BGPAdvertisement:
    return evolve(read_bgp_advertisement(entry, f"bgpadvertisement{number}", origin), pools=(pool,))


def _bfd_profile(entry: Fields, origin: Origin) -> BFDProfile:
    name = entry.required_text("name", "give the profile a name")
    return read_bfd_profile(entry.respelled(_BFD_PROFILE, "name"), name, origin)


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
        path=entry.path,
    )


def _protocol(entry: Fields) -> _Protocol:
    if not entry.has("protocol"):
        entry.fault("protocol", "is missing; write layer2 or bgp")
    return entry.choice("protocol", _Protocol.LAYER2)
