"""`keep-for`: a Service that comes back under its name has its address back, and nobody else had it meanwhile.

Judged by what the controller writes, on a clock of the test's own; what ought to be is worked out
beside it from the deletions alone.
"""

from __future__ import annotations

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from lbcore import assignment
from lbcore.addresses import Address, AddressRange, Family
from lbcore.assignment import AssignmentSettings, AssignmentState, explain
from lbcore.config import Pool
from lbcore.events import ConfigGone, ConfigSeen, Kind, Listed, ServiceGone, ServiceSeen, Tick
from lbcore.intents import SetAddresses, SetPoolUsage
from lbcore.keeping import Keeping, Reservation
from lbcore.ledger import Claim
from lbcore.model import IPFamilyPolicy, Port, Service, ServiceKey
from lbcore.pools import Catalog
from lbcore.verdicts import Reason, Refusal
from worlds import Desk, document, ipv4, ipv6, origin, plain_service

DUAL = ("10.96.0.1", "fd00::1")
LISTED = tuple(Listed(kind) for kind in (Kind.CONFIG, Kind.NAMESPACES, Kind.SERVICES))


def pool(name: str, *texts: str, keep_for: float = 0.0) -> Pool:
    return evolve(Pool.parse(name, *texts), keep_for=keep_for)


@define
class Cluster:
    """A controller, its clock, and Services that come and go; a write comes back as the status that it wrote."""

    pools: list[Pool]
    slice_size: int = 128
    desk: Desk[AssignmentState] = field(init=False)
    services: dict[str, Service] = field(factory=dict)
    refusals: dict[str, Refusal | None] = field(factory=dict)
    writes: list[SetAddresses] = field(factory=list)
    lives: int = 0

    def __attrs_post_init__(self) -> None:
        chosen = AssignmentSettings(slice_size=self.slice_size)
        self.desk = Desk(assignment.step, AssignmentState(settings=chosen))
        self.desk.feed(*(ConfigSeen(document(pool)) for pool in self.pools), *LISTED)
        self.settle()

    def settle(self) -> None:
        """Carry out everything that can be done without time going on."""
        seen = 0
        while True:
            self.desk.settle(until=self.desk.now)
            new = self.desk.intents[seen:]
            seen = len(self.desk.intents)
            writes = [each for each in new if isinstance(each, SetAddresses)]
            if not writes:
                self.desk.intents.clear()
                return
            self.writes += writes
            for write in writes:
                service = self.services.get(write.key.name)
                if service is not None and service.uid == write.uid:
                    self.refusals[write.key.name] = write.refusal
                    self.services[write.key.name] = evolve(service, held=write.addresses)
                    self.desk.feed(ServiceSeen(self.services[write.key.name]))

    def create(self, name: str, **fields: object) -> tuple[Address, ...]:
        """A new Service of this name; returns what it got."""
        self.lives += 1
        self.services[name] = plain_service(name, **{"uid": f"{name}-{self.lives}", **fields})
        self.desk.feed(ServiceSeen(self.services[name]))
        self.settle()
        return self.held(name)

    def delete(self, name: str) -> None:
        service = self.services.pop(name)
        self.desk.feed(ServiceGone(service.key, service.uid))
        self.settle()

    def change(self, name: str, **fields: object) -> None:
        self.services[name] = evolve(self.services[name], **fields)  # type: ignore[arg-type]
        self.desk.feed(ServiceSeen(self.services[name]))
        self.settle()

    def configure(self, *pools: Pool) -> None:
        """Other pools, in force when it has been quiet for a moment."""
        gone = [ConfigGone(origin(each.name)) for each in self.pools if each.name not in {p.name for p in pools}]
        self.pools = list(pools)
        self.desk.feed(*(ConfigSeen(document(each)) for each in pools), *gone)
        self.wait(0.2)

    def wait(self, seconds: float) -> None:
        until = self.desk.now + seconds
        while self.desk.wake_at is not None and self.desk.wake_at <= until:
            self.desk.now = max(self.desk.now, self.desk.wake_at)
            self.settle()
        self.desk.now = until
        self.settle()

    def held(self, name: str) -> tuple[Address, ...]:
        return self.services[name].held

    def why(self, name: str) -> str:
        refusal = self.refusals[name]
        assert refusal is not None
        return refusal.detail


