"""Allocation against a brute-force model of it, on generated worlds of a few dozen addresses."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map

import model_allocation as model
from lbcore.addresses import Address, Family
from lbcore.allocation import Allocation, Outcome, allocate, judge_held, settle, verdicts
from lbcore.config import Pool, ServiceAllocation
from lbcore.ledger import Claim, Ledger
from lbcore.model import Labels, LabelSelector, Port, ServiceKey
from lbcore.pools import Catalog
from lbcore.requests import Request
from lbcore.sharing import Sharing
from lbcore.verdicts import Reason, Refusal
from strategies import keys, labels, pools, ports, sharings

V4, V6 = Family.IPV4, Family.IPV6


@attrs.frozen
class Case:
    """One world, for lbcore and for the model, and one Service in it."""

    catalog: Catalog
    ledger: Ledger
    request: Request
    held: tuple[Address, ...]

    @property
    def world(self) -> model.World:
        """The same world in the model's words."""
        return model.World(
            pools=[plain_pool(pool) for pool in self.catalog.pools],
            namespaces={name: dict(found) for name, found in self.catalog.namespaces.items()},
            held={str(claim.key): plain_claim(claim) for claim in self.ledger},
        )

    @property
    def wish(self) -> model.Wish:
        """The same request in the model's words."""
        request = self.request
        return model.Wish(
            name=request.key.name,
            namespace=request.key.namespace,
            families=[family.version for family in request.families],
            insists=request.all_families,
            addresses=[plain(address) for address in request.addresses],
            pool=request.pool,
            ports={(port.protocol, port.number) for port in request.ports},
            terms=(request.sharing.key, request.sharing.backend) if request.sharing else None,
            labels=dict(request.labels),
        )


def plain(address: Address) -> tuple[int, int]:
    return address.version, address.value


def plain_pool(pool: Pool) -> model.WorldPool:
    terms = pool.allocation or ServiceAllocation()
    return model.WorldPool(
        name=pool.name,
        ranges=[(each.version, each.first, each.last) for each in pool.ranges],
        automatic=pool.auto_assign,
        avoids_edges=pool.avoid_buggy_ips,
        pinned=pool.allocation is not None,
        priority=terms.priority,
        namespaces=list(terms.namespaces),
        namespace_matchers=[selector.matches for selector in terms.namespace_selectors],
        service_matchers=[selector.matches for selector in terms.service_selectors],
    )


def plain_claim(claim: Claim) -> model.Held:
    terms = (claim.sharing.key, claim.sharing.backend) if claim.sharing else None
    ports = {(port.protocol, port.number) for port in claim.ports}
    return model.Held([plain(address) for address in claim.addresses], ports, terms)


def grant_of(answer: Allocation | Refusal | None) -> dict[tuple[int, int], str] | None:
    if not isinstance(answer, Allocation):
        return None
    return {plain(address): pool for address, pool in zip(answer.addresses, answer.pools, strict=True)}


@st.composite
def requests(draw: st.DrawFn, catalog: Catalog, key: ServiceKey | None = None) -> Request:
    wanted = draw(st.sampled_from([(V6,), (V4,), (V4, V6), (V6, V4), (V4, V6), (V6, V4)]))
    addresses: tuple[Address, ...] = ()
    if draw(st.integers(0, 3)) == 0:
        by_family = {family: address_near(catalog, family) for family in wanted}
        addresses = tuple(sorted(draw(strategy) for strategy in by_family.values()))
    named = draw(st.integers(0, 4)) == 0
    return Request(
        key=key or draw(keys),
        families=wanted,
        all_families=draw(st.booleans()) if len(wanted) == 2 else True,
        addresses=addresses,
        pool=draw(st.sampled_from([pool.name for pool in catalog.pools])) if named else None,
        ports=draw(ports),
        sharing=draw(sharings),
        labels=Map(draw(labels)),
    )


