"""`plan`: states one after the other, through the brains of the daemons."""

from __future__ import annotations

from textwrap import dedent

import pytest
from attrs import evolve

from lbcore import Address, Reason, ServiceKey
from lbcore.adapters.kubernetes.documents import Ignored, Refused, read_text
from lbcore.daemons.planning import Change, Plan, PlannedService, RouteChange, World, plan
from lbcore.routes import Path

POOLS = """
    kind: IPAddressPool
    apiVersion: metallb.io/v1beta1
    metadata: {name: first, namespace: metallb-system}
    spec: {addresses: [%s]}
    ---
    kind: L2Advertisement
    apiVersion: metallb.io/v1beta1
    metadata: {name: l2, namespace: metallb-system}
"""
NODES = """
    ---
    {kind: Node, apiVersion: v1, metadata: {name: node1}}
    ---
    {kind: Node, apiVersion: v1, metadata: {name: node2}}
    ---
    {kind: Node, apiVersion: v1, metadata: {name: node3}}
"""


def service(name: str, spec: str = "", status: str = "", uid: str = "") -> str:
    ends = f"""
    ---
    kind: EndpointSlice
    apiVersion: discovery.k8s.io/v1
    metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
    addressType: IPv4
    endpoints: [{{addresses: [10.1.1.1], nodeName: node1}}]
    """
    held = f"status: {{loadBalancer: {{ingress: [{{ip: '{status}'}}]}}}}" if status else ""
    return f"""
    ---
    kind: Service
    apiVersion: v1
    metadata: {{name: {name}, uid: '{uid}'}}
    spec: {{type: LoadBalancer, ports: [{{port: 80}}]{"," if spec else ""} {spec}}}
    {held}
    {ends}"""


def world(*texts: str) -> World:
    text = "\n---\n".join(dedent(each) for each in texts)
    entries = [entry for entry in read_text(text, "state.yaml") if not isinstance(entry, Ignored)]
    return World.of(entry.event if isinstance(entry, Refused) else entry for entry in entries)


def only(found: Plan, name: str) -> PlannedService:
    (each,) = (each for each in found.services if each.key == ServiceKey("default", name))
    return each


V4, V6 = "192.168.1.240-192.168.1.250", "2001:db8::/126"


@pytest.mark.parametrize(
    ("addresses", "spec", "given"),
    [(V4, "", "192.168.1.240"), (V6, "ipFamilies: [IPv6]", "2001:db8::")],
)
def test_a_new_service_gains_an_address_and_the_elected_node_announces_it(
    addresses: str, spec: str, given: str
) -> None:
    found = only(plan([world(POOLS % addresses, NODES, service("web", spec))]), "web")

    assert Change.GAIN == found.change
    assert (Address.parse(given),) == found.addresses
    assert 1 == len(found.l2[Address.parse(given)])


def test_the_announcer_is_the_one_of_the_published_vector() -> None:
    found = only(plan([world(POOLS % V4, NODES, service("web"))]), "web")

    assert {Address.parse("192.168.1.240"): ("node3",)} == found.l2


def test_a_dead_speaker_leaves_the_address_to_the_next() -> None:
    state = world(POOLS % V4, NODES, service("web"))

    assert {Address.parse("192.168.1.240"): ("node1",)} == only(plan([state], speakers=["node1", "node2"]), "web").l2


def test_what_the_status_says_counts_as_held() -> None:
    found = only(plan([world(POOLS % V4, NODES, service("web", status="192.168.1.245"))]), "web")

    assert (Change.KEEP, (Address.parse("192.168.1.245"),)) == (found.change, found.addresses)


def test_an_edit_that_takes_an_address_away_shows_who_loses_and_why() -> None:
    before = world(POOLS % V4, NODES, service("web", "loadBalancerIP: 192.168.1.250"), service("mail"))
    after = world(POOLS % "192.168.1.240/29", NODES, service("web", "loadBalancerIP: 192.168.1.250"), service("mail"))
    found = plan([before, after])

    assert not found.is_harmless
    assert (Change.LOSE, Reason.ADDRESS_NOT_IN_POOL) == (only(found, "web").change, only(found, "web").reason)
    assert Change.KEEP == only(found, "mail").change


def test_an_edit_that_renumbers_shows_where_from_and_where_to() -> None:
    found = only(plan([world(POOLS % V4, service("web")), world(POOLS % "192.168.1.244/30", service("web"))]), "web")

    assert Change.MOVE == found.change
    assert ("192.168.1.240", "192.168.1.244") == (str(found.before[0]), str(found.addresses[0]))