def key(name: str) -> ServiceKey:
    return ServiceKey("red", name)


# Any history.

POOLS = [
    pool("keeps", "10.0.0.0/31", keep_for=10.0),
    pool("plain", "10.0.0.4/32"),
    pool("six", "2001:db8::/127", keep_for=4.0),
]
KINDS: dict[str, dict[str, object]] = {
    "a": {},
    "b": {},
    "c": {"cluster_ips": DUAL, "ip_family_policy": IPFamilyPolicy.PREFER_DUAL_STACK},
    "d": {"cluster_ips": DUAL, "ip_family_policy": IPFamilyPolicy.REQUIRE_DUAL_STACK},
    "e": {"cluster_ips": ("fd00::1",)},
    "f": {},
}
SPAN = {each: given.keep_for for given in POOLS for within in given.ranges for each in [within]}


def span_of(address: Address) -> float:
    return next(span for within, span in SPAN.items() if address in within)


def addresses_of(family: Family) -> set[Address]:
    ranges: list[AddressRange] = [within for within in SPAN if within.family is family]
    return {Address(each.version, value) for each in ranges for value in range(each.first, each.last + 1)}


@define
class Promises:
    """What must not be given to others: for each address for whom it is kept, and until when."""

    kept: dict[Address, tuple[str, float]] = field(factory=dict)

    def delete(self, name: str, held: tuple[Address, ...], now: float) -> None:
        self.kept |= {each: (name, now + span_of(each)) for each in held if span_of(each)}

    def at(self, now: float, cluster: Cluster) -> dict[Address, str]:
        served = {name for name, service in cluster.services.items() if service.held}
        self.kept = {a: (n, until) for a, (n, until) in self.kept.items() if until > now and n not in served}
        return {address: name for address, (name, _) in self.kept.items()}


actions = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(["flip", "again"]))
    | st.tuples(st.just(""), st.sampled_from([0.5, 3.5, 4.0, 6.0, 10.0])),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(actions, st.sampled_from([1, 128]))
def test_in_any_history_what_is_kept_goes_to_its_name_or_to_nobody(
    history: list[tuple[str, str | float]], slice_size: int
) -> None:
    cluster, promises = Cluster(POOLS, slice_size), Promises()
    for name, what in history:
        if isinstance(what, float):
            cluster.wait(what)
        else:
            _flip(cluster, promises, name, missed=what == "again")
        kept = promises.at(cluster.desk.now, cluster)
        _judge(cluster, kept)


def _flip(cluster: Cluster, promises: Promises, name: str, *, missed: bool) -> None:
    """Delete a Service or create it; or create it anew without its deletion ever being told."""
    now = cluster.desk.now
    if name in cluster.services:
        promises.delete(name, cluster.held(name), now)
        if not missed:
            cluster.delete(name)
            return
        del cluster.services[name]
    expected = {each for each, whose in promises.at(now, cluster).items() if whose == name}
    got = set(cluster.create(name, **KINDS[name]))
    # One that insists on both families may find that the other has gone meanwhile: then it waits.
    assert expected <= got or (name == "d" and not got)


def _judge(cluster: Cluster, kept: dict[Address, str]) -> None:
    held = {each: name for name, service in cluster.services.items() for each in service.held}
    assert len(held) == sum(len(service.held) for service in cluster.services.values())
    for address, name in held.items():
        assert kept.get(address, name) == name
    for name, service in cluster.services.items():
        free = {
            family
            for family in Family
            if any(each not in held and kept.get(each, name) == name for each in addresses_of(family))
        }
        if name == "d":
            assert service.held or not free >= set(Family)
        else:
            wanted = {Address.parse(text).family for text in service.cluster_ips}
            assert {each.family for each in service.held} >= wanted & free


