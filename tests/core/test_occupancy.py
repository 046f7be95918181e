"""The bitmap tree against plain Python sets, on windows that lie across its borders."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lbcore.occupancy import CountingSet, Occupancy, first_joinable
from strategies import AWKWARD_PLACES, BITS, versions

WINDOW = 1100  # more than four leaves, so that full leaves stand side by side


def is_edge(bits: int, value: int) -> bool:
    return bits == 32 and value & 255 in (0, 255)


class OccupancyAgainstASet(RuleBasedStateMachine):
    """Runs of addresses come and go around one place; every answer is a set's answer."""

    @initialize(version=versions, data=st.data())
    def begin(self, version: int, data: st.DataObject) -> None:
        self.bits = BITS[version]
        self.base = min(data.draw(st.sampled_from(AWKWARD_PLACES[version])), (1 << self.bits) - WINDOW)
        self.real = Occupancy(self.bits)
        self.model: set[int] = set()
        self.past: list[tuple[Occupancy, int, bool]] = []

    def place(self, offset: int) -> int:
        return self.base + min(offset, WINDOW - 1)

    @rule(start=st.integers(0, WINDOW - 1), length=st.sampled_from([1, 2, 255, 256, 257, 700]))
    def take_a_run(self, start: int, length: int) -> None:
        for value in range(self.place(start), self.place(start + length - 1) + 1):
            self.real = self.real.add(value)
            self.model.add(value)

    @rule(start=st.integers(0, WINDOW - 1), length=st.sampled_from([1, 2, 300]))
    def free_a_run(self, start: int, length: int) -> None:
        for value in range(self.place(start), self.place(start + length - 1) + 1):
            self.real = self.real.discard(value)
            self.model.discard(value)

    @rule(leaf=st.integers(0, 4))
    def take_all_but_the_edges_of_a_leaf(self, leaf: int) -> None:
        start = (self.base >> 8 << 8) + 256 * leaf
        for value in range(start + 1, start + 255):
            if self.base <= value < self.base + WINDOW:
                self.real = self.real.add(value)
                self.model.add(value)

    @rule(at=st.integers(0, WINDOW - 1), present=st.booleans())
    def remember_an_old_value(self, at: int, present: bool) -> None:
        value = self.place(at)
        self.past.append((self.real, value, value in self.model))
        self.real = self.real.add(value) if present else self.real.discard(value)
        (self.model.add if present else self.model.discard)(value)

    @rule(one=st.integers(0, WINDOW - 1), other=st.integers(0, WINDOW - 1), avoid=st.booleans())
    def find_the_first_free_one(self, one: int, other: int, avoid: bool) -> None:
        first, last = sorted((self.place(one), self.place(other)))
        expected = next(
            (v for v in range(first, last + 1) if v not in self.model and not (avoid and is_edge(self.bits, v))), None
        )
        assert expected == self.real.first_free(first, last, avoid_edges=avoid)

    @rule(avoid=st.booleans())
    def find_the_first_free_one_of_the_whole_family(self, avoid: bool) -> None:
        expected = next(
            v for v in range(1 << self.bits) if v not in self.model and not (avoid and is_edge(self.bits, v))
        )
        assert expected == self.real.first_free(0, (1 << self.bits) - 1, avoid_edges=avoid)

    @rule(at=st.integers(0, WINDOW - 1))
    def ask_for_one(self, at: int) -> None:
        assert (self.place(at) in self.model) == (self.place(at) in self.real)
        assert self.place(at) + WINDOW not in self.real

    @invariant()
    def old_values_stay_what_they_were(self) -> None:
        if not hasattr(self, "past"):
            return
        for old, value, present in self.past[-3:]:
            assert present == (value in old)

    def teardown(self) -> None:
        if not hasattr(self, "real"):
            return
        for value in sorted(self.model, key=lambda value: value * 7919 % 65537):
            self.real = self.real.discard(value)
        assert Occupancy(self.bits) == self.real


TestOccupancy = OccupancyAgainstASet.TestCase
TestOccupancy.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(versions, st.data())
def test_taking_what_is_taken_and_freeing_what_is_free_changes_nothing(version: int, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(AWKWARD_PLACES[version]))
    empty = Occupancy(BITS[version])
    taken = empty.add(value)
    assert taken is taken.add(value)
    assert empty is empty.discard(value)
    assert empty == taken.discard(value)