def address_near(catalog: Catalog, family: Family) -> st.SearchStrategy[Address]:
    """An address of a pool, or one just outside."""
    ends = [each for pool in catalog.pools for each in pool.ranges if each.family is family]
    near = [Address(each.version, value) for each in ends for value in range(each.first - 1, each.last + 2)]
    return st.sampled_from(near or [Address(family.version, 77)])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    known: dict[str, Labels] = {name: Map(draw(labels)) for name in draw(st.sampled_from([["red", "blue"], ["red"]]))}
    catalog = Catalog.of(draw(pools()), known)
    ledger = Ledger()
    newcomer = draw(keys)
    for key in draw(st.lists(keys.filter(lambda key: key != newcomer), max_size=8, unique=True)):
        other = draw(requests(catalog, key))
        granted = allocate(other, catalog, ledger)
        if isinstance(granted, Allocation):
            ledger = ledger.claim(granted.claim(other))
    # What it holds may be anything: addresses of pools that changed since, or of another's.
    held = draw(st.lists(address_near(catalog, V6) | address_near(catalog, V4), max_size=3))
    return Case(catalog, ledger, draw(requests(catalog, newcomer)), tuple(held))


@given(cases())
@settings(max_examples=2 * settings().max_examples)
def test_allocate_grants_what_an_exhaustive_scan_grants(case: Case) -> None:
    answer = allocate(case.request, case.catalog, case.ledger)
    assert model.allocate(case.world, case.wish) == grant_of(answer)


@given(cases())
@settings(max_examples=2 * settings().max_examples)
def test_settle_keeps_and_grants_what_an_exhaustive_scan_does(case: Case) -> None:
    expected = model.settle(case.world, case.wish, [plain(address) for address in case.held])
    outcome = settle(case.request, case.held, case.catalog, case.ledger)
    assert (expected.grant, expected.refused) == (grant_of(outcome.allocation) or {}, outcome.refusal is not None)


def enter(case: Case, outcome: Outcome) -> Ledger:
    if outcome.allocation is None:
        return case.ledger.release(case.request.key)
    return case.ledger.claim(outcome.allocation.claim(case.request))


@given(cases())
def test_what_is_granted_enters_the_ledger_and_stays_when_asked_again(case: Case) -> None:
    granted = allocate(case.request, case.catalog, case.ledger)
    if isinstance(granted, Refusal):
        return
    assert tuple(sorted(granted.addresses)) == granted.addresses
    ledger = case.ledger.claim(granted.claim(case.request))
    assert Outcome(allocation=granted) == settle(case.request, granted.addresses, case.catalog, ledger)


@given(cases(), st.data())
def test_settling_twice_is_settling_once(case: Case, data: st.DataObject) -> None:
    """Also when the wish has changed since, and whether or not the ledger knows what is held."""
    once = settle(case.request, case.held, case.catalog, case.ledger)
    first = attrs.evolve(case, ledger=enter(case, once))
    changed = data.draw(requests(case.catalog, case.request.key))
    held = once.allocation.addresses if once.allocation else ()
    assert once == settle(case.request, held, case.catalog, first.ledger)
    second = settle(changed, held, case.catalog, first.ledger)
    expected = model.settle(first.world, attrs.evolve(first, request=changed).wish, [plain(a) for a in held])
    assert (expected.grant, expected.refused) == (grant_of(second.allocation) or {}, second.refusal is not None)
    ledger = enter(attrs.evolve(first, request=changed), second)
    held = second.allocation.addresses if second.allocation else ()
    third = settle(changed, held, case.catalog, ledger)
    # What a refusal tells of other pools may change with the new terms of what is held; the decision may not.
    assert second.allocation == third.allocation
    assert (second.refusal and second.refusal.reason) == (third.refusal and third.refusal.reason)


