"""May an object become something else? Not if that adds a mistake; mending one, step by step, is always allowed."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from lbcore.addresses import Address
from lbcore.admission import Judgement, judge
from lbcore.bgp import BFDProfile, BGPAdvertisement, BGPPeer, CommunityAlias, parse_community
from lbcore.config import Config, ConfigDocument, InvalidConfig, L2Advertisement, Origin, Pool, Resource, build

KINDS = {Pool: "IPAddressPool", CommunityAlias: "Community"}
TEXTS = ["2001:db8::/125", "2001:db8::/126", "2001:db8::8-2001:db8::9", "192.0.2.0/30", "192.0.2.2/31", "ff02::/120"]


def document(resource: Resource, *, problem: str = "") -> ConfigDocument:
    kind = KINDS.get(type(resource), type(resource).__name__)
    origin = Origin(kind=kind, namespace="metallb-system", name=resource.name)
    if problem:
        return ConfigDocument(origin=origin, problems=(origin.problem("spec", problem),))
    return ConfigDocument(origin=origin, resources=(resource,))


def peer(name: str, profile: str = "", address: str = "2001:db8::1") -> BGPPeer:
    return BGPPeer(name=name, my_asn=64500, peer_asn=64501, address=Address.parse(address), bfd_profile=profile)


def alias(name: str) -> CommunityAlias:
    return CommunityAlias(name=name, community=parse_community("65000:1"))


def advert(name: str, community: str) -> BGPAdvertisement:
    return BGPAdvertisement(name=name, community_texts=(community,))


NAMES = st.sampled_from(["a", "b", "c"])
WISHES: st.SearchStrategy[Resource] = st.one_of(
    st.builds(lambda name, texts: Pool.parse(name, *texts), NAMES, st.lists(st.sampled_from(TEXTS), min_size=1)),
    st.builds(L2Advertisement, name=NAMES),
    st.builds(BFDProfile, name=NAMES),
    st.builds(alias, NAMES),
    st.builds(peer, NAMES, st.sampled_from(["", "a", "b"]), st.sampled_from(["2001:db8::1", "192.0.2.1"])),
    st.builds(advert, NAMES, st.sampled_from(["a", "65000:7", "7:70000"])),
)
DOCUMENTS = st.builds(lambda wish, problem: document(wish, problem=problem), WISHES, st.sampled_from(["", "", "", "x"]))
PRESENT = st.lists(DOCUMENTS, max_size=6).map(lambda found: {each.origin: each for each in found})


def changed(to: Resource, *present: Resource) -> Judgement:
    become = document(to)
    return judge({each.origin: each for each in map(document, present)}, become.origin, become)


def deleted(which: Resource, *present: Resource) -> Judgement:
    return judge({each.origin: each for each in map(document, present)}, document(which).origin, None)


@given(PRESENT, DOCUMENTS)
def test_what_is_sound_stays_sound_but_for_names_that_may_come_yet(
    present: dict[Origin, ConfigDocument], become: ConfigDocument
) -> None:
    judgement = judge(present, become.origin, become)
    after = build({**present, become.origin: become}.values())
    if isinstance(after, Config):
        assert Judgement() == judgement
    elif isinstance(build(present.values()), Config):
        own = {each for each in after.dangling if each.object == str(become.origin)}
        assert (set(after.problems) - own, own) == (set(judgement.refused), set(judgement.remarks))


@given(PRESENT)
def test_what_stands_may_be_applied_again_and_whatever_defines_no_name_may_go(
    present: dict[Origin, ConfigDocument],
) -> None:
    for origin, each in present.items():
        assert () == judge(present, origin, each).refused
        if origin.kind not in ("BFDProfile", "Community") or each.problems:
            assert () == judge(present, origin, None).refused


@given(PRESENT)
def test_a_refusal_or_a_remark_says_where_and_what(present: dict[Origin, ConfigDocument]) -> None:
    for origin, each in present.items():
        judgement = judge({other: one for other, one in present.items() if other != origin}, origin, each)
        assert all(problem.object and problem.message for problem in (*judgement.refused, *judgement.remarks))


def test_a_pool_that_overlaps_another_is_refused_and_told_which() -> None:
    (problem,) = changed(Pool.parse("more", "2001:db8::8/125"), Pool.parse("six", "2001:db8::/64")).refused
    assert "IPAddressPool metallb-system/more" == problem.object
    assert "overlaps 2001:db8::/64 of pool 'six'" in problem.message


def test_an_edit_is_judged_instead_of_what_was_there() -> None:
    assert Judgement() == changed(Pool.parse("six", "2001:db8::/65"), Pool.parse("six", "2001:db8::/64"))


def test_a_name_that_comes_later_is_a_remark_and_one_in_use_may_not_go() -> None:
    quick = BFDProfile(name="quick")
    judgement = changed(peer("spine", "quick"))
    assert ((), ["spec.bfdProfile"]) == (judgement.refused, [each.field for each in judgement.remarks])
    (problem,) = deleted(quick, quick, peer("spine", "quick")).refused
    assert "BGPPeer metallb-system/spine" == problem.object
    (problem,) = deleted(alias("k"), alias("k"), advert("out", "k")).refused
    assert ("BGPAdvertisement metallb-system/out", "spec.communities[0]") == (problem.object, problem.field)
    assert Judgement() == deleted(peer("spine", "quick"), quick, peer("spine", "quick"))


def test_a_community_that_no_name_could_mend_is_refused() -> None:
    assert ["spec.communities[0]"] == [each.field for each in changed(advert("out", "7:70000")).refused]


def test_a_broken_configuration_can_be_mended_step_by_step() -> None:
    one, two = Pool.parse("one", "2001:db8::/64"), Pool.parse("two", "2001:db8::/64")
    three, other = Pool.parse("three", "2001:db8::/65"), Pool.parse("other", "192.0.2.0/24")
    assert () == changed(other, one, two, three).refused
    assert () == deleted(two, one, two, three).refused
    assert Judgement() == changed(Pool.parse("two", "2001:db8:2::/64"), one, two)
    assert ["spec.addresses[0]"] == [
        each.field for each in changed(Pool.parse("four", "192.0.2.0/25"), one, two, other).refused
    ]
    remarks = changed(other, one, two).remarks
    assert ["IPAddressPool metallb-system/two"] == [each.object for each in remarks], "what holds it back is told"


@pytest.mark.parametrize("kind", [BFDProfile(name="quick"), alias("k")])
def test_what_could_not_be_read_may_be_mended_though_names_are_missed_then(kind: Resource) -> None:
    broken = document(kind, problem="no number")
    users = [document(peer("spine", "slow")), document(advert("out", "z"))]
    present = {each.origin: each for each in (broken, *users)}
    assert () == judge(present, broken.origin, document(kind)).refused
    assert () == judge(present, broken.origin, None).refused
    good = {**present, broken.origin: document(kind)}
    assert isinstance(build(good.values()), InvalidConfig)


def test_a_resource_of_an_old_config_map_counts_too() -> None:
    origin = Origin(kind="ConfigMap", namespace="metallb-system", name="config")
    old = ConfigDocument(origin=origin, resources=(evolve(Pool.parse("old", "2001:db8::/64"), path="data.config"),))
    new = document(Pool.parse("new", "2001:db8::/65"))
    assert "overlaps" in judge({origin: old}, new.origin, new).refused[0].message