@pytest.mark.parametrize("avoid", [True, False])
@pytest.mark.parametrize("version", [6, 4])
def test_a_full_range_of_many_leaves_has_one_hole_where_one_is_made(version: int, avoid: bool) -> None:
    """A whole /16: full nodes two levels up, and the borders to their neighbours."""
    base = 0x0A010000 if version == 4 else 0x20010DB8 << 96
    everything = Occupancy(BITS[version])
    for value in range(base, base + 65536):
        everything = everything.add(value)
    assert everything.first_free(base, base + 65535, avoid_edges=avoid) is None
    assert base + 65536 + (avoid and version == 4) == everything.first_free(base, base + 70000, avoid_edges=avoid)
    assert base - 2 == everything.first_free(base - 2, base + 65535, avoid_edges=avoid)
    before = None if avoid and version == 4 else base - 1
    assert before == everything.first_free(base - 1, base + 65535, avoid_edges=avoid)
    for hole in (base + 1, base + 257, base + 40_001, base + 65_534):
        assert hole == everything.discard(hole).first_free(base, base + 65535, avoid_edges=avoid)
        assert hole == everything.discard(hole).first_free(hole, hole, avoid_edges=avoid)
        assert everything.discard(hole).first_free(hole + 1, base + 65535, avoid_edges=avoid) is None
    edge = everything.discard(base + 255).discard(base + 256)
    expected = None if avoid and version == 4 else base + 255
    assert expected == edge.first_free(base, base + 65535, avoid_edges=avoid)
    assert everything == edge.add(base + 256).add(base + 255)


@pytest.mark.parametrize(("version", "last"), [(6, (1 << 128) - 1), (4, (1 << 32) - 1)])
def test_the_last_address_of_a_family_is_found(version: int, last: int) -> None:
    full = Occupancy(BITS[version])
    for value in range(last - 600, last):
        full = full.add(value)
    assert last == full.first_free(last - 600, last)
    assert full.add(last).first_free(last - 600, last) is None
    assert full.first_free(last - 600, last, avoid_edges=True) == (None if version == 4 else last)


def test_ipv6_avoids_no_edges() -> None:
    assert (0, 256) == (
        Occupancy(128).first_free(0, 300, avoid_edges=True),
        Occupancy(128).first_free(256, 300, avoid_edges=True),
    )
    assert (1, 257) == (
        Occupancy(32).first_free(0, 300, avoid_edges=True),
        Occupancy(32).first_free(256, 300, avoid_edges=True),
    )


