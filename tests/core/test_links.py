"""Which interfaces are answered on: every reason to pass one over, alone and together."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.links import DEFAULT_EXCLUSIONS, Exclusions, refusal_of_link, usable_links
from lbcore.model import Link
from worlds import link

GOOD = link("eth0", 2)

names = st.sampled_from(
    ["eth0", "enp3s0", "bond0", "lo", "lo1", "veth1", "docker0", "my-docker", "cali4d", "lxc", "br0"]
)
links = st.builds(
    Link,
    index=st.integers(1, 9),
    name=names,
    mac=st.just(bytes(6)),
    up=st.booleans(),
    carrier=st.booleans(),
    broadcast=st.booleans(),
    arp=st.booleans(),
    loopback=st.booleans(),
    enslaved=st.booleans(),
    link_local=st.sampled_from([None, GOOD.link_local]),
)

PASSED_OVER = ("docker", "cbr", "dummy", "virbr", "lxcbr", "veth", "cali", "tunl", "flannel", "kube-ipvs", "cni", "lxc")


@given(links)
def test_a_link_is_usable_if_nothing_speaks_against_it(each: Link) -> None:
    excluded = each.name == "lo" or each.name.startswith((*PASSED_OVER, "nodelocaldns"))
    carries = (each.broadcast and each.arp) or each.link_local is not None
    alive = each.up and each.carrier and not each.loopback and not each.enslaved
    assert (alive and carries and not excluded) == (refusal_of_link(each, Exclusions()) is None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"link_local": None}, None),
        ({"arp": False}, None),
        ({"name": "veth12"}, "its name is excluded by ^veth.*"),
        ({"loopback": True}, "it is a loopback"),
        ({"enslaved": True}, "a bridge, bond or VRF owns it"),
        ({"up": False, "carrier": False}, "it is down"),
        ({"carrier": False}, "it has no carrier"),
        ({"link_local": None, "arp": False}, "it can carry neither ARP nor NDP"),
        ({"link_local": None, "broadcast": False}, "it can carry neither ARP nor NDP"),
    ],
)
def test_each_reason_is_named(change: dict[str, object], reason: str | None) -> None:
    changed = attrs.evolve(GOOD, **change)  # type: ignore[arg-type]
    assert reason == refusal_of_link(changed, Exclusions())


def test_exclusions_are_the_operators() -> None:
    chosen = Exclusions(("^eth", "9$"))
    assert ["^eth", "9$", None] == [chosen.matching(name) for name in ("eth0", "bond9", "docker0")]
    assert Exclusions().patterns == DEFAULT_EXCLUSIONS


@given(st.lists(links, max_size=5, unique_by=lambda each: each.index))
def test_usable_links_are_sorted_by_index(given_links: list[Link]) -> None:
    usable = usable_links(given_links, Exclusions())
    assert [each.index for each in usable] == sorted(
        each.index for each in given_links if refusal_of_link(each, Exclusions()) is None
    )


def test_links_are_in_the_order_of_the_kernel_and_not_of_their_names() -> None:
    second, first = link("eth0", 9), link("eth1", 3)
    assert (first, second) == usable_links([second, first], Exclusions())