def test_a_rename_of_a_pool_moves_nobody() -> None:
    before = world(POOLS % V4, service("web"))
    found = only(plan([before, world((POOLS % V4).replace("first", "second"), service("web"))]), "web")

    assert (Change.KEEP, "second") == (found.change, found.pool)


def test_an_invalid_configuration_leaves_the_last_valid_one_in_force() -> None:
    broken = POOLS % "192.168.1.250-192.168.1.240"
    found = plan([world(POOLS % V4, service("web")), world(broken, service("web"), service("mail"))])

    assert (Change.KEEP, Change.GAIN) == (only(found, "web").change, only(found, "mail").change)
    assert ["spec.addresses[0]"] == [problem.field for problem in found.problems]


def test_an_invalid_configuration_leaves_the_announcers_of_the_last_valid_one() -> None:
    state = world(POOLS % V6, NODES, service("web", "ipFamilies: [IPv6]"))
    broken = world(POOLS % "2001:db8::9-2001:db8::1", NODES, service("web", "ipFamilies: [IPv6]"))

    assert {Address.parse("2001:db8::"): ("node2",)} == only(plan([state]), "web").l2
    assert only(plan([state]), "web").l2 == only(plan([state, broken]), "web").l2


def test_a_service_that_was_created_anew_does_not_take_its_address_from_one_that_waits() -> None:
    one = POOLS % "192.168.1.240/32"
    before = world(one, service("web", uid="1"), service("xmail", uid="2"))
    found = plan([before, world(one, service("web", uid="3"), service("xmail", uid="2"))])

    assert (Change.GAIN, "192.168.1.240") == (only(found, "xmail").change, str(only(found, "xmail").addresses[0]))
    assert (Change.LOSE, ()) == (only(found, "web").change, only(found, "web").addresses)


def test_one_that_was_created_anew_holds_what_its_own_status_says() -> None:
    before = world(POOLS % V4, service("web", uid="1"))
    found = only(plan([before, world(POOLS % V4, service("web", uid="2", status="192.168.1.245"))]), "web")

    assert (Change.MOVE, "192.168.1.245") == (found.change, str(found.addresses[0]))


@pytest.mark.parametrize(("keep_for", "change"), [("30s", Change.KEEP), ("200s", Change.WAIT)])
def test_what_is_kept_is_let_go_when_its_time_has_come(keep_for: str, change: Change) -> None:
    # A minute passes between two states.
    name = "metadata: {name: first, namespace: metallb-system"
    kept = (POOLS % "192.168.1.240/32").replace(name, f"{name}, annotations: {{lbcore.io/keep-for: {keep_for}}}")
    both, one = service("web", uid="1"), service("xmail", uid="2")
    found = plan([world(kept, both, one), world(kept, one), world(kept, one)])

    assert change == only(found, "xmail").change


def test_without_any_valid_configuration_everybody_waits() -> None:
    found = plan([world(POOLS % "nonsense", service("web"))])

    assert (Change.WAIT, Reason.NOT_READY) == (only(found, "web").change, only(found, "web").reason)


def test_an_absent_service_was_deleted_and_its_address_goes_to_the_one_that_waits() -> None:
    one = POOLS % "192.168.1.240/32"
    full = world(one, service("web", uid="1"), service("xmail", uid="2"))
    found = plan([full, world(one, service("xmail", uid="2"))])

    assert Change.WAIT == only(plan([full]), "xmail").change
    assert ["xmail"] == [each.key.name for each in found.services]
    assert (Change.GAIN, "192.168.1.240") == (only(found, "xmail").change, str(only(found, "xmail").addresses[0]))


def test_a_service_that_cannot_be_read_keeps_its_last_good_form() -> None:
    broken = service("web").replace("port: 80", "port: many")
    found = plan([world(POOLS % V4, service("web")), world(POOLS % V4, broken)])

    assert Change.KEEP == only(found, "web").change
    assert ["spec.ports[0].port"] == [problem.field for problem in found.problems]


def test_planning_a_state_after_itself_changes_nothing() -> None:
    state = world(POOLS % f"{V4}, {V6}", NODES, service("web"), service("both", "ipFamilyPolicy: RequireDualStack"))
    once, twice = plan([state]), plan([state, state])

    assert {Change.KEEP} == {each.change for each in twice.services}
    assert [each.addresses for each in once.services] == [each.addresses for each in twice.services]