# The rules, one by one.

KEEPER = pool("keeps", "2001:db8::/128", "10.0.0.1/32", keep_for=600.0)


def test_a_service_that_comes_back_has_its_addresses_back_though_others_wait() -> None:
    cluster = Cluster([KEEPER])
    dual: dict[str, object] = {"cluster_ips": DUAL, "ip_family_policy": IPFamilyPolicy.REQUIRE_DUAL_STACK}
    before = cluster.create("web", **dual)
    assert (ipv4(1), ipv6(0)) == before
    cluster.create("other")
    cluster.delete("web")
    cluster.wait(599)
    assert () == cluster.held("other")
    assert before == cluster.create("web", **dual)
    assert () == cluster.held("other")


def test_when_the_time_is_over_the_first_in_line_has_it_at_that_moment() -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.create("first")
    cluster.create("second")
    cluster.delete("web")
    asked_for = cluster.desk.wake_at
    assert cluster.desk.now + 600.0 == asked_for
    cluster.wait(600)
    assert ((ipv4(1),), ()) == (cluster.held("first"), cluster.held("second"))
    assert cluster.desk.wake_at is None
    assert () == cluster.create("web")


def test_a_pool_that_keeps_nothing_gives_at_once() -> None:
    cluster = Cluster([evolve(KEEPER, keep_for=0.0)])
    cluster.create("web")
    cluster.create("other")
    cluster.delete("web")
    assert (ipv4(1),) == cluster.held("other")


def test_who_waits_is_told_for_whom_it_is_kept_and_no_time() -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.create("any")
    cluster.create("this", load_balancer_ip="10.0.0.1")
    assert "in use by red/web" in cluster.why("this")
    cluster.delete("web")
    assert "no IPv4 address of the pool is free; 10.0.0.1 is kept for red/web (keep-for)" in cluster.why("any")
    assert cluster.why("this").startswith("10.0.0.1 is kept for red/web (keep-for); ")
    told = (cluster.why("any"), cluster.why("this"))
    cluster.wait(599)
    assert told == (cluster.why("any"), cluster.why("this"))
    cluster.create("web")
    assert "in use by red/web" in cluster.why("this")
    assert "kept" not in cluster.why("any")


def test_the_refusal_of_a_kept_address_has_the_reason_of_a_busy_one() -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.delete("web")
    cluster.create("this", load_balancer_ip="10.0.0.1", annotations={"metallb.io/allow-shared-ip": "k"})
    refusal = cluster.refusals["this"]
    assert refusal is not None
    assert Reason.ADDRESS_IN_USE is refusal.reason


def test_one_that_comes_back_with_another_wish_gets_that_and_lets_the_old_one_go() -> None:
    cluster = Cluster([KEEPER, pool("more", "10.0.0.8/31")])
    cluster.create("web", annotations={"metallb.io/address-pool": "keeps"})
    cluster.create("other", annotations={"metallb.io/address-pool": "keeps"})
    cluster.delete("web")
    assert (ipv4(9),) == cluster.create("web", load_balancer_ip="10.0.0.9")
    assert (ipv4(1),) == cluster.held("other")


def test_one_whose_other_wish_cannot_be_granted_waits_and_what_was_kept_stays_kept() -> None:
    cluster = Cluster([KEEPER, pool("more", "10.0.0.8/32")])
    cluster.create("holder", load_balancer_ip="10.0.0.8")
    cluster.create("web")
    cluster.delete("web")
    assert () == cluster.create("web", load_balancer_ip="10.0.0.8")
    why = explain(cluster.desk.state, key("web"))
    assert why is not None
    assert () == why.addresses
    assert () == cluster.create("other")
    cluster.change("web", load_balancer_ip="")
    assert (ipv4(1),) == cluster.held("web")