@given(cases())
def test_no_permitted_address_is_dropped_but_for_one_that_was_asked_for(case: Case) -> None:
    request = case.request
    kept, _ = judge_held(request, case.held, case.catalog, case.ledger)
    outcome = settle(request, case.held, case.catalog, case.ledger)
    has = outcome.allocation.addresses if outcome.allocation else ()
    for address, pool in zip(kept.addresses, kept.pools, strict=True) if kept else ():
        asked_for_others = bool(request.addresses) and address not in request.addresses
        asked_for_another_pool = request.pool not in (None, pool)
        assert address in has or (outcome.refusal is None and (asked_for_others or asked_for_another_pool))


@given(cases())
def test_judging_what_is_held_agrees_with_a_scan_and_names_what_may_not_stay(case: Case) -> None:
    kept, refusal = judge_held(case.request, case.held, case.catalog, case.ledger)
    expected = model.keep(case.world, case.wish, [plain(address) for address in case.held])
    assert expected == (grant_of(kept) or {})
    wanted = [plain(a) for a in case.held if a.family in case.request.families]
    if refusal is not None:
        assert any(not case.world.grantable(address, case.wish) for address in wanted)
        assert (case.request.key, True) == (refusal.key, bool(refusal.detail))
    else:
        lost = {address[0] for address in wanted} - {address[0] for address in expected}
        assert set() == lost


@given(cases())
def test_verdicts_are_the_decision_read_to_the_end(case: Case) -> None:
    answer = allocate(case.request, case.catalog, case.ledger)
    said = list(verdicts(case.request, case.catalog, case.ledger))
    assert all(verdict.detail for verdict in said if verdict.reason is not Reason.OK)
    if case.request.addresses:
        only_ok = all(verdict.reason is Reason.OK for verdict in said)
        assert isinstance(answer, Allocation) == only_ok
        return
    willing = [verdict for verdict in said if verdict.reason is Reason.OK]
    if isinstance(answer, Refusal):
        assert [] == willing
        assert tuple(said) == answer.pools
        return
    if case.request.all_families:
        assert (len(set(answer.pools)) == 1 and len(answer.addresses) == len(case.request.families)) == bool(willing)
    if willing and len(set(answer.pools)) == 1 and len(answer.addresses) == len(case.request.families):
        assert willing[0].pool == answer.pools[0]
        assert f"would give {' and '.join(map(str, answer.addresses))}" == willing[0].detail


@given(cases())
def test_a_refusal_says_why_and_what_to_do(case: Case) -> None:
    answer = allocate(case.request, case.catalog, case.ledger)
    if isinstance(answer, Refusal):
        assert case.request.key == answer.key
        assert answer.reason is not Reason.OK
        assert "; " in answer.detail or ". To change that, " in answer.detail or answer.pools


# --- The same in examples that a reader can check by hand.

WEB, OTHER = ServiceKey("red", "web"), ServiceKey("red", "other")


def ask(*catalog: Pool, ledger: Ledger | None = None, **wish: object) -> list[str] | Reason:
    request = Request(**{"key": WEB, "families": (V6,), **wish})  # type: ignore[arg-type]
    answer = allocate(request, Catalog.of(catalog, {"red": Map(), "blue": Map()}), ledger or Ledger())
    return answer.reason if isinstance(answer, Refusal) else [str(address) for address in answer.addresses]


def holding(*texts: str, sharing: Sharing | None = None, some_ports: tuple[Port, ...] = ()) -> Ledger:
    ledger = Ledger()
    for number, text in enumerate(texts):
        key = ServiceKey("red", f"holder-{number}")
        ledger = ledger.claim(
            Claim(key=key, addresses=(Address.parse(text),), pools=("p",), ports=some_ports, sharing=sharing)
        )
    return ledger


SIX, FOUR = Pool.parse("six", "2001:db8::/127"), Pool.parse("four", "192.0.2.0/31")
BOTH = Pool.parse("zz-both", "2001:db8:1::/127", "198.51.100.0/31")


def test_the_first_address_of_a_range_is_the_first_given() -> None:
    assert ["2001:db8::"] == ask(SIX)
    assert ["192.0.2.0"] == ask(FOUR, families=(V4,))
    assert ["192.0.2.1"] == ask(attrs.evolve(FOUR, avoid_buggy_ips=True), families=(V4,))