class CountingSetAgainstASet(RuleBasedStateMachine):
    """A set and three subsets of it: counts, children and the search for a member that no subset has."""

    @initialize(version=versions, data=st.data())
    def begin(self, version: int, data: st.DataObject) -> None:
        self.bits = BITS[version]
        self.base = min(data.draw(st.sampled_from(AWKWARD_PLACES[version])), (1 << self.bits) - WINDOW)
        self.real = CountingSet(self.bits)
        self.used = [CountingSet(self.bits)] * 3
        self.model: set[int] = set()
        self.used_model: list[set[int]] = [set(), set(), set()]

    @rule(start=st.integers(0, WINDOW - 1), length=st.sampled_from([1, 3, 40]), step=st.sampled_from([1, 7, 256]))
    def add(self, start: int, length: int, step: int) -> None:
        for offset in range(start, min(start + length * step, WINDOW), step):
            self.real = self.real.add(self.base + offset)
            self.model.add(self.base + offset)

    @rule(leaf=st.integers(0, 4))
    def add_the_edges_of_a_leaf(self, leaf: int) -> None:
        start = (self.base >> 8 << 8) + 256 * leaf
        for value in (start, start + 255):
            if self.base <= value < self.base + WINDOW:
                self.real = self.real.add(value)
                self.model.add(value)

    @rule(which=st.integers(0, 2), data=st.data())
    def use(self, which: int, data: st.DataObject) -> None:
        for value in data.draw(_some_of(self.model)):
            self.used[which] = self.used[which].add(value)
            self.used_model[which].add(value)

    @rule(which=st.integers(0, 2), data=st.data())
    def stop_using(self, which: int, data: st.DataObject) -> None:
        for value in data.draw(_some_of(self.used_model[which])):
            self.used[which] = self.used[which].discard(value)
            self.used_model[which].discard(value)

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        for value in data.draw(_some_of(self.model)):
            self.real = self.real.discard(value)
            self.model.discard(value)
            self.used = [each.discard(value) for each in self.used]
            for each in self.used_model:
                each.discard(value)

    @rule(
        one=st.integers(0, WINDOW - 1),
        other=st.integers(0, WINDOW - 1),
        count=st.integers(0, 3),
        avoid=st.booleans(),
        everywhere=st.booleans(),
    )
    def find_the_first_joinable(self, one: int, other: int, count: int, avoid: bool, everywhere: bool) -> None:
        first, last = (0, (1 << self.bits) - 1) if everywhere else sorted((self.base + one, self.base + other))
        taken = set().union(*self.used_model[:count])
        fitting = (v for v in self.model - taken if first <= v <= last and not (avoid and is_edge(self.bits, v)))
        found = first_joinable(self.real, tuple(self.used[:count]), first, last, avoid_edges=avoid)
        assert min(fitting, default=None) == found

    @invariant()
    def it_is_the_same_set_and_counts_rightly(self) -> None:
        if not hasattr(self, "real"):
            return
        assert bool(self.model) == bool(self.real)
        for value in (self.base, self.base + 1, self.base + WINDOW - 1, *sorted(self.model)[:3]):
            assert (value in self.model) == (value in self.real)
        for level in range(self.bits // 8):
            index = self.base >> (8 * level + 8)
            below = {value for value in self.model if value >> (8 * level + 8) == index}
            assert len(below) == self.real.count(index, level)
            if level:
                assert sum(1 << (child & 255) for child in {v >> (8 * level) for v in below}) == self.real.children(
                    index, level
                )
            else:
                assert sum(1 << (value & 255) for value in below) == self.real.leaf(index)

    def teardown(self) -> None:
        if not hasattr(self, "real"):
            return
        for value in list(self.model):
            self.real = self.real.discard(value)
        assert CountingSet(self.bits) == self.real
        assert not self.real


def _some_of(values: set[int]) -> st.SearchStrategy[list[int]]:
    if not values:
        return st.just([])
    ordered = sorted(values)
    return st.integers(0, len(ordered) - 1).flatmap(
        lambda start: st.integers(1, 60).map(lambda length: ordered[start : start + length])
    )


TestCountingSet = CountingSetAgainstASet.TestCase
TestCountingSet.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(versions, st.data())
def test_a_counting_set_holds_each_address_once(version: int, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(AWKWARD_PLACES[version]))
    empty = CountingSet(BITS[version])
    once = empty.add(value)
    assert once is once.add(value)
    assert empty is empty.discard(value)
    assert empty == once.discard(value)
    assert 1 == once.count(0, BITS[version] // 8 - 1)


@pytest.mark.parametrize(("version", "avoid", "expected"), [(6, True, 0), (6, False, 0), (4, True, 1), (4, False, 0)])
def test_only_ipv4_members_are_passed_over_for_their_last_octet(version: int, avoid: bool, expected: int) -> None:
    members = CountingSet(BITS[version]).add(0).add(1).add(255)
    assert expected == first_joinable(members, (), 0, 300, avoid_edges=avoid)


@pytest.mark.parametrize("version", [4, 6])
def test_one_address_let_go_of_a_full_16_is_found_from_above(version: int) -> None:
    """Three summaries say "full" about it: all of them must be taken back."""
    taken = Occupancy(BITS[version])
    for value in range(1 << 16):
        taken = taken.add(value)
    assert 1 << 16 == taken.first_free(0, (1 << 17) - 1)
    assert 0x1234 == taken.discard(0x1234).first_free(0, (1 << 17) - 1)


def test_an_address_is_joined_where_its_neighbour_has_one_of_the_ports_and_others_the_other() -> None:
    members, http, dns = CountingSet(128), CountingSet(128), CountingSet(128)
    for value in range(4):
        members = members.add(value)
    http, dns = http.add(0), dns.add(1)
    assert 2 == first_joinable(members, (http, dns), 0, 255)
    assert 1 == first_joinable(members, (http,), 0, 255)
    assert 3 == first_joinable(members, (http, dns.add(2)), 0, 1 << 20)
