"""The ledger against a plain dictionary of who holds what, with its own idea of MetalLB's sharing rule."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from lbcore.addresses import Address, AddressRange
from lbcore.ledger import Claim, Conflict, Ledger, Usage
from lbcore.model import Port, ServiceKey
from lbcore.sharing import Sharing
from strategies import keys, ports, sharings

# Two places in each family, at the border of a /24 and at the end of the family.
PLACES = {
    4: (*range(0x0A0000FD, 0x0A000102), *range(0xFFFFFFFD, 1 << 32)),
    6: (*range((1 << 96) + 0xFD, (1 << 96) + 0x102), *range((1 << 128) - 3, 1 << 128)),
}
WINDOWS = [
    AddressRange(version, first, last)
    for version, places in PLACES.items()
    for first, last in ((places[0], places[4]), (places[1], places[3]), (places[5], places[7]), (0, places[-1]))
]
some_addresses = st.lists(
    st.sampled_from([Address(version, value) for version, places in PLACES.items() for value in places]),
    min_size=1,
    max_size=2,
    unique_by=lambda address: address.version,
).map(lambda found: tuple(sorted(found)))
pool_names = st.sampled_from(["bronze", "silver"])


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    addresses = draw(some_addresses)
    pools = tuple(draw(pool_names) for _ in addresses)
    return Claim(key=draw(keys), addresses=addresses, pools=pools, ports=draw(ports), sharing=draw(sharings))


Model = dict[ServiceKey, Claim]


def others_on(model: Model, address: Address, key: ServiceKey) -> list[Claim]:
    return [claim for claim in model.values() if address in claim.addresses and claim.key != key]


def may_have(model: Model, address: Address, claim: Claim) -> bool:
    """Alone, or all with one sharing key and one backend, and no port twice."""
    return all(
        claim.sharing is not None and other.sharing == claim.sharing and not set(other.ports) & set(claim.ports)
        for other in others_on(model, address, claim.key)
    )


class LedgerAgainstADictionary(RuleBasedStateMachine):
    """Claims and releases in any order; every question has the dictionary's answer."""

    past = Bundle("past")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.model: Model = {}

    @rule(claim=claims())
    def claim_or_be_refused(self, claim: Claim) -> None:
        allowed = all(may_have(self.model, address, claim) for address in claim.addresses)
        if allowed:
            self.ledger = self.ledger.claim(claim)
            self.model[claim.key] = claim
            assert self.ledger is self.ledger.claim(claim)
        else:
            with pytest.raises(ValueError, match=f"{claim.key} cannot claim"):
                self.ledger.claim(claim)

    @rule(data=st.data(), some_ports=ports, sharing=sharings, pool=pool_names)
    def claim_the_same_addresses_on_other_terms(
        self, data: st.DataObject, some_ports: tuple[Port, ...], sharing: Sharing | None, pool: str
    ) -> None:
        if not self.model:
            return
        key = data.draw(st.sampled_from(sorted(self.model)))
        before = self.model[key]
        pools = tuple(pool for _ in before.pools)
        self.claim_or_be_refused(attrs.evolve(before, ports=some_ports, sharing=sharing, pools=pools))

    @rule(data=st.data(), key=keys)
    def join_somebody(self, data: st.DataObject, key: ServiceKey) -> None:
        """Ask for what another holds, on its own terms and a port or two: the rule that random claims seldom meet."""
        if not self.model:
            return
        other = self.model[data.draw(st.sampled_from(sorted(self.model)))]
        self.claim_or_be_refused(attrs.evolve(other, key=key, ports=data.draw(ports)))

    @rule(key=keys)
    def release(self, key: ServiceKey) -> None:
        held = self.model.pop(key, None)
        released = self.ledger.release(key)
        assert (held is None) == (released is self.ledger)
        self.ledger = released

    @rule(target=past)
    def remember(self) -> tuple[Ledger, Model]:
        return self.ledger, dict(self.model)

    @rule(old=consumes(past))
    def an_old_ledger_is_still_what_it_was(self, old: tuple[Ledger, Model]) -> None:
        self.agree(*old)

    @rule(claim=claims(), address=some_addresses)
    def ask_for_a_conflict(self, claim: Claim, address: tuple[Address, ...]) -> None:
        one = address[0]
        conflict = self.ledger.conflict(one, claim.key, ports=claim.ports, sharing=claim.sharing)
        assert may_have(self.model, one, claim) == (conflict is None)
        if conflict is None:
            return
        in_the_way = {other.key: other for other in others_on(self.model, one, claim.key)}
        assert one == conflict.address
        holder = in_the_way[conflict.holder]
        on_our_terms = claim.sharing is not None and holder.sharing == claim.sharing
        assert on_our_terms == (conflict.port is not None)
        assert conflict.port is None or conflict.port in set(holder.ports) & set(claim.ports)

    @rule(window=st.sampled_from(WINDOWS), avoid=st.booleans(), wish=claims())
    def find_an_address(self, window: AddressRange, avoid: bool, wish: Claim) -> None:
        held = {address for claim in self.model.values() for address in claim.addresses}
        free = (
            Address(window.version, value)
            for value in range(window.first, window.last + 1)
            if Address(window.version, value) not in held
            and not (avoid and window.version == 4 and value & 255 in (0, 255))
        )
        assert next(free, None) == self.ledger.first_free(window, avoid_buggy=avoid)
        if wish.sharing is None:
            return
        joinable = (
            address
            for address in sorted(held)
            if address in window
            and not (avoid and address.version == 4 and address.value & 255 in (0, 255))
            and all(
                claim.sharing == wish.sharing and not set(claim.ports) & set(wish.ports)
                for claim in self.model.values()
                if address in claim.addresses
            )
        )
        found = self.ledger.first_joinable(window, wish.sharing, wish.ports, avoid_buggy=avoid)
        assert next(joinable, None) == found

    @invariant()
    def everything_is_as_in_the_dictionary(self) -> None:
        self.agree(self.ledger, self.model)

    def agree(self, ledger: Ledger, model: Model) -> None:
        assert len(model) == len(ledger)
        assert model == {claim.key: claim for claim in ledger}
        for address in (Address(version, value) for version, places in PLACES.items() for value in places):
            expected = tuple(sorted(claim.key for claim in model.values() if address in claim.addresses))
            assert expected == ledger.holders(address)
        counted = {name: ledger.usage(name) for name in ("bronze", "silver", "gold")}
        distinct = {address for claim in model.values() for address in claim.addresses}
        assert len(distinct) == sum(usage.ipv4 + usage.ipv6 for usage in counted.values())
        for name, usage in counted.items():
            # An address whose sharers know it by two pools' names counts once, for either.
            sure, maybe = _held_in(model, name)
            assert len([a for a in sure if a.version == 4]) <= usage.ipv4 <= len([a for a in maybe if a.version == 4])
            assert len([a for a in sure if a.version == 6]) <= usage.ipv6 <= len([a for a in maybe if a.version == 6])

    def teardown(self) -> None:
        for key in sorted(self.model, key=lambda key: key.name + key.namespace):
            assert self.ledger.of(key) == self.model[key]
            self.ledger = self.ledger.release(key)
            assert self.ledger.of(key) is None
        assert Ledger() == self.ledger