def test_ranges_are_tried_as_written_and_pools_by_name() -> None:
    assert ["2001:db8::9"] == ask(Pool.parse("p", "2001:db8::9-2001:db8::9", "2001:db8::1-2001:db8::2"))
    assert ["2001:db8::1"] == ask(
        Pool.parse("p", "2001:db8::9-2001:db8::9", "2001:db8::1-2001:db8::2"), ledger=holding("2001:db8::9")
    )
    assert ["2001:db8::a"] == ask(Pool.parse("b", "2001:db8::b/128"), Pool.parse("a", "2001:db8::a/128"))


def test_dual_stack_prefers_one_pool_and_is_content_with_two() -> None:
    for insist in (True, False):
        one_pool = ask(SIX, FOUR, BOTH, families=(V6, V4), all_families=insist)
        assert ["198.51.100.0", "2001:db8:1::"] == one_pool
        assert ["192.0.2.0", "2001:db8::"] == ask(SIX, FOUR, families=(V6, V4), all_families=insist)
    assert ["2001:db8::"] == ask(SIX, families=(V6, V4), all_families=False)
    assert Reason.POOL_LACKS_FAMILY is ask(SIX, families=(V6, V4))
    assert ["192.0.2.0"] == ask(FOUR, families=(V6, V4), all_families=False)


def test_a_preferred_second_family_does_not_lure_a_service_out_of_its_pinned_pool() -> None:
    pinned = attrs.evolve(SIX, allocation=ServiceAllocation())
    assert ["198.51.100.0", "2001:db8::"] == ask(pinned, BOTH, families=(V6, V4), all_families=False)
    assert ["198.51.100.0", "2001:db8:1::"] == ask(pinned, BOTH, families=(V6, V4))


def test_general_pools_are_asked_for_the_second_family_until_one_has_it() -> None:
    pinned = attrs.evolve(FOUR, allocation=ServiceAllocation())
    late = Pool.parse("zz", "2001:db8:2::/127")
    wish = Request(key=WEB, families=(V4, V6), all_families=False)
    first = Pool.parse("aa", "203.0.113.0/31")
    answer = allocate(wish, Catalog.of([pinned, first, late]), Ledger())
    assert isinstance(answer, Allocation)
    assert (("four", "zz"), ["192.0.2.0", "2001:db8:2::"]) == (answer.pools, [str(each) for each in answer.addresses])


def test_a_sharer_takes_a_lower_free_address_before_it_joins() -> None:
    share, http, dns = Sharing("k"), Port("TCP", 80), Port("UDP", 53)
    high = holding("2001:db8::1", sharing=share, some_ports=(http,))
    low = holding("2001:db8::", sharing=share, some_ports=(http,))
    assert ["2001:db8::"] == ask(SIX, ledger=high, sharing=share, ports=(dns,))
    assert ["2001:db8::"] == ask(SIX, ledger=low, sharing=share, ports=(dns,))
    assert ["2001:db8::1"] == ask(SIX, ledger=low, sharing=share, ports=(http,))
    assert ["2001:db8::1"] == ask(SIX, ledger=low, ports=(dns,))


TAKEN = holding("2001:db8::")


