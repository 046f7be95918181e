"""Those who wait against plain lists: who is asked about what, and in which order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lbcore.addresses import Family
from lbcore.model import Port, ServiceKey
from lbcore.sharing import Sharing
from lbcore.waiting import Chance, Company, Waiting, WaitsFor
from worlds import ipv4, ipv6

HTTP, DNS = (Port("TCP", 80),), (Port("UDP", 53),)
PLACES = (ipv6(1), ipv4(1), ("p", Family.IPV6), ("p", Family.IPV4), ("q", Family.IPV6))
TERMS = (Sharing("k"), Sharing("k", "app=web"))
COMPANIES = tuple(Company(place, terms, ports) for place in PLACES[:3] for terms in TERMS for ports in (HTTP, DNS))

THINGS: tuple[WaitsFor, ...] = (*PLACES, *COMPANIES)

keys = st.sampled_from([ServiceKey("red", letter) for letter in "abcde"])
FEW = (*PLACES[:3], *COMPANIES[:4])
whats = st.lists(st.sampled_from(FEW) | st.sampled_from(THINGS), max_size=4, unique=True).map(tuple)


class WaitingAgainstLists(RuleBasedStateMachine):
    """One list for each thing, one for all; a Service that goes on waiting keeps its place in each."""

    def __init__(self) -> None:
        super().__init__()
        self.real = Waiting()
        self.lines: dict[WaitsFor, list[ServiceKey]] = {}
        self.line: list[ServiceKey] = []

    @rule(key=keys, given_whats=whats)
    def put(self, key: ServiceKey, given_whats: tuple[WaitsFor, ...]) -> None:
        self.real = self.real.put(key, given_whats)
        for what, line in self.lines.items():
            if key in line and what not in given_whats:
                line.remove(key)
        for what in given_whats:
            line = self.lines.setdefault(what, [])
            line += [] if key in line else [key]
        if not given_whats and key in self.line:
            self.line.remove(key)
        elif given_whats and key not in self.line:
            self.line.append(key)

    @rule(key=keys)
    def remove(self, key: ServiceKey) -> None:
        self.put(key, ())
        assert self.real is self.real.remove(key)

    @rule(asked=st.lists(st.sampled_from(THINGS), min_size=1, max_size=3, unique=True))
    def ask_all_about_a_chance(self, asked: list[WaitsFor]) -> None:
        chance: Chance | None = Chance(address=ipv6(1), queues=tuple(asked))
        found: list[ServiceKey] = []
        for _ in range(100):
            if chance is None:
                break
            key, chance = self.real.next(chance)
            found += [] if key is None else [key]
        assert chance is None
        assert [key for what in asked for key in self.lines.get(what, [])] == found

    @invariant()
    def it_is_the_lists(self) -> None:
        assert len(self.line) == len(self.real)
        assert self.line == list(self.real.line)
        assert all((key in self.line) == (key in self.real) for key in self.line)
        for what in THINGS:
            assert self.lines.get(what, []) == list(self.real.queue(what))
            assert bool(self.lines.get(what)) == self.real.anyone_for(what)
        for place in PLACES:
            for terms in TERMS:
                wanted = {each for each in COMPANIES if (each.place, each.sharing) == (place, terms)}
                companies = self.real.companies(place, terms)
                assert {each for each in wanted if self.lines.get(each)} == set(companies)
                assert len(companies) == len(set(companies))


TestWaiting = WaitingAgainstLists.TestCase
TestWaiting.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_chance_with_two_queues_is_passed_on_to_the_second() -> None:
    chance = Chance(address=ipv6(1), queues=PLACES[:2])
    rest = chance.elsewhere
    assert rest is not None
    assert (PLACES[1:2], None) == (rest.queues, rest.elsewhere)
