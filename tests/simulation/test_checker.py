"""The judge on histories of a few writes: what it lets pass, and what it does not for want of a small thing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lbcore.simulation.checker import Checker

Document = dict[str, Any]

A, B = "2001:db8::10", "2001:db8::11"
OTHER = "2001:db8:1::1"  # of another pool
CAUSE = "no address changes without a cause"
ONE = "one Service for an address and port"


class Fine:
    """Machines with which nothing is wrong; there are none."""

    unchanged_since = 0.0
    lossy_at = -1.0
    members: Iterable[str] = ()

    def healthy_since(self, node: str) -> float | None:
        del node
        return 0.0


class Scene:
    """A judge and what is written under its eyes: pool `gold` with two addresses of IPv6, and what a test adds."""

    def __init__(self) -> None:
        self.judge = Checker(lambda: 0.0, lambda frame: [], Fine(), "eth0")
        self.objects: dict[tuple[str, str], Document] = {}
        self.uids = 0
        self.pool("gold", "2001:db8::10/127")

    def _change(self, resource: str, name: str, after: Document | None, who: str) -> None:
        before = self.objects.pop((resource, name), None)
        if after is not None:
            self.objects[resource, name] = after
        self.judge.changed(resource, before, after, who)

    def pool(self, name: str, *ranges: str) -> None:
        """A user writes a pool."""
        metadata = {"namespace": "lb", "name": name}
        self._change("ipaddresspools", f"lb/{name}", {"metadata": metadata, "spec": {"addresses": [*ranges]}}, "user")

    def service(self, name: str, key: str = "", *, port: int = 80, type_: str = "LoadBalancer", pool: str = "") -> None:
        """A user writes a Service: its sharing key, and the pool that it asks for."""
        before = self.objects.get(("services", f"red/{name}"))
        self.uids += before is None
        uid = before["metadata"]["uid"] if before is not None else f"uid-{self.uids}"
        wishes = {"metallb.io/allow-shared-ip": key, "metallb.io/address-pool": pool}
        metadata = {"namespace": "red", "name": name, "uid": uid, "annotations": wishes}
        spec = {"type": type_, "clusterIPs": ["fd00::1"], "ports": [{"port": port}]}
        status = before["status"] if before is not None else {}
        self._change("services", f"red/{name}", {"metadata": metadata, "spec": spec, "status": status}, "user")

    def gives(self, name: str, *addresses: str) -> None:
        """The controller writes a status."""
        before = self.objects["services", f"red/{name}"]
        status = {"loadBalancer": {"ingress": [{"ip": each} for each in addresses]}}
        self._change("services", f"red/{name}", {**before, "status": status}, "controller")

    def settle(self) -> None:
        """All is settled; what is wrong by then with the pretended rest is of no interest."""
        self.judge.settled()
        self.judge.violations.clear()

    @property
    def broken(self) -> list[str]:
        """The promises that were seen broken, without those about statuses that nobody writes here."""
        return [each.promise for each in self.judge.violations if each.promise in (CAUSE, ONE)]


def test_an_address_that_is_taken_away_for_nothing_is_seen() -> None:
    scene = Scene()
    scene.service("a")
    scene.gives("a", A)
    scene.settle()
    scene.gives("a", B)
    assert [CAUSE] == scene.broken


def test_what_was_given_after_its_range_had_moved_may_be_taken_away() -> None:
    scene = Scene()
    scene.service("a")
    scene.settle()
    scene.pool("gold", "2001:db8::11/128")
    scene.pool("silver", "2001:db8::10/128")
    scene.gives("a", A)  # decided before the controller heard of the move, of which it hears in two parts
    scene.gives("a", B)
    assert [] == scene.broken


def test_one_that_was_a_cluster_ip_for_a_moment_may_lose_its_address() -> None:
    scene = Scene()
    scene.service("a")
    scene.gives("a", A)
    scene.settle()
    scene.service("a", type_="ClusterIP")
    scene.service("a")
    scene.gives("a", B)
    assert [] == scene.broken


def test_one_that_was_a_cluster_ip_for_a_moment_may_lose_what_it_is_given_then() -> None:
    scene = Scene()
    scene.service("a")
    scene.settle()
    scene.service("a", type_="ClusterIP")
    scene.service("a")
    scene.gives("a", A)
    scene.gives("a", B)
    assert [] == scene.broken


def test_an_edit_is_no_leave_for_two_to_show_one_address() -> None:
    scene = Scene()
    scene.service("a", "key")
    scene.gives("a", A)
    scene.settle()
    scene.service("a", "key", port=443)
    scene.service("b", "another key")
    scene.gives("b", A)
    assert [ONE] == scene.broken


def test_two_exchange_their_addresses_only_by_letting_go_first() -> None:
    scene = Scene()
    for name, address in (("a", A), ("b", B)):
        scene.service(name)
        scene.gives(name, address)
    scene.settle()
    scene.pool("gold", "2001:db8::20/127")
    scene.pool("gold", "2001:db8::10/127")
    scene.gives("a", B)
    scene.gives("b", A)
    assert [ONE] == scene.broken
    scene.settle()
    scene.pool("gold", "2001:db8::20/127")
    scene.pool("gold", "2001:db8::10/127")
    scene.gives("a")
    scene.gives("b", B)
    scene.gives("a", A)
    assert [] == scene.broken


def test_two_that_were_ready_to_share_in_some_version_may_both_show_an_address() -> None:
    scene = Scene()
    scene.service("a", "key")
    scene.gives("a", A)
    scene.settle()
    scene.service("b", "key", port=443)
    scene.service("a", "another key")
    scene.gives("b", A)
    assert [] == scene.broken


def a_scene_of_parting(*, pool_of_b: str = "") -> Scene:
    """One shares no more and loses its address, perhaps because another had been given that by then."""
    scene = Scene()
    scene.pool("silver", "2001:db8:1::1/128")
    scene.service("a", "key")
    scene.gives("a", A)
    scene.settle()
    scene.service("b", "key", port=443, pool=pool_of_b)
    scene.service("a")
    scene.gives("a", B)
    return scene


def test_one_that_shares_no_more_may_lose_its_address_to_another_that_shared_it() -> None:
    scene = a_scene_of_parting()
    scene.gives("b", A)
    scene.judge.settled()
    assert [] == scene.broken


def test_one_that_shares_no_more_may_not_lose_its_address_when_nobody_is_given_it() -> None:
    scene = a_scene_of_parting()
    scene.gives("b", OTHER)
    scene.judge.settled()
    assert [CAUSE] == scene.broken


def test_one_that_shares_no_more_may_lose_its_address_to_another_that_changed_before_it_was_written() -> None:
    scene = a_scene_of_parting()
    scene.service("b", type_="ClusterIP")
    scene.judge.settled()
    assert [] == scene.broken


def test_one_that_shares_no_more_may_not_lose_its_address_for_one_that_can_never_have_had_it() -> None:
    assert [CAUSE] == a_scene_of_parting(pool_of_b="silver").broken