@pytest.mark.parametrize(
    ("catalog", "wish", "ledger", "reason"),
    [
        ((), {}, None, Reason.NO_POOLS),
        ((SIX,), {"pool": "none"}, None, Reason.POOL_NOT_FOUND),
        ((attrs.evolve(SIX, auto_assign=False),), {}, None, Reason.POOL_NOT_AUTOMATIC),
        ((attrs.evolve(SIX, allocation=ServiceAllocation(namespaces=("blue",))),), {}, None,
         Reason.POOL_NOT_FOR_NAMESPACE),
        ((attrs.evolve(SIX, allocation=ServiceAllocation(service_selectors=(LabelSelector.of(a="b"),))),), {}, None,
         Reason.POOL_NOT_FOR_SERVICE),
        ((FOUR,), {}, None, Reason.POOL_LACKS_FAMILY),
        ((SIX,), {}, holding("2001:db8::", "2001:db8::1"), Reason.POOL_EXHAUSTED),
        ((SIX, attrs.evolve(FOUR, auto_assign=False)), {}, holding("2001:db8::", "2001:db8::1"), Reason.POOL_EXHAUSTED),
        ((SIX,), {"addresses": (Address.parse("2001:db8::9"),)}, None, Reason.ADDRESS_NOT_IN_POOL),
        ((SIX, FOUR), {"addresses": (Address.parse("2001:db8::"),), "pool": "four"}, None,
         Reason.ADDRESS_IN_OTHER_POOL),
        ((attrs.evolve(FOUR, avoid_buggy_ips=True),), {"addresses": (Address.parse("192.0.2.0"),), "families": (V4,)},
         None, Reason.ADDRESS_AVOIDED),
        ((SIX,), {"addresses": (Address.parse("2001:db8::"),)}, TAKEN, Reason.ADDRESS_IN_USE),
        ((SIX,), {"addresses": (Address.parse("2001:db8::"),), "sharing": Sharing("k")}, TAKEN, Reason.SHARING_REFUSED),
        ((SIX,), {"addresses": (Address.parse("2001:db8::"),), "sharing": Sharing("k"), "ports": (Port("TCP", 80),)},
         holding("2001:db8::", sharing=Sharing("k"), some_ports=(Port("TCP", 80),)), Reason.SHARING_REFUSED),
        ((attrs.evolve(SIX, allocation=ServiceAllocation(namespaces=("blue",))),),
         {"addresses": (Address.parse("2001:db8::"),)}, None, Reason.POOL_NOT_FOR_NAMESPACE),
    ],
)  # fmt: skip
def test_the_reason_of_a_refusal(
    catalog: tuple[Pool, ...], wish: dict[str, object], ledger: Ledger | None, reason: Reason
) -> None:
    assert reason is ask(*catalog, ledger=ledger, **wish)


def test_an_explicit_address_needs_no_automatic_pool_and_a_named_pool_neither() -> None:
    manual = attrs.evolve(SIX, auto_assign=False)
    assert ["2001:db8::1"] == ask(manual, addresses=(Address.parse("2001:db8::1"),))
    assert ["2001:db8::"] == ask(manual, pool="six")


def test_the_name_of_a_pool_that_is_not_there_is_cut_and_so_is_the_list_of_those_that_are() -> None:
    pools = [Pool.parse(f"p{number}", f"2001:db8:{number}::/64") for number in range(500)]
    request = Request(key=WEB, families=(V6,), pool="x" * 100_000)
    refusal = allocate(request, Catalog.of(pools), Ledger())
    assert isinstance(refusal, Refusal)
    assert len(refusal.detail) < 300


def test_a_refusal_tells_what_each_pool_said_and_counts_the_rest() -> None:
    many = [Pool.parse(f"p{number}", f"192.0.2.{number}/32") for number in range(7)]
    answer = allocate(Request(key=WEB, families=(V6,)), Catalog.of(many), Ledger())
    assert isinstance(answer, Refusal)
    assert [f"p{number}" for number in range(7)] == [verdict.pool for verdict in answer.pools]
    assert "pool 'p3': the pool has no IPv6 addresses; and 3 more pools. To change that, add" in answer.detail
    assert "pool 'p4'" not in answer.detail


@pytest.mark.parametrize(
    ("wish", "ledger", "expected"),
    [
        ({}, holding("2001:db8::", "2001:db8::1"), "no IPv6 address of the pool is free"),
        ({"sharing": Sharing("k")}, holding("2001:db8::", "2001:db8::1"),
         "no IPv6 address of the pool is free or may be shared on these ports"),
        ({"families": (V4, V6)}, None, "the pool has no IPv4 addresses, only 2001:db8::"),
        ({"families": (V4, V6)}, holding("2001:db8::", "2001:db8::1"), "the pool has no IPv4 addresses"),
        ({"families": (V4,)}, None, "the pool has no IPv4 addresses"),
        ({"families": (V6,)}, None, "would give 2001:db8::"),
    ],
)  # fmt: skip
def test_what_a_pool_says(wish: dict[str, object], ledger: Ledger | None, expected: str) -> None:
    request = Request(**{"key": WEB, "families": (V6,), **wish})  # type: ignore[arg-type]
    (said,) = verdicts(request, Catalog.of([SIX]), ledger or Ledger())
    assert ("six", expected) == (said.pool, said.detail)


