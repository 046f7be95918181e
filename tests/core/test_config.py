"""Documents joined into one configuration: in any order the same, wrong as a whole or sound as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.addresses import Address, AddressRange, Family
from lbcore.config import (
    Config,
    ConfigDocument,
    Configuration,
    InvalidConfig,
    L2Advertisement,
    Origin,
    Pool,
    Resource,
    build,
)
from lbcore.model import LabelSelector
from strategies import ranges

NAMES = ["a", "b", "c"]
BASES = {4: 0x0A0000F0, 6: 0x20010DB8 << 96 | 0xF0}
short_ranges = st.builds(
    lambda version, first, size: AddressRange(version, BASES[version] + first, BASES[version] + first + size),
    st.sampled_from([4, 6]),
    st.integers(0, 40),
    st.integers(0, 5),
)


def document(name: str, *resources: Resource, source: str = "", problem: str = "") -> ConfigDocument:
    origin = Origin(kind="IPAddressPool", namespace="metallb-system", name=name, source=source)
    problems = (origin.problem("spec.addresses[0]", problem),) if problem else ()
    return ConfigDocument(origin=origin, resources=resources, problems=problems)


@st.composite
def documents(draw: st.DrawFn) -> list[ConfigDocument]:
    """A few documents with pools and advertisements whose names and ranges often collide."""
    found = []
    for number in range(draw(st.integers(0, 4))):
        pools = [
            Pool(name=name, ranges=tuple(draw(st.lists(short_ranges, min_size=1, max_size=3))))
            for name in draw(st.lists(st.sampled_from(NAMES), max_size=2))
        ]
        adverts = [L2Advertisement(name=name) for name in draw(st.lists(st.sampled_from(NAMES), max_size=1))]
        name = draw(st.sampled_from([f"document-{number}", "same"]))
        found.append(document(name, *pools, *adverts, source=f"file-{number}.yaml"))
    return found


def pools_of(given_documents: Sequence[ConfigDocument]) -> list[Pool]:
    return [each for one in given_documents for each in one.resources if isinstance(each, Pool)]


def addresses_of(within: AddressRange) -> set[tuple[int, int]]:
    return {(within.version, value) for value in range(within.first, within.last + 1)}


@given(documents())
def test_a_configuration_is_sound_iff_no_name_and_no_address_is_there_twice(found: list[ConfigDocument]) -> None:
    pools = pools_of(found)
    adverts = [each for one in found for each in one.resources if isinstance(each, L2Advertisement)]
    everything = [address for pool in pools for each in pool.ranges for address in addresses_of(each)]
    names, advert_names = [pool.name for pool in pools], [advert.name for advert in adverts]
    sound = all(len(listed) == len(set(listed)) for listed in (everything, names, advert_names))
    built = build(found)
    if not sound:
        assert isinstance(built, InvalidConfig)
        assert all(problem.message and problem.field for problem in built.problems)
        return
    assert isinstance(built, Config)
    assert sorted(names) == [pool.name for pool in built.pools]
    assert sorted(advert_names) == [advert.name for advert in built.l2_advertisements]
    assert {pool.name: pool for pool in pools} == {pool.name: pool for pool in built.pools}


@given(documents(), st.data())
def test_the_order_of_documents_does_not_matter(found: list[ConfigDocument], data: st.DataObject) -> None:
    assert build(found) == build(data.draw(st.permutations(found)))


@given(st.lists(ranges(max_size=300), min_size=1, max_size=6))
def test_every_range_that_overlaps_an_earlier_one_is_named_once(some: list[AddressRange]) -> None:
    built = build([document("one", Pool(name="a", ranges=tuple(some)))])
    ordered = sorted(some)
    late = [each for number, each in enumerate(ordered) if any(each.overlaps(other) for other in ordered[:number])]
    told = built.problems if isinstance(built, InvalidConfig) else ()
    problems = [problem for problem in told if " overlaps " in problem.message]  # others: loopback and the like
    assert len(late) == len(problems)
    assert sorted(str(each) for each in late) == sorted(problem.message.split(" overlaps ")[0] for problem in problems)
    for problem in problems:
        index = int(problem.field.removeprefix("spec.addresses[").removesuffix("]"))
        assert problem.message.startswith(f"{some[index]} overlaps ")


def test_an_overlap_names_both_ranges_and_both_pools() -> None:
    wide = document("wide", Pool.parse("wide", "2001:db8::/64", "10.0.0.0/8"), source="wide.yaml")
    narrow = document("narrow", Pool.parse("narrow", "192.0.2.0/24", "10.1.0.0-10.1.0.9"), source="narrow.yaml")
    built = build([narrow, wide])
    assert isinstance(built, InvalidConfig)
    (problem,) = built.problems
    assert ("narrow.yaml", "IPAddressPool metallb-system/narrow", "spec.addresses[1]") == (
        problem.source,
        problem.object,
        problem.field,
    )
    assert problem.message.startswith("10.1.0.0-10.1.0.9 overlaps 10.0.0.0/8 of pool 'wide'; ")


def test_a_range_that_overlaps_its_own_pool_says_so() -> None:
    built = build([document("one", Pool.parse("one", "2001:db8::/64", "2001:db8::5/128"))])
    assert isinstance(built, InvalidConfig)
    assert "2001:db8::5/128 overlaps 2001:db8::/64 of this pool" in built.problems[0].message


def test_a_name_used_twice_says_where_else() -> None:
    one = document("one", Pool.parse("p", "2001:db8::/64"), L2Advertisement(name="adv"), source="one.yaml")
    two = document("two", Pool.parse("p", "10.0.0.0/8"), L2Advertisement(name="adv"), source="two.yaml")
    built = build([two, one])
    assert isinstance(built, InvalidConfig)
    assert [
        "two.yaml: IPAddressPool metallb-system/two: metadata.name: pool 'p' is defined twice "
        "(also by IPAddressPool metallb-system/one in one.yaml); rename one",
        "two.yaml: IPAddressPool metallb-system/two: metadata.name: L2Advertisement 'adv' is defined twice "
        "(also by IPAddressPool metallb-system/one in one.yaml); rename one",
    ] == [str(problem) for problem in built.problems]


def test_a_problem_stands_where_the_resource_says_it_is_from() -> None:
    """One ConfigMap holds many pools, each with its own place in it."""
    places = [Origin(kind="address pool", namespace="", name=name) for name in ("first", "second")]
    twice = [
        attrs.evolve(Pool.parse("p", text), origin=origin)
        for text, origin in zip(("2001:db8::/64", "2001:db8::/64"), places, strict=True)
    ]
    adverts = [L2Advertisement(name="adv", origin=origin) for origin in places]
    built = build([document("config", *twice, *adverts)])
    assert isinstance(built, InvalidConfig)
    assert [
        "address pool second: metadata.name: pool 'p' is defined twice (also by address pool first); rename one",
        "address pool second: metadata.name: L2Advertisement 'adv' is defined twice "
        "(also by address pool first); rename one",
    ] == [str(problem) for problem in built.problems[:2]]
    assert twice[0] == twice[1]  # where it is written makes no other pool
    assert adverts[0] == adverts[1]


def test_one_broken_document_spoils_the_configuration_and_its_problem_is_told() -> None:
    good, bad = document("good", Pool.parse("p", "2001:db8::/64")), document("bad", problem="is no CIDR")
    built = build([good, bad])
    assert isinstance(built, InvalidConfig)
    assert ["is no CIDR"] == [problem.message for problem in built.problems]


def test_the_last_good_configuration_stays_until_the_documents_are_sound_again() -> None:
    good, bad = document("p", Pool.parse("p", "2001:db8::/64")), document("p", problem="is no CIDR")
    other = document("q", Pool.parse("q", "10.0.0.0/8"))
    nothing = Configuration()
    assert nothing.current is None
    assert nothing is nothing.gone(good.origin)
    broken_first = nothing.seen(bad).settled()
    assert (None, 1) == (broken_first.current, len(broken_first.problems))
    first = broken_first.seen(good)
    assert first.current is None  # nothing is in force before it is settled
    first = first.settled()
    assert first.current is not None
    assert ((), ["p"]) == (first.problems, [pool.name for pool in first.current.pools])
    broken = first.seen(bad).seen(other).settled()
    assert (first.current, 1) == (broken.current, len(broken.problems))
    mended = broken.gone(good.origin).settled()
    assert mended.current is not None
    assert ((), ["q"]) == (mended.problems, [pool.name for pool in mended.current.pools])
    empty = mended.gone(other.origin).settled()
    assert Config() == empty.current


def test_an_object_is_the_same_wherever_it_is_read_from() -> None:
    here, there = (Origin(kind="Pool", namespace="n", name="p", source=source) for source in ("a.yaml", "b.yaml"))
    assert here == there
    assert "Pool n/p" == str(here)
    assert "Pool p" == str(Origin(kind="Pool", namespace="", name="p"))


GOLD = Pool(name="gold", ranges=(AddressRange.parse("2001:db8::/64"),), labels={"tier": "gold"})


@pytest.mark.parametrize(
    ("names", "selectors", "expected"),
    [
        ((), (), True),
        (("gold",), (), True),
        (("tin",), (), False),
        ((), (LabelSelector.of(tier="gold"),), True),
        ((), (LabelSelector.of(tier="tin"),), False),
        (("tin",), (LabelSelector.of(tier="tin"), LabelSelector.of(tier="gold")), True),
        (("gold",), (LabelSelector.of(tier="tin"),), True),
        (("no-such",), (LabelSelector.of(tier="tin"),), False),
    ],
)
def test_which_pools_an_advertisement_announces(
    names: tuple[str, ...], selectors: tuple[LabelSelector, ...], expected: bool
) -> None:
    assert expected == L2Advertisement(name="adv", pools=names, pool_selectors=selectors).selects_pool(GOLD)


def test_of_two_with_one_name_the_later_object_is_blamed_whatever_its_file_is_called() -> None:
    ranges_of = [AddressRange.parse(text) for text in ("2001:db8:1::/64", "2001:db8:2::/64")]
    made = [
        ConfigDocument(
            origin=Origin(kind="IPAddressPool", namespace=namespace, name="a", source=source),
            resources=(Pool(name="a", ranges=(within,)),),
        )
        for namespace, source, within in zip(("x", "y"), ("2.yaml", "1.yaml"), ranges_of, strict=True)
    ]
    built = build(made)
    assert isinstance(built, InvalidConfig)
    assert ["IPAddressPool y/a"] == [problem.object for problem in built.problems]


def test_a_range_behind_a_narrow_one_may_still_overlap_a_wide_one() -> None:
    texts = ("2001:db8::/64", "2001:db8::10-2001:db8::20", "2001:db8::30-2001:db8::40")
    built = build([document("p", Pool.parse("p", *texts))])
    assert isinstance(built, InvalidConfig)
    assert ["spec.addresses[1]", "spec.addresses[2]"] == [problem.field for problem in built.problems]


def test_a_pool_of_two_families_has_the_addresses_of_both() -> None:
    pool = Pool.parse("p", "2001:db8::/64", "10.0.0.0/24")
    assert {Family.IPV4, Family.IPV6} == pool.families
    for text in ("2001:db8::7", "10.0.0.7"):
        assert Address.parse(text) in pool