def test_an_address_is_announced_over_bgp_by_every_node_that_has_a_session() -> None:
    bgp = """
    kind: BGPPeer
    apiVersion: metallb.io/v1beta2
    metadata: {name: router, namespace: metallb-system}
    spec: {myASN: 64512, peerASN: 64513, peerAddress: 192.168.1.1}
    ---
    kind: BGPAdvertisement
    apiVersion: metallb.io/v1beta1
    metadata: {name: all, namespace: metallb-system}
    """
    found = only(plan([world(POOLS % V4, bgp, NODES, service("web"))], speakers=["node1", "node3"]), "web")

    assert {Address.parse("192.168.1.240"): ("node1", "node3")} == found.bgp
    assert {Address.parse("192.168.1.240"): ("node3",)} == found.l2


def bgp_world(advert: str, *services: str, nodes: str = "") -> World:
    """Two pools of addresses, a router for each family, one BGPAdvertisement and perhaps another."""
    routers = "".join(
        f"""
    ---
    kind: BGPPeer
    apiVersion: metallb.io/v1beta2
    metadata: {{name: {name}, namespace: metallb-system}}
    spec: {{myASN: 64513, peerASN: 64512, peerAddress: "{address}"}}
"""
        for name, address in (("tor4", "192.168.1.1"), ("tor6", "2001:db8:f::1"))
    )
    adverts = "".join(
        f"""
    ---
    kind: BGPAdvertisement
    apiVersion: metallb.io/v1beta1
    metadata: {{name: a{number}, namespace: metallb-system}}
    spec: {spec}
"""
        for number, spec in enumerate(advert.split("|"))
    )
    return world(POOLS % f"{V4}, {V6}", routers, adverts, nodes or NODES, *services)


def changes(found: Plan) -> set[tuple[str, str, str, str, str, str]]:
    """What becomes of each route that does not stay: prefix, router, node, change, communities before and after."""
    return {
        (str(each.prefix), each.peer, each.node, each.change.value, communities(each.before), communities(each.after))
        for each in found.routes
        if each.change is not RouteChange.STAY
    }


def communities(path: Path | None) -> str:
    return "-" if path is None else " ".join(map(str, path.communities))


MAIL = service("mail", "ipFamilies: [IPv6], loadBalancerIP: '2001:db8::1'")


def test_a_plan_says_which_route_comes_changes_or_goes_at_which_router_from_which_node() -> None:
    one, two = bgp_world("{}", service("web")), bgp_world('{communities: ["64513:7"]}', MAIL, service("web"))
    (four, six), nodes = ("192.168.1.240/32", "2001:db8::1/128"), ("node1", "node2", "node3")
    assert {(four, "tor4", node, "appear", "-", "") for node in nodes} == changes(plan([one]))
    expected = {(four, "tor4", node, "change", "", "64513:7") for node in nodes}
    expected |= {(six, "tor6", node, "appear", "-", "64513:7") for node in nodes}
    assert expected == changes(plan([one, two]))
    # Back, and a node has no speaker any more; what came before the state before does not count.
    back = plan([one, two, one], speakers=["node1"])
    assert {
        (four, "tor4", "node1", "change", "64513:7", ""),
        (six, "tor6", "node1", "vanish", "64513:7", "-"),
    } == changes(back)
    assert set() == changes(plan([one, one]))
    assert 3 == len(plan([one, one]).routes)


def test_a_plan_joins_what_is_given_of_one_prefix_and_follows_a_drain() -> None:
    wide = '{aggregationLengthV6: 127, communities: ["64513:1"]}|{aggregationLengthV6: 127, communities: ["64513:2"]}'
    now = bgp_world(wide, MAIL, service("news", "ipFamilies: [IPv6], loadBalancerIP: '2001:db8::0'"))
    assert {
        ("2001:db8::/127", "tor6", node, "appear", "-", "64513:1 64513:2") for node in ("node1", "node2", "node3")
    } == changes(plan([now]))
    # One of two Services goes: the route of both stays.
    assert set() == changes(plan([now, bgp_world(wide, MAIL)]))
    drained = evolve(now, drained=frozenset({"node2"}))
    assert {("2001:db8::/127", "tor6", "node2", "vanish", "64513:1 64513:2", "-")} == changes(plan([now, drained]))