def test_a_full_dual_stack_pool_says_which_family_is_gone() -> None:
    both = Pool.parse("both", "192.0.2.7/32", "2001:db8::/128")
    request = Request(key=WEB, families=(V6, V4))
    full, half = holding("2001:db8::", "192.0.2.7"), holding("2001:db8::")
    assert ["no IPv6 and IPv4 address of the pool is free"] == [
        v.detail for v in verdicts(request, Catalog.of([both]), full)
    ]
    assert ["no IPv6 address of the pool is free, only 192.0.2.7"] == [
        v.detail for v in verdicts(request, Catalog.of([both]), half)
    ]


def test_a_pool_that_is_not_there_is_answered_with_those_that_are() -> None:
    request = Request(key=WEB, pool="five")
    for catalog, known in (((SIX, FOUR), "four, six"), ((), "none")):
        answer = allocate(request, Catalog.of(catalog), Ledger())
        assert isinstance(answer, Refusal)
        assert f"there is no pool 'five'; pools: {known}" == answer.detail


def test_an_address_in_use_names_its_holder() -> None:
    request = Request(key=WEB, families=(V6,), addresses=(Address.parse("2001:db8::"),))
    answer = allocate(request, Catalog.of([SIX]), TAKEN)
    assert isinstance(answer, Refusal)
    assert "red/holder-0" in answer.detail
    assert ["six"] == [verdict.pool for verdict in answer.pools]


def test_asking_for_a_busy_address_keeps_the_working_one() -> None:
    """MetalLB drops the old address first and then fails."""
    request = Request(key=WEB, families=(V6,), addresses=(Address.parse("2001:db8::"),))
    outcome = settle(request, (Address.parse("2001:db8::1"),), Catalog.of([SIX]), TAKEN)
    assert outcome.allocation is not None
    assert ((Address.parse("2001:db8::1"),), True) == (outcome.allocation.addresses, outcome.refusal is not None)


def test_a_service_that_names_the_pool_of_one_of_its_two_addresses_keeps_that_one() -> None:
    both = Pool.parse("new", "192.0.2.8/32", "2001:db8:2::/128")
    request = Request(key=WEB, families=(V4, V6), pool="new")
    held = (Address.parse("192.0.2.8"), Address.parse("2001:db8::"))
    catalog = Catalog.of([SIX, both])
    ledger = Ledger().claim(Claim(key=WEB, addresses=held, pools=("new", "six")))
    outcome = settle(request, held, catalog, ledger)
    assert outcome.allocation is not None
    assert ["192.0.2.8", "2001:db8:2::"] == [str(address) for address in outcome.allocation.addresses]


def test_two_addresses_asked_for_of_which_one_is_in_another_pool_are_not_half_granted_in_silence() -> None:
    pools = Pool.parse("four", "192.0.2.0/31"), Pool.parse("six", "2001:db8::/127")
    held = (Address.parse("192.0.2.0"), Address.parse("2001:db8::"))
    request = Request(key=WEB, families=(V4, V6), all_families=False, addresses=held, pool="four")
    ledger = Ledger().claim(Claim(key=WEB, addresses=held, pools=("four", "six")))
    outcome = settle(request, held, Catalog.of(pools), ledger)
    assert outcome.allocation is not None
    assert held == outcome.allocation.addresses
    assert outcome.refusal is not None
    assert Reason.ADDRESS_IN_OTHER_POOL is outcome.refusal.reason
