"""What a node says that it announces: each change once, nothing of what stayed, and all taken back at the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lbcore.intents import ReportAnnounced, SettleAnnounced
from lbcore.model import ServiceKey
from lbcore.telling import Telling

KEYS = st.sampled_from([ServiceKey("default", name) for name in "abc"])
NAMES = st.lists(st.sampled_from(["eth0", "eth1"]), max_size=2, unique=True).map(tuple)
CHANGES = st.lists(st.tuples(KEYS, st.lists(NAMES, max_size=2), st.lists(st.sampled_from("xyz"), max_size=3)))


@given(CHANGES)
def test_who_writes_down_what_is_said_knows_what_is_announced(
    changes: list[tuple[ServiceKey, list[tuple[str, ...]], list[str]]],
) -> None:
    telling, written = Telling(node="n1"), dict[ServiceKey, ReportAnnounced]()
    for key, interfaces, peers in changes:
        telling, said = telling.say(key, interfaces, peers)
        for each in said:
            assert each != written.get(key, ReportAnnounced(key=key, node="n1")), "said before"
            written[each.key] = each
        now = written.get(key, ReportAnnounced(key=key, node="n1"))
        assert (bool(interfaces), set(peers)) == (now.interfaces is not None, set(now.peers))
        everywhere = not all(interfaces)
        assert (now.interfaces or ()) == (() if everywhere else tuple(sorted({n for each in interfaces for n in each})))
    telling, last = telling.end()
    assert {key for key, each in written.items() if each.is_any} == {each.key for each in last}
    assert not any(each.is_any for each in last)
    assert ((), ()) == (telling.end()[1], telling.say(ServiceKey("default", "a"), [], [])[1])


@given(st.lists(st.frozensets(st.sampled_from(["n0", "n1", "n2"]))))
def test_of_those_who_live_the_first_sweeps_and_each_membership_is_settled_once(
    memberships: list[frozenset[str]],
) -> None:
    telling, before = Telling(node="n1"), None
    for members in memberships:
        telling, said = telling.settle(members)
        expected = SettleAnnounced(node="n1", living=members | {"n1"}, sweeps="n0" not in members)
        assert (() if members == before else (expected,)) == said
        before = members