def _held_in(model: Model, pool: str) -> tuple[set[Address], set[Address]]:
    """The addresses whose every holder says they are of this pool, and those of which any does."""
    said: dict[Address, set[str]] = {}
    for claim in model.values():
        for address, name in zip(claim.addresses, claim.pools, strict=True):
            said.setdefault(address, set()).add(name)
    return {a for a, names in said.items() if names == {pool}}, {a for a, names in said.items() if pool in names}


TestLedger = LedgerAgainstADictionary.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


V6, V4 = Address.parse("2001:db8::7"), Address.parse("192.0.2.7")
HTTP, DNS = Port("TCP", 80), Port("UDP", 53)


def shared(name: str, *some_ports: Port, pool: str = "bronze", at: Address = V6) -> Claim:
    key = ServiceKey("red", name)
    return Claim(key=key, addresses=(at,), pools=(pool,), ports=some_ports, sharing=Sharing("k"))


def test_the_sharer_that_renames_the_pool_moves_the_count() -> None:
    ledger = Ledger().claim(shared("a", HTTP)).claim(shared("b", DNS))
    assert Usage(ipv6=1) == ledger.usage("bronze")
    moved = ledger.claim(shared("b", DNS, pool="silver"))
    assert (Usage(), Usage(ipv6=1)) == (moved.usage("bronze"), moved.usage("silver"))
    alone = moved.release(ServiceKey("red", "a"))
    assert Usage(ipv6=1) == alone.usage("silver")
    assert Ledger() == alone.release(ServiceKey("red", "b"))


def test_usage_counts_each_family_apart() -> None:
    both = Claim(key=ServiceKey("red", "a"), addresses=(V4, V6), pools=("bronze", "bronze"))
    assert Usage(ipv4=1, ipv6=1) == Ledger().claim(both).usage("bronze")
    assert Usage(ipv4=1) == Ledger().claim(attrs.evolve(both, addresses=(V4,), pools=("bronze",))).usage("bronze")


def test_a_conflict_names_the_holder_and_the_port() -> None:
    ledger = Ledger().claim(shared("a", HTTP)).claim(shared("b", DNS))
    wish = ServiceKey("blue", "c")
    assert Conflict(address=V6, holder=ServiceKey("red", "b"), port=DNS) == ledger.conflict(
        V6, wish, ports=(DNS,), sharing=Sharing("k")
    )
    other_terms = ledger.conflict(V6, wish, ports=(DNS,), sharing=Sharing("k", "app=web"))
    assert Conflict(address=V6, holder=ServiceKey("red", "a")) == other_terms


def test_a_port_named_twice_is_one_port() -> None:
    claim = shared("a", HTTP, HTTP)
    assert Ledger() == Ledger().claim(claim).release(claim.key)


def test_of_many_sharers_a_conflict_names_the_one_that_came_first() -> None:
    ledger = Ledger()
    for number in range(40):
        ledger = ledger.claim(shared(f"s{number * 7 % 40:02}", Port("TCP", number)))
    first, second, asking = ServiceKey("red", "s00"), ServiceKey("red", "s07"), ServiceKey("blue", "x")
    assert Conflict(address=V6, holder=first) == ledger.conflict(V6, asking)
    assert Conflict(address=V6, holder=second) == ledger.conflict(V6, first)
    assert Conflict(address=V6, holder=second) == ledger.release(first).conflict(V6, asking)


def test_a_service_is_not_in_its_own_way() -> None:
    alone = Ledger().claim(attrs.evolve(shared("a", HTTP), sharing=None))
    assert alone.conflict(V6, ServiceKey("red", "a"), ports=(HTTP,)) is None
    among = Ledger().claim(shared("a", HTTP)).claim(shared("b", DNS))
    assert among.conflict(V6, ServiceKey("red", "b"), ports=(DNS,), sharing=Sharing("k")) is None
