"""What a Service asks for: which text counts, which families are wanted, and refusals that say what to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.addresses import Address, Family
from lbcore.model import IPFamilyPolicy, Port, Service, ServiceKey, TrafficPolicy
from lbcore.requests import PREFIX, PREFIX_OLD, Request, annotation, read_request
from lbcore.sharing import Sharing, sharing_of
from lbcore.verdicts import Reason, Refusal
from strategies import services

V4, V6 = Family.IPV4, Family.IPV6
KEY = ServiceKey("red", "web")
PREFER, REQUIRE, SINGLE = (
    IPFamilyPolicy.PREFER_DUAL_STACK,
    IPFamilyPolicy.REQUIRE_DUAL_STACK,
    IPFamilyPolicy.SINGLE_STACK,
)


def service(**fields: object) -> Service:
    return Service(**{"key": KEY, "cluster_ips": ("10.96.0.1",), **fields})  # type: ignore[arg-type]


def accepted(**fields: object) -> Request:
    request = read_request(service(**fields))
    assert isinstance(request, Request), request
    return request


def refused(**fields: object) -> Refusal:
    refusal = read_request(service(**fields))
    assert isinstance(refusal, Refusal), refusal
    return refusal


texts = st.sampled_from(["", "a", "b"]) | st.none()


@given(texts, texts, st.sampled_from(["address-pool", "loadBalancerIPs", "allow-shared-ip"]))
def test_the_new_prefix_wins_wherever_it_is_there_even_empty(new: str | None, old: str | None, name: str) -> None:
    given_ = {PREFIX + name: new, PREFIX_OLD + name: old}
    found = annotation(service(annotations={key: value for key, value in given_.items() if value is not None}), name)
    assert (new if new is not None else old) == found


def test_the_prefixes_are_those_that_manifests_carry() -> None:
    assert ("metallb.io/", "metallb.universe.tf/") == (PREFIX, PREFIX_OLD)


def test_an_empty_new_annotation_silences_the_old_one() -> None:
    for name in ("loadBalancerIPs", "address-pool", "allow-shared-ip"):
        request = accepted(annotations={PREFIX + name: "", PREFIX_OLD + name: "10.0.0.1"})
        assert ((), None, None) == (request.addresses, request.pool, request.sharing)
    assert "old" == accepted(annotations={PREFIX_OLD + "address-pool": "old"}).pool


@pytest.mark.parametrize(
    ("cluster_ips", "ip_families", "policy", "families", "all_families"),
    [
        (("fd00::1",), (), SINGLE, (V6,), True),
        (("10.96.0.1",), (), SINGLE, (V4,), True),
        (("fd00::1", "10.96.0.1"), (), REQUIRE, (V6, V4), True),
        (("10.96.0.1", "fd00::1"), (), PREFER, (V4, V6), False),
        (("fd00::1",), (), PREFER, (V6,), False),  # the cluster has one family: one is all there is to prefer
        (("fd00::1",), (V4,), SINGLE, (V6,), True),  # clusterIPs are what the API server made of ipFamilies
        ((), (), SINGLE, (V4,), True),
        ((), (V6,), SINGLE, (V6,), True),
        ((), (V6,), PREFER, (V6, V4), False),
        ((), (V4,), REQUIRE, (V4, V6), True),
        ((), (), REQUIRE, (V4, V6), True),
        ((), (V6, V4), REQUIRE, (V6, V4), True),
        ((), (V6, V6), SINGLE, (V6,), True),
    ],
)
def test_families_wanted(
    cluster_ips: tuple[str, ...],
    ip_families: tuple[Family, ...],
    policy: IPFamilyPolicy,
    families: tuple[Family, ...],
    all_families: bool,
) -> None:
    request = accepted(cluster_ips=cluster_ips, ip_families=ip_families, ip_family_policy=policy)
    assert (families, all_families) == (request.families, request.all_families)


@pytest.mark.parametrize(
    ("fields", "reason", "cure"),
    [
        ({"cluster_ips": ("None",)}, Reason.NO_CLUSTER_IP, "remove spec.clusterIP"),
        ({"cluster_ips": ("x",)}, Reason.BAD_REQUEST, "write 192.0.2.1"),
        ({"cluster_ips": ("fd00::1", "fd00::2")}, Reason.BAD_REQUEST, "give one of each"),
        ({"cluster_ips": ("fd00::1", "10.0.0.1", "10.0.0.2")}, Reason.BAD_REQUEST, "give one of each"),
        ({"cluster_ips": ("fd00::1",), "ip_family_policy": REQUIRE}, Reason.NOT_DUAL_STACK, "set PreferDualStack"),
        (
            {"load_balancer_ip": "10.0.0.1", "annotations": {PREFIX + "loadBalancerIPs": "10.0.0.1"}},
            Reason.CONFLICTING_REQUEST,
            "keep one of them",
        ),
        ({"load_balancer_ip": "ten"}, Reason.BAD_REQUEST, "write 192.0.2.1"),
        ({"load_balancer_ip": "::ffff:10.0.0.1"}, Reason.BAD_REQUEST, "write 10.0.0.1"),
        ({"annotations": {PREFIX + "loadBalancerIPs": "10.0.0.1,"}}, Reason.BAD_REQUEST, "write 192.0.2.1"),
        ({"annotations": {PREFIX + "loadBalancerIPs": " "}}, Reason.BAD_REQUEST, "write 192.0.2.1"),
        ({"annotations": {PREFIX + "loadBalancerIPs": "10.0.0.1,10.0.0.2"}}, Reason.BAD_REQUEST, "ask for one"),
        ({"annotations": {PREFIX + "loadBalancerIPs": "10.0.0.1,10.0.0.1"}}, Reason.BAD_REQUEST, "ask for one"),
        ({"load_balancer_ip": "2001:db8::1"}, Reason.FAMILY_MISMATCH, "ask for an IPv4 address, or set ipFamilies"),
        (
            {"annotations": {PREFIX + "loadBalancerIPs": "10.0.0.1,2001:db8::1"}},
            Reason.FAMILY_MISMATCH,
            "ask for an IPv4 address",
        ),
        (
            {"cluster_ips": ("10.0.0.9", "fd00::1"), "ip_family_policy": PREFER, "load_balancer_ip": "10.0.0.1"},
            Reason.FAMILY_MISMATCH,
            "ask for one address of each family, or set ipFamilyPolicy: SingleStack",
        ),
    ],
)
def test_a_refusal_says_why_and_what_to_do(fields: dict[str, object], reason: Reason, cure: str) -> None:
    refusal = refused(**fields)
    assert (KEY, reason) == (refusal.key, refusal.reason)
    assert cure in refusal.detail
    assert str(refusal).startswith(f"{reason.value}: ")


def test_addresses_asked_for_are_sorted_whatever_their_order_and_spaces() -> None:
    dual = {"cluster_ips": ("fd00::1", "10.96.0.1"), "ip_family_policy": REQUIRE}
    for text in (" 2001:db8::1 , 10.0.0.1 ", "10.0.0.1,2001:db8:0::1"):
        request = accepted(**dual, annotations={PREFIX + "loadBalancerIPs": text})
        assert (Address.parse("10.0.0.1"), Address.parse("2001:db8::1")) == request.addresses
    assert (Address.parse("2001:db8::1"),) == accepted(
        cluster_ips=("fd00::1",), load_balancer_ip="2001:db8::1"
    ).addresses


def test_the_old_annotation_asks_too_and_conflicts_too() -> None:
    assert (Address.parse("10.0.0.1"),) == accepted(annotations={PREFIX_OLD + "loadBalancerIPs": "10.0.0.1"}).addresses
    both = refused(load_balancer_ip="10.0.0.1", annotations={PREFIX_OLD + "loadBalancerIPs": "10.0.0.1"})
    assert Reason.CONFLICTING_REQUEST is both.reason


def test_an_empty_annotation_leaves_the_field_to_ask() -> None:
    request = accepted(load_balancer_ip="10.0.0.1", annotations={PREFIX + "loadBalancerIPs": ""})
    assert (Address.parse("10.0.0.1"),) == request.addresses


def test_ports_are_distinct_and_sorted_and_labels_come_along() -> None:
    http, dns = Port("TCP", 80), Port("UDP", 53)
    request = accepted(ports=(dns, http, dns), labels={"tier": "gold"})
    assert ((http, dns), {"tier": "gold"}) == (request.ports, dict(request.labels))


def test_local_sharers_are_kept_apart_by_what_they_select_and_cluster_sharers_are_not() -> None:
    select = {"b": "2", "a": "1"}
    local, cluster = TrafficPolicy.LOCAL, TrafficPolicy.CLUSTER
    assert Sharing("k", "a=1,b=2") == sharing_of(service(external_traffic_policy=local, selector=select), "k")
    assert Sharing("k", "") == sharing_of(service(external_traffic_policy=cluster, selector=select), "k")
    # A Local Service without a selector mixes with Cluster ones, as in MetalLB.
    assert Sharing("k") == sharing_of(service(external_traffic_policy=local), "k")
    assert sharing_of(service(), "") is None
    assert Sharing("k") == accepted(annotations={PREFIX + "allow-shared-ip": "k"}).sharing


@given(services())
def test_a_request_is_sound_in_itself(one: Service) -> None:
    request = read_request(one)
    assert isinstance(request, Request)
    assert one.key == request.key
    assert len(set(request.families)) == len(request.families) >= 1
    assert (one.ip_family_policy is not PREFER) == request.all_families
    assert list(request.ports) == sorted(set(one.ports))


@given(services(), st.text(max_size=12), st.sampled_from(["loadBalancerIPs", "field", "clusterIPs"]))
def test_garbage_is_a_refusal_and_never_an_exception(one: Service, text: str, where: str) -> None:
    fields: dict[str, dict[str, object]] = {
        "loadBalancerIPs": {"annotations": {PREFIX + "loadBalancerIPs": text}},
        "field": {"load_balancer_ip": text},
        "clusterIPs": {"cluster_ips": (text,)},
    }
    asked = {"ip_family_policy": one.ip_family_policy, "ip_families": one.ip_families, **fields[where]}
    answer = read_request(service(**asked))
    assert isinstance(answer, Request | Refusal)
    assert isinstance(answer, Request) or answer.detail


@pytest.mark.parametrize("prefix", [PREFIX, PREFIX_OLD])
def test_the_annotation_that_is_to_blame_is_named_by_the_prefix_it_has(prefix: str) -> None:
    answer = refused(annotations={f"{prefix}loadBalancerIPs": "nonsense"})
    assert f"metadata.annotations['{prefix}loadBalancerIPs']" == answer.path


def test_two_refusals_that_differ_in_the_field_to_blame_only_are_one() -> None:
    """A status is not written anew because the wish moved from the field to the annotation."""
    one = Refusal(key=KEY, reason=Reason.BAD_REQUEST, detail="is no address", path="spec.loadBalancerIP")
    assert one == Refusal(key=KEY, reason=Reason.BAD_REQUEST, detail="is no address")
