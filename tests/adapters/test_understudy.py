"""Taking over what a lost member announced, before anybody is asked: parts that are given beforehand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.understudy import Understudy
from lbcore.addresses import Address
from lbcore.intents import Announce, StandBy, Withdraw

VIP6, VIP4 = Address.parse("2001:db8::20"), Address.parse("192.0.2.20")
ALL = frozenset({"n1", "n2", "n3"})
PARTS = (StandBy(address=VIP6, member="n2", interfaces=("eth0",)), StandBy(address=VIP4, member="n3"))


def understudy(*members: str) -> Understudy:
    """Of n1, with a part of n2's and one of n3's."""
    made = Understudy("n1")
    made.see(frozenset(members) or ALL)
    for part in PARTS:
        made.command(part)
    return made


def test_what_a_lost_member_announced_is_announced_and_nothing_else() -> None:
    ours = understudy()
    assert [] == list(ours.due(10))
    ours.see(ALL - {"n2"})
    assert [Announce(address=VIP6, interfaces=("eth0",))] == list(ours.due(10))
    assert not ours.waiting


def test_it_is_let_go_when_the_member_is_back_before_that_was_confirmed() -> None:
    ours = understudy()
    ours.see(ALL - {"n2"})
    list(ours.due(10))
    ours.see(ALL)
    assert [Withdraw(address=VIP6)] == list(ours.due(10))
    ours.see(ALL - {"n2"})
    assert [Announce(address=VIP6, interfaces=("eth0",))] == list(ours.due(10))
    ours.settle(VIP6)
    ours.see(ALL)
    assert [] == list(ours.due(10))


def test_who_is_no_member_itself_takes_nothing_over_and_lets_go_of_what_was_not_confirmed() -> None:
    ours = understudy()
    ours.see(ALL - {"n2"})
    list(ours.due(10))
    ours.see(frozenset({"n3"}))
    assert [Withdraw(address=VIP6)] == list(ours.due(10))
    ours.see(frozenset())
    assert [] == list(ours.due(10))
    ours.see(frozenset({"n1"}))  # who comes in alone has lost nobody
    assert [] == list(ours.due(10))


def test_a_part_of_a_member_that_is_gone_already_is_played_at_once() -> None:
    ours = understudy("n1", "n3")
    assert [Announce(address=VIP6, interfaces=("eth0",))] == list(ours.due(10))


def test_portions_are_no_greater_than_asked_for_and_nothing_is_forgotten() -> None:
    ours = understudy()
    ours.see(frozenset({"n1"}))
    assert 1 == len(list(ours.due(1)))
    assert ours.waiting
    assert 1 == len(list(ours.due(1)))
    assert not ours.waiting


def test_a_new_parent_finds_what_is_acted_and_no_parts() -> None:
    ours = understudy()
    ours.see(ALL - {"n2"})
    list(ours.due(10))
    ours.clear()
    ours.see(ALL)
    ours.see(frozenset({"n1"}))
    assert [] == list(ours.due(10))


NAMES = st.sampled_from(sorted(ALL))
ADDRESSES = st.integers(0, 3).map(lambda number: Address(6, (0x20010DB8 << 96) + number))
STEPS = st.one_of(
    st.builds(StandBy, address=ADDRESSES, member=st.sampled_from(["n2", "n3"])),
    st.frozensets(NAMES),
    ADDRESSES,
)


@given(st.lists(STEPS))
def test_what_is_acted_belongs_to_members_that_are_gone_and_is_acted_by_a_member(steps: list[object]) -> None:
    ours, claimed, parts = Understudy("n1"), set[Address](), dict[Address, str]()
    members = frozenset[str]()
    for step in steps:
        match step:
            case StandBy(address=address, member=member):
                claimed.discard(address)  # as the loop does first
                parts[address] = member
                ours.command(step)
            case Address():
                parts.pop(step, None)
                claimed.discard(step)  # here the parent has it withdrawn
                ours.settle(step)
            case frozenset():
                members = step
                ours.see(members)
        for intent in ours.due(100):
            (claimed.add if isinstance(intent, Announce) else claimed.discard)(intent.address)
        assert {address for address in claimed if parts[address] in members or "n1" not in members} == set()