def test_one_whose_request_makes_no_sense_is_given_nothing_until_it_does() -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.delete("web")
    assert () == cluster.create("web", load_balancer_ip="web.example.com")
    assert () == cluster.create("other")
    cluster.change("web", load_balancer_ip="")
    assert (ipv4(1),) == cluster.held("web")


def test_the_time_is_not_begun_anew_by_one_that_never_had_the_address() -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.delete("web")
    cluster.wait(500)
    cluster.create("web", load_balancer_ip="web.example.com")
    cluster.delete("web")
    cluster.wait(100)
    assert (ipv4(1),) == cluster.create("other")


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "ClusterIP"},
        {"load_balancer_class": "other"},
        {"load_balancer_class": "other", "held": (ipv4(99),)},
    ],
    ids=["type", "class", "class-served-by-another"],
)
def test_one_that_comes_back_and_wants_no_address_of_ours_lets_go(fields: dict[str, object]) -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.create("other")
    cluster.delete("web")
    written = len(cluster.writes)
    cluster.create("web", **fields)
    assert (ipv4(1),) == cluster.held("other")
    assert ["other"] == [write.key.name for write in cluster.writes[written:]]
    assert cluster.desk.wake_at is None
    cluster.configure(evolve(KEEPER, labels={"a": "b"}))  # everything is looked at again
    assert (ipv4(1),) == cluster.held("other")


def test_a_service_of_another_type_is_not_deleted_and_nothing_is_kept() -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.create("other")
    cluster.change("web", type="ClusterIP")
    assert (ipv4(1),) == cluster.held("other")


@pytest.mark.parametrize(
    "after",
    [
        pool("keeps", "10.0.0.1/32"),
        pool("keeps", "10.0.0.2/32", keep_for=600.0),
        pool("renamed", "10.0.0.1/32"),
    ],
    ids=["keeps-no-more", "without-the-address", "renamed-and-keeps-not"],
)
def test_a_pool_that_no_longer_keeps_lets_go_at_once(after: Pool) -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.create("other")
    cluster.delete("web")
    cluster.configure(after)
    assert after.ranges[0].first == cluster.held("other")[0].value


def test_an_address_that_its_pool_avoids_now_is_kept_no_longer() -> None:
    cluster = Cluster([pool("keeps", "10.0.0.0/31", keep_for=600.0)])
    assert (ipv4(0),) == cluster.create("web")
    cluster.delete("web")
    cluster.configure(evolve(cluster.pools[0], avoid_buggy_ips=True))
    assert (0, None) == (len(cluster.desk.state.ledger), cluster.desk.wake_at)


def test_what_is_kept_goes_along_when_its_pool_is_renamed() -> None:
    cluster = Cluster([KEEPER])
    cluster.create("web")
    cluster.delete("web")
    cluster.configure(pool("renamed", "10.0.0.1/32", keep_for=600.0))
    assert 1 == cluster.desk.state.told_usage["renamed"].assigned_ipv4
    assert () == cluster.create("other")
    assert (ipv4(1),) == cluster.create("web")


def test_a_change_of_the_time_counts_for_those_that_are_deleted_after_it() -> None:
    cluster = Cluster([evolve(KEEPER, keep_for=50.0)])
    cluster.create("web")
    cluster.delete("web")
    cluster.configure(KEEPER)
    cluster.wait(50)
    assert (ipv4(1),) == cluster.create("other")


def test_each_address_is_kept_as_long_as_its_own_pool_says() -> None:
    cluster = Cluster([pool("four", "10.0.0.1/32", keep_for=60.0), pool("six", "2001:db8::1/128", keep_for=600.0)])
    dual: dict[str, object] = {"cluster_ips": DUAL, "ip_family_policy": IPFamilyPolicy.PREFER_DUAL_STACK}
    cluster.create("web", **dual)
    cluster.delete("web")
    cluster.wait(60)
    assert (ipv4(1),) == cluster.create("four")
    assert () == cluster.create("six", cluster_ips=("fd00::1",))
    assert (ipv6(1),) == cluster.create("web", **dual)


