"""What people and machines do to a cluster: pools, advertisements, Services, endpoints, labels.

Everything is drawn from small numbers of names and addresses, so that what can collide does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from lbcore.simulation.world import ApiServer, Document, name_of

__all__ = ["SYSTEM", "Users"]

SYSTEM = "metallb-system"
_NAMESPACES = ("blue", "green")
_SERVICES = tuple(f"s{number}" for number in range(10))
_POOLS = ("amber", "birch", "cedar", "delta")
_BLOCKS = tuple(  # small, so that pools are full
    [f"10.0.{number}.{last}/31" for number in range(3) for last in (0, 254)]  # with .0 and .255
    + [f"10.1.{number}.16-10.1.{number}.18" for number in range(3)]
    + [f"2001:db8::{number:x}0/127" for number in range(6)]
    + [f"2001:db8:1::{number:x}1-2001:db8:1::{number:x}3" for number in range(3)]
)
_SOME_ADDRESSES = (
    "10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1", "10.1.0.16", "10.1.1.17", "10.9.9.9",
    "2001:db8::", "2001:db8::1", "2001:db8::10", "2001:db8:1::1", "2001:db8:9::9",
)  # fmt: skip
_PORTS = (("TCP", 80), ("TCP", 443), ("UDP", 53))
_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


class Users:
    """Everybody who writes wishes. `act` does one thing, or two that belong together."""

    def __init__(self, server: ApiServer, rng: random.Random, counts: Counter[str], nodes: tuple[str, ...]) -> None:
        self._server = server
        self._rng = rng
        self._counts = counts
        self._nodes = nodes
        self._broken: dict[tuple[str, str], Document] = {}  # what was there before somebody broke it
        self._acts: tuple[tuple[int, Callable[[], None]], ...] = (
            (14, self._create_service),
            (10, self._change_service),
            (7, self._delete_service),
            (4, self._recreate_service),
            (10, self._flap_endpoints),
            (4, self._add_pool),
            (4, self._grow_pool),
            (4, self._shrink_pool),
            (2, self._remove_pool),
            (2, self._rename_pool),
            (2, self._split_pool),
            (4, self._retune_pool),
            (2, self._break_config),
            (3, self.repair),
            (4, self._change_advert),
            (5, self._label_node),
            (1, self._recreate_node),
            (2, self._label_namespace),
        )
        self._weights = [weight for weight, _ in self._acts]

    def _add_acts(self, *acts: tuple[int, Callable[[], None]]) -> None:
        """More that may be done, each with its weight."""
        self._acts += acts
        self._weights = [weight for weight, _ in self._acts]

    def begin(self) -> None:
        """The cluster as lbcore finds it."""
        for name in _NAMESPACES:
            self._put_namespace(name)
        for node in self._nodes:
            self._put_node(node)
        # One pool for everybody, so that not whole histories pass in which nobody is served.
        blocks = self._rng.sample(_BLOCKS, self._rng.randint(2, 5))
        self._put_pool("amber", {"addresses": blocks}, {"layer": "front"})
        for _ in range(self._rng.randint(0, 2)):
            self._add_pool()
        self._put_advert("everything", {})
        for _ in range(self._rng.randint(0, 14)):
            self._create_service()

    def populate(self, count: int) -> None:
        """Create so many Services more."""
        for _ in range(count):
            self._create_service()

    def act(self) -> None:
        """Do something."""
        ((_, action),) = self._rng.choices(self._acts, self._weights)
        self._counts["changes by users"] += 1
        action()

    def repair(self) -> None:
        """Mend what is broken in the configuration."""
        for (resource, name), good in list(self._broken.items()):
            del self._broken[resource, name]
            if self._server.get(resource, name) is not None:
                self._server.put(resource, _identity(good), spec=good["spec"])

    # Services

    def _create_service(self) -> None:
        taken = set(self._server.names("services"))
        free = [f"{space}/{name}" for space in _NAMESPACES for name in _SERVICES if f"{space}/{name}" not in taken]
        if free:
            self._put_service(self._rng.choice(free))
        else:
            self._delete_service()

    def _put_service(self, full_name: str) -> None:
        namespace, _, name = full_name.partition("/")
        metadata, spec = self._wishes()
        service = self._server.put("services", {"namespace": namespace, "name": name, **metadata}, spec=spec)
        if self._server.get("endpointslices", f"{namespace}/{name}-1") is None:
            self._put_slice(service)

    def _change_service(self) -> None:
        """Change one thing of a Service, or everything; clusterIPs stay, they are immutable."""
        service = self._any("services")
        if service is None:
            return
        metadata, spec = self._wishes()
        old = service["spec"]
        spec["clusterIPs"] = old["clusterIPs"]
        if len(old["clusterIPs"]) == 1 and spec["ipFamilyPolicy"] == "RequireDualStack":
            spec["ipFamilyPolicy"] = "PreferDualStack"
        if self._rng.random() < 0.7:
            key = self._rng.choice(["ports", "externalTrafficPolicy", "selector", "type", "loadBalancerIP"])
            spec = {**old, key: spec[key]} if key in spec else {k: v for k, v in old.items() if k != key}
            if self._rng.random() < 0.5:
                metadata = {**_wishes_of(service)}
        self._server.put("services", {**_identity(service), **metadata}, spec=spec)

    def _delete_service(self) -> None:
        service = self._any("services")
        if service is not None:
            self._server.delete("services", name_of(service))
            self._server.delete("endpointslices", f"{name_of(service)}-1")

    def _recreate_service(self) -> None:
        service = self._any("services")
        if service is not None:
            self._server.delete("services", name_of(service))
            if self._rng.random() < 0.5:
                self._server.put("services", {**_identity(service), **_wishes_of(service)}, spec=service["spec"])
            else:
                self._put_service(name_of(service))

    def _wishes(self) -> tuple[Document, Document]:
        """Labels and annotations, and a spec."""
        rng = self._rng
        policy, cluster_ips = rng.choice(
            [
                ("SingleStack", ["172.16.0.1"]),
                ("SingleStack", ["172.16.0.1"]),
                ("SingleStack", ["fd00::1"]),
                ("PreferDualStack", ["172.16.0.1", "fd00::1"]),
                ("PreferDualStack", ["172.16.0.1"]),
                ("RequireDualStack", ["fd00::1", "172.16.0.1"]),
            ]
        )
        ports = rng.sample(_PORTS, rng.randint(1, 2))
        spec: Document = {
            "type": "LoadBalancer" if rng.random() < 0.92 else "ClusterIP",
            "clusterIPs": cluster_ips,
            "ipFamilyPolicy": policy,
            "externalTrafficPolicy": "Local" if rng.random() < 0.3 else "Cluster",
            "selector": {"app": rng.choice("xy")},
            "ports": [{"protocol": protocol, "port": number} for protocol, number in sorted(ports)],
        }
        annotations: dict[str, str] = {}
        if rng.random() < 0.35:
            annotations["metallb.io/allow-shared-ip"] = rng.choice(["k1", "k1", "k2", ""])
        self._ask_for_something(annotations, spec)
        if rng.random() < 0.04:
            spec["loadBalancerClass"] = "example.org/other"
        labels = {"tier": "gold"} if rng.random() < 0.3 else {}
        return {"labels": labels, "annotations": annotations}, spec

    def _ask_for_something(self, annotations: dict[str, str], spec: Document) -> None:
        rng, dice = self._rng, self._rng.random()
        versions = [ip_address(text).version for text in spec["clusterIPs"]]
        fitting = [text for text in _SOME_ADDRESSES if ip_address(text).version == versions[0]]
        others = [text for text in _SOME_ADDRESSES if ip_address(text).version != versions[0]]
        if dice < 0.08:
            spec["loadBalancerIP"] = rng.choice(fitting)
        elif dice < 0.16:
            asked = [rng.choice(fitting), *([rng.choice(others)] if len(versions) > 1 else [])]
            annotations[rng.choice(["metallb.io/", "metallb.universe.tf/"]) + "loadBalancerIPs"] = ",".join(asked)
        elif dice < 0.28:
            annotations["metallb.io/address-pool"] = rng.choice([*_POOLS, "nowhere"])
        elif dice < 0.31:
            spec["loadBalancerIP"] = rng.choice(["not-an-address", *_SOME_ADDRESSES])
            annotations["metallb.io/loadBalancerIPs"] = rng.choice(_SOME_ADDRESSES)

    # Endpoints

    def _flap_endpoints(self) -> None:
        service = self._any("services")
        if service is None:
            return
        name = f"{name_of(service)}-1"
        if self._rng.random() < 0.1 and self._server.get("endpointslices", name) is not None:
            self._server.delete("endpointslices", name)
        else:
            self._put_slice(service)

    def _put_slice(self, service: Document) -> None:
        rng = self._rng
        endpoints = []
        for number in range(rng.choice([0, 1, 1, 2, 3])):
            conditions: Document = rng.choice(
                [{"ready": True}, {"ready": True}, {}, {"ready": False}, {"ready": False, "serving": True}]
            )
            endpoint: Document = {"addresses": [f"10.244.0.{number + 1}"], "conditions": conditions}
            if rng.random() < 0.9:
                endpoint["nodeName"] = rng.choice(self._nodes)
            endpoints.append(endpoint)
        metadata = service["metadata"]
        self._server.put(
            "endpointslices",
            {
                "namespace": metadata["namespace"],
                "name": f"{metadata['name']}-1",
                "labels": {"kubernetes.io/service-name": metadata["name"]},
            },
            endpoints=endpoints,
        )

    # Pools

    def _free_blocks(self) -> list[str]:
        pools = [*self._server.all("ipaddresspools"), *self._broken.values()]
        used = {text for pool in pools for text in pool["spec"]["addresses"]}
        return [block for block in _BLOCKS if block not in used]

    def _put_pool(self, name: str, spec: Document, labels: Document | None = None) -> None:
        self._server.put("ipaddresspools", {"namespace": SYSTEM, "name": name, "labels": labels or {}}, spec=spec)

    def _add_pool(self) -> None:
        taken = {pool["metadata"]["name"] for pool in self._server.all("ipaddresspools")}
        names, blocks = [name for name in _POOLS if name not in taken], self._free_blocks()
        if not names or not blocks:
            return
        rng = self._rng
        chosen = rng.sample(blocks, min(len(blocks), rng.randint(1, 4)))
        spec: Document = {"addresses": chosen, **self._tuning()}
        self._put_pool(rng.choice(names), spec, {"layer": rng.choice(["front", "back"])})

    def _tuning(self) -> Document:
        rng = self._rng
        tuning: Document = {}
        if rng.random() < 0.2:
            tuning["autoAssign"] = False
        if rng.random() < 0.25:
            tuning["avoidBuggyIPs"] = True
        if rng.random() < 0.3:
            allocation: Document = {"priority": rng.randint(0, 3)}
            if rng.random() < 0.5:
                allocation["namespaces"] = [rng.choice(_NAMESPACES)]
            if rng.random() < 0.3:
                allocation["namespaceSelectors"] = [{"matchLabels": {"team": rng.choice("ab")}}]
            if rng.random() < 0.4:
                allocation["serviceSelectors"] = [{"matchLabels": {"tier": "gold"}}]
            tuning["serviceAllocation"] = allocation
        return tuning

    def _grow_pool(self) -> None:
        pool, blocks = self._sound_pool(), self._free_blocks()
        if pool is not None and blocks:
            addresses = [*pool["spec"]["addresses"], self._rng.choice(blocks)]
            self._put_pool_again(pool, addresses=addresses)

    def _shrink_pool(self) -> None:
        pool = self._sound_pool()
        if pool is not None and len(pool["spec"]["addresses"]) > 1:
            addresses = list(pool["spec"]["addresses"])
            addresses.pop(self._rng.randrange(len(addresses)))
            self._put_pool_again(pool, addresses=addresses)

    def _remove_pool(self) -> None:
        pool = self._sound_pool()
        if pool is not None:
            self._server.delete("ipaddresspools", name_of(pool))

    def _rename_pool(self) -> None:
        """Two writes; the new name may come before the old one goes, and then both overlap for a moment."""
        pool = self._sound_pool()
        taken = {each["metadata"]["name"] for each in self._server.all("ipaddresspools")}
        names = [name for name in _POOLS if name not in taken]
        if pool is None or not names:
            return
        new = self._rng.choice(names)
        if self._rng.random() < 0.5:
            self._server.delete("ipaddresspools", name_of(pool))
            self._put_pool(new, pool["spec"], pool["metadata"]["labels"])
        else:
            self._put_pool(new, pool["spec"], pool["metadata"]["labels"])
            self._server.delete("ipaddresspools", name_of(pool))

    def _split_pool(self) -> None:
        pool = self._sound_pool()
        taken = {each["metadata"]["name"] for each in self._server.all("ipaddresspools")}
        names = [name for name in _POOLS if name not in taken]
        if pool is None or not names or len(pool["spec"]["addresses"]) < 2:
            return
        addresses = list(pool["spec"]["addresses"])
        moved = addresses.pop(self._rng.randrange(len(addresses)))
        self._put_pool_again(pool, addresses=addresses)
        self._put_pool(self._rng.choice(names), {**pool["spec"], "addresses": [moved]}, pool["metadata"]["labels"])

    def _retune_pool(self) -> None:
        pool = self._sound_pool()
        if pool is not None:
            spec = {"addresses": pool["spec"]["addresses"], **self._tuning()}
            self._server.put("ipaddresspools", _identity(pool), spec=spec)

    def _put_pool_again(self, pool: Document, **changes: Any) -> None:
        self._server.put("ipaddresspools", _identity(pool), spec={**pool["spec"], **changes})

    def _sound_pool(self) -> Document | None:
        sound = [pool for pool in self._server.all("ipaddresspools") if not self._is_broken("ipaddresspools", pool)]
        return self._rng.choice(sound) if sound else None

    def _is_broken(self, resource: str, document: Document) -> bool:
        return (resource, name_of(document)) in self._broken

    def _break_config(self) -> None:
        pool = self._sound_pool()
        if pool is None or self._broken:
            return
        spec: Document = pool["spec"]
        used = [text for each in self._server.all("ipaddresspools") for text in each["spec"]["addresses"]]
        broken = self._rng.choice(
            [
                {**spec, "addresses": [*spec["addresses"], "10.0.0.1000/24"]},
                {**spec, "addresses": [*spec["addresses"], self._rng.choice(used)]},
                {**spec, "addresses": []},
                {**spec, "autoAsign": False},
                {**spec, "autoAssign": "yes"},
            ]
        )
        self._broken["ipaddresspools", name_of(pool)] = pool
        self._server.put("ipaddresspools", _identity(pool), spec=broken)

    # Advertisements, nodes, namespaces

    def _put_advert(self, name: str, spec: Document) -> None:
        self._server.put("l2advertisements", {"namespace": SYSTEM, "name": name}, spec=spec)

    def _change_advert(self) -> None:
        rng = self._rng
        if rng.random() < 0.3:
            advert = self._any("l2advertisements")
            if advert is not None:
                self._server.delete("l2advertisements", name_of(advert))
            return
        spec: Document = {}
        if rng.random() < 0.3:
            spec["ipAddressPools"] = rng.sample([*_POOLS, "nowhere"], 2)
        if rng.random() < 0.2:
            spec["ipAddressPoolSelectors"] = [{"matchLabels": {"layer": rng.choice(["front", "back"])}}]
        if rng.random() < 0.3:
            zones = rng.sample("abc", 2)
            spec["nodeSelectors"] = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": zones}]}]
        if rng.random() < 0.15:
            spec["serviceSelectors"] = [{"matchLabels": {"tier": "gold"}}]
        if rng.random() < 0.15:
            spec["interfaces"] = [rng.choice(["eth0", "eth0", "eth9"])]
        if rng.random() < 0.3:
            spec["preferredNodeSelectors"] = [
                {"weight": rng.randint(1, 100), "preference": {"matchLabels": {"zone": rng.choice("abc")}}}
            ]
        self._put_advert(rng.choice(["everything", "second", "third"]), spec)

    def _put_node(self, name: str) -> None:
        rng = self._rng
        labels = {"kubernetes.io/hostname": name, "zone": rng.choice("abc")}
        if rng.random() < 0.12:
            labels[_EXCLUDED] = rng.choice(["", "true"])
        conditions = [{"type": "NetworkUnavailable", "status": "True" if rng.random() < 0.08 else "False"}]
        self._server.put("nodes", {"name": name, "labels": labels}, status={"conditions": conditions})

    def _label_node(self) -> None:
        self._put_node(self._rng.choice(self._nodes))

    def _recreate_node(self) -> None:
        name = self._rng.choice(self._nodes)
        if self._server.get("nodes", name) is not None and len(self._server.names("nodes")) > 1:
            self._server.delete("nodes", name)
        else:
            self._put_node(name)

    def _put_namespace(self, name: str) -> None:
        labels = {"kubernetes.io/metadata.name": name}
        if self._rng.random() < 0.7:
            labels["team"] = self._rng.choice("ab")
        self._server.put("namespaces", {"name": name, "labels": labels})

    def _label_namespace(self) -> None:
        self._put_namespace(self._rng.choice(_NAMESPACES))

    def _any(self, resource: str) -> Document | None:
        found = list(self._server.all(resource))
        return self._rng.choice(found) if found else None


def _identity(document: Document) -> Document:
    """What names an object, and its labels and annotations."""
    return {key: value for key, value in document["metadata"].items() if key in ("namespace", "name", "labels")}


def _wishes_of(service: Document) -> Document:
    metadata = service["metadata"]
    annotations = {key: text for key, text in metadata.get("annotations", {}).items() if not key.endswith("from-pool")}
    return {"labels": metadata.get("labels", {}), "annotations": annotations}