def test_what_is_left_of_a_reservation_keeps_its_turn() -> None:
    """Of two addresses one goes; the other's end comes before those of others that were put after it."""
    four, six = pool("four", "10.0.0.0/30", keep_for=60.0), pool("six", "2001:db8::/126", keep_for=30.0)
    cluster = Cluster([four, six])
    cluster.create("web", cluster_ips=DUAL, ip_family_policy=IPFamilyPolicy.PREFER_DUAL_STACK)
    cluster.create("later")
    cluster.delete("web")
    began = cluster.desk.now
    cluster.wait(1)
    cluster.delete("later")
    cluster.wait(29)  # web's IPv6 address is let go
    asked_for = cluster.desk.wake_at
    assert began + 60 == asked_for
    cluster.wait(30)
    asked_for = cluster.desk.wake_at
    assert began + 61 == asked_for


def test_those_who_may_share_an_address_still_may_while_it_is_kept() -> None:
    cluster = Cluster([KEEPER])
    shared: dict[str, object] = {"annotations": {"metallb.io/allow-shared-ip": "k"}}
    cluster.create("web", **shared)
    cluster.delete("web")
    assert (ipv4(1),) == cluster.create("dns", ports=(Port("UDP", 53),), **shared)
    assert () == cluster.create("rival", **shared)  # the port that is kept
    assert (ipv4(1),) == cluster.create("web", **shared)


def test_what_is_kept_counts_as_assigned() -> None:
    cluster = Cluster([pool("keeps", "10.0.0.0/30", "2001:db8::/126", keep_for=60.0)])
    cluster.create("web", cluster_ips=("fd00::1",))
    cluster.delete("web")
    told = cluster.desk.state.told_usage.get("keeps")
    assert SetPoolUsage(pool="keeps", assigned_ipv4=0, assigned_ipv6=1, available_ipv4=4, available_ipv6=3) == told
    cluster.wait(60)
    told = cluster.desk.state.told_usage.get("keeps")
    assert SetPoolUsage(pool="keeps", assigned_ipv4=0, assigned_ipv6=0, available_ipv4=4, available_ipv6=4) == told


def test_many_that_end_at_once_are_let_go_in_slices() -> None:
    cluster = Cluster([pool("keeps", "2001:db8::/120", keep_for=60.0)], slice_size=10)
    names = [f"n{number}" for number in range(256)]
    for name in names:
        cluster.create(name, cluster_ips=("fd00::1",))
    for name in names:
        cluster.delete(name)
    cluster.desk.now += 60
    cluster.desk.feed(Tick())
    half_done = cluster.desk.state
    assert not half_done.settled
    assert 10 == 256 - len(cluster.desk.state.keeping)
    cluster.desk.settle(until=cluster.desk.now)
    assert cluster.desk.state.settled
    assert 0 == len(cluster.desk.state.ledger)
    assert 0 == len(cluster.desk.state.keeping)


# The queues themselves.


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([1.0, 5.0, 7.0]), st.sampled_from("pdr")), max_size=30)
)
def test_what_is_due_is_what_a_search_finds(operations: list[tuple[str, float, str]]) -> None:
    keeping, plain, now = Keeping(), dict[str, float](), 0.0
    catalog = {span: Catalog.of([pool("p", "10.0.0.0/24", keep_for=span)]) for span in (1.0, 5.0, 7.0)}
    for name, span, operation in operations:
        now += 0.5
        if operation == "p" and name not in plain:
            claim = Claim(key=key(name), addresses=(ipv4(ord(name)),), pools=("p",))
            reservation = Reservation.of(claim, catalog[span], now)
            assert reservation is not None
            keeping = keeping.put(reservation)
            plain[name] = now + span
        elif operation == "r":
            keeping = keeping.remove(key(name))
            plain.pop(name, None)
        due = {each for each, end in plain.items() if end <= now}
        found = keeping.due(now)
        assert (found.name in due) if found is not None else not due
        assert min(plain.values(), default=None) == keeping.next_end
        assert len(plain) == len(keeping)
