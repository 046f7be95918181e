"""The controller's brain against any history: judged by what it writes, never by its state.

What a settled cluster must look like is worked out by brute force (`model_allocation`): no Service
holds what it may not hold, and no Service could have more of what it asks for than it has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import model_allocation as model
from lbcore import assignment
from lbcore.addresses import Address, Family
from lbcore.assignment import AssignmentSettings, AssignmentState, explain
from lbcore.config import Config, Pool, ServiceAllocation, build
from lbcore.events import (
    AddressHeard,
    Applied,
    ConfigGone,
    ConfigSeen,
    Event,
    Failed,
    Kind,
    Listed,
    NamespaceSeen,
    ServiceGone,
    ServiceSeen,
    Stopping,
    Tick,
)
from lbcore.intents import EventType, Intent, RecordEvent, ReportConfig, SetAddresses, SetPoolUsage
from lbcore.ledger import Claim, Ledger
from lbcore.model import IPFamilyPolicy, LabelSelector, Namespace, Port, Service, ServiceKey
from lbcore.requests import Request, read_request
from lbcore.sharing import sharing_of
from lbcore.verdicts import Reason
from strategies import labels
from worlds import (
    Controlled,
    Desk,
    broken,
    document,
    ipv4,
    ipv6,
    origin,
    plain_service,
    pool_sets,
    wish_of,
    wishful_services,
    world_of,
)

LISTED = tuple(Listed(kind) for kind in (Kind.CONFIG, Kind.NAMESPACES, Kind.SERVICES))


def new_desk(slice_size: int = 128, **chosen: object) -> Desk[AssignmentState]:
    chosen["slice_size"] = slice_size
    return Desk(assignment.step, AssignmentState(settings=AssignmentSettings(**chosen)))  # type: ignore[arg-type]


def controller(*events: Event, slice_size: int = 128) -> Desk[AssignmentState]:
    """A controller that has been told this and that it is everything, and has come to rest."""
    desk = new_desk(slice_size)
    desk.run(*events, *LISTED)
    return desk


def writes(intents: Iterable[Intent]) -> list[SetAddresses]:
    return [intent for intent in intents if isinstance(intent, SetAddresses)]


def pool(name: str, *texts: str) -> ConfigSeen:
    return ConfigSeen(document(Pool.parse(name, *texts)))


def is_ours(service: Service) -> bool:
    return service.type == "LoadBalancer" and service.load_balancer_class is None


def request_of(service: Service) -> Request:
    """What it asks for; of a request that makes no sense, what it may keep: one address of each family."""
    request = read_request(service)
    if isinstance(request, Request):
        return request
    terms = service.annotations.get("metallb.io/allow-shared-ip", "")
    return Request(
        key=service.key,
        families=(Family.IPV4, Family.IPV6),
        all_families=False,
        ports=service.ports,
        sharing=sharing_of(service, terms),
        labels=service.labels,
    )


def some_services() -> st.SearchStrategy[list[Service]]:
    """One to five Services, of eight that there can be."""
    names = st.builds(ServiceKey, st.sampled_from(["red", "blue"]), st.sampled_from(["a", "b", "c", "d"]))
    return st.lists(names.flatmap(wishful_services), min_size=1, max_size=5, unique_by=lambda each: each.key)


@attrs.frozen
class Memory:
    """How one Service stood when the cluster was last at rest."""

    spec: Service
    held: tuple[Address, ...]
    contented: bool


class AnyHistory(RuleBasedStateMachine):
    """Anything happens in any order; when it is quiet, the cluster must be as brute force has it."""

    @initialize(
        slice_size=st.sampled_from([1, 2, 5, 128]), annotates=st.booleans(), pools=pool_sets, services=some_services()
    )
    def begin(self, slice_size: int, annotates: bool, pools: tuple[Pool, ...], services: list[Service]) -> None:
        self.cluster = Controlled(annotates=annotates)
        for name in ("red", "blue"):
            self.cluster.put_namespace(Namespace(name=name, labels={"tier": "gold"} if name == "red" else {}))
        for each in pools:
            self.cluster.put_document(document(each))
        for service in services:
            self.cluster.put(service)
        self.in_force: Config | None = None
        self.usage: dict[str, SetPoolUsage] = {}
        self.remembered: dict[ServiceKey, Memory] = {}
        self.rules_changed = False
        self.boot(slice_size, random.Random(0))

    # The controller starts, with whatever the cluster holds at that moment.

    def boot(self, slice_size: int, rng: random.Random) -> None:
        self.cluster.untold.clear()
        self.cluster.asked.clear()
        self.desk = new_desk(slice_size)
        self.desk.on_step = self.take_note
        listing = self.cluster.listing(rng)
        waited_for = set(LISTED)
        for event in listing:
            waited_for.discard(event)
            intents = self.desk.feed(event)
            assert not waited_for or not intents

    def take_note(self, intents: tuple[Intent, ...]) -> None:
        assert len(writes(intents)) <= self.desk.state.settings.slice_size
        self.cluster.ask(intents)
        for intent in intents:
            if isinstance(intent, ReportConfig):
                self.rules_changed |= self.in_force != intent.config
                self.in_force = intent.config
            if isinstance(intent, SetPoolUsage):
                self.usage[intent.pool] = intent

    # What happens in the cluster.

    @rule(services=some_services())
    def put(self, services: list[Service]) -> None:
        for service in services:
            self.cluster.put(service)

    def a_key(self, data: st.DataObject) -> ServiceKey:
        return data.draw(st.sampled_from(sorted(self.cluster.services)))

    @precondition(lambda self: self.cluster.services)
    @rule(data=st.data(), what=st.sampled_from(["ports", "labels", "annotations", "external_traffic_policy"]))
    def change_in_part(self, data: st.DataObject, what: str) -> None:
        key = self.a_key(data)
        other = data.draw(wishful_services(key))
        self.cluster.put(attrs.evolve(self.cluster.services[key], **{what: getattr(other, what)}))

    @precondition(lambda self: self.cluster.services)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.cluster.delete(self.a_key(data))

    @precondition(lambda self: self.cluster.services)
    @rule(data=st.data(), noticed=st.booleans())
    def create_anew(self, data: st.DataObject, noticed: bool) -> None:
        key = self.a_key(data)
        self.cluster.delete(key, noticed=noticed)
        self.cluster.put(data.draw(wishful_services(key)))

    @precondition(lambda self: any(each.load_balancer_class for each in self.cluster.services.values()))
    @rule(number=st.integers(0, 3))
    def another_controller_writes(self, number: int) -> None:
        """Its Services are its own, whatever it writes."""
        self.rest()
        strangers = [
            each.key for each in self.cluster.services.values() if each.load_balancer_class and each.is_load_balancer
        ]
        for key in strangers:
            self.cluster.claim_from_outside(key, ipv4(0xFC + number))
        self.rest()
        assert all((ipv4(0xFC + number),) == self.cluster.services[key].held for key in strangers)

    @rule(name=st.sampled_from(["red", "blue"]), given_labels=labels, there=st.sampled_from([True, True, False]))
    def change_namespace(self, name: str, given_labels: dict[str, str], there: bool) -> None:
        self.rules_changed = True
        if there:
            self.cluster.put_namespace(Namespace(name=name, labels=given_labels))
        elif name in self.cluster.namespaces:
            self.cluster.delete_namespace(name)

    @rule(pools=pool_sets, data=st.data())
    def configure(self, pools: tuple[Pool, ...], data: st.DataObject) -> None:
        documents = {each.origin: each for each in map(document, pools)}
        for where in data.draw(st.permutations(sorted({*self.cluster.documents, *documents}))):
            if where in documents:
                self.cluster.put_document(documents[where])
            else:
                self.cluster.delete_document(where)
            if data.draw(st.integers(0, 3)) == 0:
                self.deliver(100)
                self.wait(0.06)

    # What happens between the cluster and the controller.

    @rule(count=st.integers(0, 8), seconds=st.sampled_from([0.0, 0.0, 0.03, 0.06, 0.2]))
    def deliver_and_wait(self, count: int, seconds: float) -> None:
        self.deliver(count)
        self.wait(seconds)

    def deliver(self, count: int) -> None:
        events, self.cluster.untold = self.cluster.untold[:count], self.cluster.untold[count:]
        self.desk.feed(*events)

    def wait(self, seconds: float) -> None:
        until = self.desk.now + seconds
        self.desk.settle(until)
        self.desk.now = max(self.desk.now, until)

    @precondition(lambda self: self.cluster.asked)
    @rule(
        data=st.data(), hows=st.lists(st.sampled_from(["answer first", "echo first", "refuse"]), min_size=1, max_size=4)
    )
    def write(self, data: st.DataObject, hows: list[str]) -> None:
        for how in hows[: len(self.cluster.asked)]:
            key = data.draw(st.sampled_from(sorted(self.cluster.asked)))
            if how == "refuse":
                self.cluster.refuse(key)
            else:
                self.cluster.carry_out(key, answer_first=how == "answer first")

    @rule(slice_size=st.sampled_from([1, 3, 128]), rng=st.randoms(use_true_random=False))
    def crash(self, slice_size: int, rng: random.Random) -> None:
        """Writes that were asked for are lost, and the next controller finds what got through."""
        self.remembered, self.rules_changed = {}, True
        self.boot(slice_size, rng)

    # At rest.

    def rest(self) -> None:
        for _ in range(200):
            self.desk.feed(*self.cluster.untold)
            self.cluster.untold = []
            self.desk.settle()
            for key in sorted(self.cluster.asked):
                self.cluster.carry_out(key, answer_first=len(key.name) % 2 == 0)
            if not self.cluster.untold:
                return
        raise AssertionError("the cluster and the controller go on for ever")

    @rule()
    def look_at_rest(self) -> None:
        self.rest()
        built = build(self.cluster.documents.values())
        if isinstance(built, Config):
            assert built == self.in_force
        if self.in_force is None:
            assert all(not each.held for each in self.cluster.services.values() if is_ours(each))
            return
        ours = [each for each in self.cluster.services.values() if is_ours(each)]
        assert all(not each.held for each in self.cluster.services.values() if each.type != "LoadBalancer")
        world = world_of(self.in_force, self.cluster.namespaces, [(request_of(each), each.held) for each in ours])
        contented = {service.key: self.judge(service, world) for service in ours}
        self.judge_usage(world)
        self.compare_with_memory(contented)

    def judge(self, service: Service, world: model.World) -> bool:
        """Brute force: what it holds it may hold, and it could not have more of what it asks for."""
        held = {(address.version, address.value) for address in service.held}
        assert len(held) == len(service.held) == len({version for version, _ in held})
        wish = wish_of(request_of(service))
        assert all(world.grantable(address, wish) for address in held)
        said = explain(self.desk.state, service.key)
        assert said is not None
        assert service.held == said.addresses
        if not isinstance(read_request(service), Request):
            assert said.refusal == read_request(service)
            return False
        best = model.settle(world, wish, sorted(held))
        assert set(best.grant) == held
        assert best.refused == (said.refusal is not None)
        return not best.refused

    def judge_usage(self, world: model.World) -> None:
        for each in world.pools:
            used = {
                address for held in world.held.values() for address in held.addresses if world.owner(address) is each
            }
            said = self.usage[each.name]
            count = {version: sum(1 for address in used if address[0] == version) for version in (4, 6)}
            free = {version: len(set(each.usable(version)) - used) for version in (4, 6)}
            assert (count[4], count[6]) == (said.assigned_ipv4, said.assigned_ipv6)
            assert (free[4], free[6]) == (said.available_ipv4, said.available_ipv6)

    def compare_with_memory(self, contented: dict[ServiceKey, bool]) -> None:
        """What nobody touched has not moved, unless it was waiting for something better."""
        for key, before in self.remembered.items():
            service = self.cluster.services.get(key)
            if self.rules_changed or service is None or spec_of(service) != before.spec:
                continue
            if before.contented or not contented.get(key, False):
                assert set(before.held) <= set(service.held)  # a family may have been added
        self.remembered = {
            key: Memory(spec_of(self.cluster.services[key]), self.cluster.services[key].held, is_contented)
            for key, is_contented in contented.items()
        }
        self.rules_changed = False

    def echo_everything(self) -> None:
        """Quiet is quiet: being told again what is known moves nobody, and the second time says nothing."""
        self.rest()
        for event in self.cluster.listing(random.Random(0)):
            for intent in writes(self.desk.run(event)):
                # A refusal names what is in the way: that may be others than when it was last worked out.
                assert intent.refusal is not None
                assert self.cluster.services[intent.key].held == intent.addresses
        self.rest()
        for event in self.cluster.listing(random.Random(1)):
            assert [] == self.desk.run(event)
        assert [] == self.desk.run(Stopping(), AddressHeard(address=ipv4(1), mac=bytes(6), link="eth0"))

    @rule(rng=st.randoms(use_true_random=False), sizes=st.permutations([1, 4, 128]))
    def look_and_restart(self, rng: random.Random, sizes: list[int]) -> None:
        self.look_at_rest()
        self.echo_everything()
        self.restart(rng, sizes)

    def restart(self, rng: random.Random, sizes: list[int]) -> None:
        """A controller that starts on a cluster at rest moves nobody, in whatever order it is told."""
        self.rest()
        if self.in_force is None or not isinstance(build(self.cluster.documents.values()), Config):
            return
        before = {key: each.held for key, each in self.cluster.services.items()}
        intents = new_desk(sizes[0]).run(*self.cluster.listing(rng))
        self.boot(sizes[1], rng)
        self.desk.settle()
        assert writes(intents) == writes(self.desk.intents)
        for intent in writes(intents):
            assert before[intent.key] == intent.addresses
            # It says again why it waits; a holder that lacks nothing is not written at all.
            assert intent.refusal is not None

    @rule(name=st.sampled_from(["pool-a", "pool-b", "pool-x"]))
    def break_the_configuration(self, name: str) -> None:
        """An invalid document changes nothing; its repair is taken."""
        self.rest()
        if self.in_force is None or not isinstance(build(self.cluster.documents.values()), Config):
            return
        good, where = self.cluster.documents.get(origin(name)), origin(name)
        in_force = self.in_force
        self.cluster.put_document(broken(name))
        self.rest()
        (report,) = [intent for intent in self.desk.intents[-1:] if isinstance(intent, ReportConfig)]
        assert (in_force, 1) == (report.config, len(report.problems))
        assert [report] == self.desk.intents[-1:]
        if good is None:
            self.cluster.delete_document(where)
        else:
            self.cluster.put_document(good)
        self.rest()
        assert ReportConfig(config=in_force) == self.desk.intents[-1]

    @precondition(lambda self: any(is_ours(each) and each.held for each in self.cluster.services.values()))
    @rule(
        data=st.data(), nonsense=st.sampled_from(["garbage", "10.0.0.252,10.0.0.253,10.0.0.254", "both", "203.0.113.9"])
    )
    def ask_for_what_cannot_be(self, data: st.DataObject, nonsense: str) -> None:
        """A Service that asks for nonsense, or for an address of no pool, keeps what it has."""
        self.rest()
        holders = [each for each in self.cluster.services.values() if is_ours(each) and each.held]
        if not holders:
            return
        service = data.draw(st.sampled_from(sorted(holders, key=lambda each: each.key)))
        annotations = dict(service.annotations) | {"metallb.io/loadBalancerIPs": nonsense}
        if nonsense == "both":
            annotations["metallb.io/loadBalancerIPs"] = "10.0.0.252"
            service = attrs.evolve(service, load_balancer_ip="10.0.0.253")
        self.cluster.put(attrs.evolve(service, annotations=annotations))
        self.rest()
        if self.in_force is not None:
            assert service.held == self.cluster.services[service.key].held

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            self.look_and_restart(random.Random(1), [1, 4, 128])
            self.look_at_rest()


def spec_of(service: Service) -> Service:
    annotations = {name: value for name, value in service.annotations.items() if "allocated-from" not in name}
    return attrs.evolve(service, held=(), annotations=annotations)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.slow
def test_many_more_histories() -> None:
    run_state_machine_as_test(AnyHistory, settings=settings(max_examples=400, stateful_step_count=50, deadline=None))


# Waiting.


def any_address(name: str) -> Service:
    return plain_service(name, cluster_ips=("fd00::1",))


def one_address(name: str) -> Service:
    return plain_service(name, cluster_ips=("fd00::1",), load_balancer_ip="2001:db8::")


def no_company(name: str) -> Service:
    """All of these would share, and none can: they use the same port."""
    return plain_service(name, cluster_ips=("fd00::1",), annotations={"metallb.io/allow-shared-ip": "k"})


def both_families(name: str) -> Service:
    return plain_service(name, cluster_ips=("fd00::1", "10.96.0.1"), ip_family_policy=IPFamilyPolicy.REQUIRE_DUAL_STACK)


KINDS_OF_WAITERS = [any_address, one_address, no_company, both_families]


def room_for(count: int) -> ConfigSeen:
    return pool("p", f"2001:db8::-{ipv6(count - 1)}", f"10.0.0.0-{ipv4(count - 1)}")


@given(
    make=st.sampled_from(KINDS_OF_WAITERS),
    slice_size=st.sampled_from([1, 2, 128]),
    history=st.lists(
        st.sampled_from(["come", "come", "come", "holder goes", "waiter goes", "give up and ask again", "grow"]),
        max_size=30,
    ),
    rng=st.randoms(use_true_random=False),
)
def test_those_who_wait_are_served_in_the_order_in_which_they_came(
    make: Callable[[str], Service], slice_size: int, history: list[str], rng: random.Random
) -> None:
    size = 1
    desk = controller(room_for(size), slice_size=slice_size)
    holders: list[ServiceKey] = []
    line: list[ServiceKey] = []
    for number, what in enumerate(history):
        if what == "come":
            service = make(f"{rng.randrange(1000)}-{number}")  # names in no order
            line.append(service.key)
            intents = desk.run(ServiceSeen(service))
        elif what == "grow":
            size += 1
            intents = desk.run(room_for(size))
        elif what == "give up and ask again":
            if not holders:
                continue
            service = make(holders.pop(rng.randrange(len(holders))).name)
            line.append(service.key)
            intents = desk.run(ServiceSeen(attrs.evolve(service, type="ClusterIP")), ServiceSeen(service))
        else:
            leaving = holders if what == "holder goes" else line
            if not leaving:
                continue
            intents = desk.run(ServiceGone(leaving.pop(rng.randrange(len(leaving)))))
        room = (1 if make is one_address else size) - len(holders)
        served, line = line[:room], line[room:]
        holders += served
        assert served == [intent.key for intent in writes(intents) if intent.addresses]


@pytest.mark.parametrize("make", KINDS_OF_WAITERS)
def test_an_address_that_becomes_free_costs_no_more_when_many_wait(make: Callable[[str], Service]) -> None:
    waiters = [ServiceSeen(make(f"waiter-{number}")) for number in range(100)]
    desk = controller(room_for(1), ServiceSeen(make("holder")), slice_size=1)
    desk.run(*waiters)
    steps: list[tuple[Intent, ...]] = []
    desk.on_step = steps.append
    desk.run(ServiceGone(ServiceKey("red", "holder")))
    assert [ServiceKey("red", "waiter-0")] == [intent.key for intents in steps for intent in writes(intents)]
    assert len(steps) <= 4  # a look at one Service each


def test_who_changes_what_it_waits_for_keeps_its_place_where_it_goes_on_waiting() -> None:
    desk = controller(room_for(1), *(ServiceSeen(any_address(name)) for name in ("a-holder", "first", "second")))
    desk.run(ServiceSeen(no_company("first")))
    (served,) = writes(desk.run(ServiceGone(ServiceKey("red", "a-holder"))))
    assert "first" == served.key.name


def test_a_family_of_the_pool_it_is_in_is_waited_for_even_if_that_is_not_automatic() -> None:
    named = {"metallb.io/address-pool": "p"}
    manual = ConfigSeen(document(attrs.evolve(Pool.parse("p", "10.0.0.0/31", "2001:db8::/128"), auto_assign=False)))
    six = attrs.evolve(any_address("six"), annotations=named)
    dual = attrs.evolve(both_families("dual"), ip_family_policy=IPFamilyPolicy.PREFER_DUAL_STACK, annotations=named)
    desk = controller(manual, ServiceSeen(six))
    assert [(ipv4(0),)] == [each.addresses for each in writes(desk.run(ServiceSeen(dual)))]
    assert [] == writes(desk.run(ServiceSeen(attrs.evolve(dual, annotations={}, held=(ipv4(0),)))))
    assert [(ipv4(0), ipv6(0))] == [each.addresses for each in writes(desk.run(ServiceGone(six.key)))]


def test_a_family_it_has_from_elsewhere_is_waited_for_in_the_pool_it_asks_for() -> None:
    dual = attrs.evolve(both_families("dual"), held=(ipv4(512),))
    asking = attrs.evolve(dual, annotations={"metallb.io/address-pool": "p"})
    four = plain_service("four", annotations={"metallb.io/address-pool": "p"})
    desk = controller(pool("p", "10.0.0.0/32", "2001:db8::/64"), pool("q", "10.0.2.0/32"), ServiceSeen(four))
    (refused,) = writes(desk.run(ServiceSeen(asking)))
    assert ((ipv4(512),), True) == (refused.addresses, refused.refusal is not None)
    assert [(ipv4(0), ipv6(0))] == [each.addresses for each in writes(desk.run(ServiceGone(four.key)))]


def test_the_address_of_an_object_that_was_created_anew_unnoticed_goes_to_who_waited() -> None:
    desk = controller(room_for(1), ServiceSeen(any_address("holder")), ServiceSeen(any_address("waiter")))
    intents = writes(desk.run(ServiceSeen(attrs.evolve(any_address("holder"), uid="another"))))
    assert [("waiter", 1), ("holder", 0)] == [(each.key.name, len(each.addresses)) for each in intents]


def test_company_is_found_when_a_sharer_makes_room() -> None:
    terms = {"metallb.io/allow-shared-ip": "k"}
    first, second, waiter = (
        plain_service(name, cluster_ips=("fd00::1",), annotations=terms, ports=(Port("TCP", number),))
        for name, number in [("first", 80), ("second", 443), ("waiter", 443)]
    )
    desk = controller(room_for(1), *map(ServiceSeen, (first, second, waiter)))
    granted = [intent.key for intent in writes(desk.intents) if intent.addresses]
    assert [first.key, second.key] == granted
    moved = attrs.evolve(second, ports=(Port("TCP", 8443),), held=(ipv6(0),))
    assert [(waiter.key, (ipv6(0),))] == [(each.key, each.addresses) for each in writes(desk.run(ServiceSeen(moved)))]


def test_holders_who_must_move_come_before_those_who_never_had_an_address() -> None:
    waiter = plain_service("0-waiter", type="ClusterIP")
    desk = controller(pool("p", "10.0.0.0/31"), *map(ServiceSeen, (waiter, plain_service("a"), plain_service("b"))))
    desk.run(ServiceSeen(attrs.evolve(waiter, type="LoadBalancer")))
    moved = writes(desk.run(pool("p", "10.0.1.0/31")))
    assert {"a", "b"} == {intent.key.name for intent in moved if intent.addresses}


# Starting.


def test_at_a_start_all_claims_are_entered_before_anything_new_is_given() -> None:
    stray = attrs.evolve(any_address("stray"), held=(ipv6(999),), created="2020")
    holder = attrs.evolve(any_address("holder"), held=(ipv6(0),), created="2025")
    assert ["stray"] == [each.key.name for each in writes(controller(room_for(2), *seen(stray, holder)).intents)]


def test_at_a_start_holders_who_must_move_come_before_newcomers() -> None:
    newcomer = attrs.evolve(any_address("newcomer"), created="2020")
    stray = attrs.evolve(any_address("stray"), held=(ipv6(999),), created="2025")
    served = [
        each.key.name for each in writes(controller(room_for(1), *seen(newcomer, stray)).intents) if each.addresses
    ]
    assert ["stray"] == served


@pytest.mark.parametrize(
    "wish", [{"load_balancer_ip": "2001:db8::3"}, {"annotations": {"metallb.io/address-pool": "q"}}], ids=str
)
def test_at_a_start_a_wish_that_was_made_meanwhile_is_granted(wish: dict[str, object]) -> None:
    service = attrs.evolve(any_address("a"), held=(ipv6(0),), **wish)  # type: ignore[arg-type]
    (written,) = writes(controller(room_for(1), pool("q", "2001:db8::3/128"), ServiceSeen(service)).intents)
    assert (ipv6(3),) == written.addresses


def test_at_a_start_a_status_that_was_left_over_is_cleared() -> None:
    service = attrs.evolve(any_address("a"), held=(ipv6(0),), type="ClusterIP")
    assert [SetAddresses(key=service.key, uid=service.uid)] == writes(
        controller(room_for(1), ServiceSeen(service)).intents
    )


def test_a_restart_tells_nobody_again_why_he_waits() -> None:
    waiter = attrs.evolve(any_address("waiter"), annotations={"metallb.io/address-pool": "none"})
    (told,) = writes(controller(room_for(1), ServiceSeen(waiter)).intents)
    assert told.refusal is not None
    shown = attrs.evolve(waiter, pending=told.refusal.shown)
    again = controller(room_for(1), ServiceSeen(shown)).intents
    assert [] == [each for each in again if isinstance(each, SetAddresses | RecordEvent)]


def test_a_reason_is_not_told_in_other_words_when_its_own_echo_comes() -> None:
    waiter, other = both_families("waiter"), any_address("other")
    desk = controller(pool("p", "2001:db8::-2001:db8::1"))
    told, *_ = writes(desk.run(*seen(waiter, other)))
    assert told.refusal is not None and "only 2001:db8::." in told.refusal.detail  # which the other has by now
    assert [] == writes(desk.run(ServiceSeen(attrs.evolve(waiter, pending=told.refusal.shown))))


def test_after_a_restart_a_reason_that_holds_no_more_is_taken_back_and_another_is_told() -> None:
    served = attrs.evolve(any_address("served"), held=(ipv6(0),), pending=("NoPools", "there were none"))
    (cleared,) = writes(controller(room_for(1), ServiceSeen(served)).intents)
    assert ((ipv6(0),), None) == (cleared.addresses, cleared.refusal)
    wish = {"metallb.io/address-pool": "none"}
    waiter = attrs.evolve(any_address("waiter"), annotations=wish, pending=("NoPools", "there were none"))
    desk = controller(room_for(1), ServiceSeen(waiter))
    assert [waiter.key] == [each.key for each in writes(desk.intents)]
    assert 1 == sum(isinstance(each, RecordEvent) for each in desk.intents)


def seen(*services: Service) -> list[Event]:
    return [ServiceSeen(service) for service in services]


# Configuration.


def test_a_request_that_makes_no_sense_keeps_an_address_that_is_shared() -> None:
    terms = {"metallb.io/allow-shared-ip": "k"}
    first, second = (
        plain_service(name, cluster_ips=("fd00::1",), annotations=terms, ports=(Port("TCP", number),))
        for name, number in [("first", 80), ("second", 443)]
    )
    desk = controller(room_for(1), *seen(first, second))
    (written,) = writes(desk.run(ServiceSeen(attrs.evolve(second, load_balancer_ip="nonsense", held=(ipv6(0),)))))
    assert ((ipv6(0),), True) == (written.addresses, written.refusal is not None)


def test_a_namespace_whose_labels_come_to_match_lets_its_services_in() -> None:
    terms = ServiceAllocation(namespace_selectors=(LabelSelector.of(tier="gold"),))
    gold = ConfigSeen(document(attrs.evolve(Pool.parse("p", "2001:db8::/64"), allocation=terms)))
    desk = controller(gold, NamespaceSeen(Namespace(name="red")), ServiceSeen(any_address("a")))
    intents = writes(desk.run(NamespaceSeen(Namespace(name="red", labels={"tier": "gold"}))))
    assert [(ipv6(0),)] == [each.addresses for each in intents]


@given(
    names=st.permutations(["pool-a", "pool-b"]),
    gap=st.floats(0, 0.09),
    count=st.integers(1, 12),
    slice_size=st.sampled_from([1, 4, 128]),
)
def test_a_range_that_moves_from_one_pool_to_another_takes_no_address_away(
    names: list[str], gap: float, count: int, slice_size: int
) -> None:
    wide, narrow = ["2001:db8::/125", "2001:db8::8/125"], ["2001:db8::/125"]
    desk = controller(
        pool("pool-a", *wide),
        pool("pool-b", "2001:db8:1::/64"),
        *(ServiceSeen(any_address(f"s{number}")) for number in range(count)),
        slice_size=slice_size,
    )
    before = {intent.key: intent.addresses for intent in writes(desk.intents)}
    after = {"pool-a": pool("pool-a", *narrow), "pool-b": pool("pool-b", "2001:db8:1::/64", "2001:db8::8/125")}
    desk.feed(after[names[0]])
    desk.now += gap
    desk.settle(until=desk.now)
    intents = desk.run(after[names[1]])
    assert {} == {intent.key: intent for intent in writes(intents) if intent.addresses != before[intent.key]}


def test_a_changed_configuration_is_taken_when_it_has_been_quiet_for_a_moment() -> None:
    desk = controller(pool("p", "2001:db8::/127"))
    desk.now = 10.0
    assert [] == desk.feed(pool("p", "2001:db8::/126"))
    assert 10.1 == desk.wake_at
    desk.now = 10.05
    assert [] == desk.feed(pool("q", "2001:db8:1::/126"))
    assert 10.15 == desk.wake_at
    assert [] == desk.settle(until=10.14)
    (report, *_) = desk.settle()
    assert isinstance(report, ReportConfig)
    assert report.config is not None
    assert ["p", "q"] == [each.name for each in report.config.pools]


def test_nothing_is_decided_before_there_is_a_sound_configuration() -> None:
    desk = controller(ConfigSeen(broken("p")), ServiceSeen(any_address("a")))
    assert [ReportConfig] == [type(intent) for intent in desk.intents]
    assert not desk.state.ready
    granted = writes(desk.run(pool("p", "2001:db8::/127")))
    assert [(ipv6(0),)] == [intent.addresses for intent in granted]


def test_without_any_configuration_everybody_is_told_so() -> None:
    (written,) = writes(controller(ServiceSeen(any_address("a"))).intents)
    assert written.refusal is not None
    assert Reason.NO_POOLS is written.refusal.reason


def test_a_pool_edit_costs_what_there_is_and_not_what_there_was() -> None:
    desk = controller(pool("p", "2001:db8::/64"), ServiceSeen(any_address("first")), slice_size=1)
    for number in range(100):
        passing = any_address(f"passing-{number}")
        desk.run(ServiceSeen(passing), ServiceGone(passing.key, passing.uid))
    desk.run(ServiceSeen(any_address("last")))
    steps: list[tuple[Intent, ...]] = []
    desk.on_step = steps.append
    desk.run(pool("p", "2001:db8:1::/64"))
    assert ["first", "last"] == [intent.key.name for intents in steps for intent in writes(intents)]
    assert len(steps) <= 5


def test_a_service_that_comes_during_a_pool_edit_is_served_at_once() -> None:
    services = [ServiceSeen(any_address(f"s{number}")) for number in range(40)]
    desk = controller(pool("p", "2001:db8::/64"), *services, slice_size=4)
    desk.feed(pool("p", "2001:db8:1::/64"))
    desk.now += 1.0
    desk.settle(until=desk.now - 0.5)
    desk.feed(Tick())
    assert not desk.state.settled
    assert "new" in [intent.key.name for intent in writes(desk.feed(ServiceSeen(any_address("new"))))]


# What is written and said.


def test_what_happens_to_a_service_is_said_once() -> None:
    desk = controller(pool("p", "10.0.0.0/32"))
    seen = ServiceSeen(plain_service("a"))
    assert ["IPAllocated"] == said(desk.run(seen, seen))
    waiter = ServiceSeen(plain_service("b"))
    assert ["AllocationFailed"] == said(desk.run(waiter, waiter))
    holding = ServiceSeen(plain_service("a", held=(ipv4(0),)))
    assert [] == said(desk.run(holding, holding))
    desk.run(pool("p", "10.0.1.0/32"))
    assert ["IPAllocated", "AllocationFailed", "IPAllocated"] == said(desk.intents)
    desk.run(ConfigGone(origin("p")), pool("q", "2001:db8::/64"))
    assert ["ClearAssignment", "AllocationFailed", "AllocationFailed"] == said(desk.intents)[3:]
    assert [] == said(desk.run(holding, waiter, holding, waiter))
    assert ["LoadBalancerFailed"] == said(desk.run(ServiceSeen(plain_service("a", load_balancer_ip="x"))))


def said(intents: Iterable[Intent]) -> list[str]:
    events = [intent for intent in intents if isinstance(intent, RecordEvent)]
    warnings = {event.reason for event in events if event.type is EventType.WARNING}
    assert warnings <= {"AllocationFailed", "LoadBalancerFailed"}
    return [event.reason for event in events]


def test_addresses_are_not_written_anew_for_their_order() -> None:
    held = (ipv6(7), ipv4(7))
    service = attrs.evolve(both_families("a"), held=held)
    assert [] == writes(controller(pool("p", "10.0.0.0/24", "2001:db8::/64"), ServiceSeen(service)).intents)


def test_a_status_that_somebody_else_changed_is_put_right() -> None:
    desk = controller(pool("p", "2001:db8::/64"), ServiceSeen(any_address("a")))
    (written,) = writes(desk.intents)
    echo = ServiceSeen(attrs.evolve(any_address("a"), held=written.addresses))
    assert [] == desk.run(echo, Applied(written))
    assert [written] == writes(desk.run(ServiceSeen(attrs.evolve(any_address("a"), held=(ipv6(99),)))))
    # Once: while that write is under way, the old status is no news.
    assert [] == desk.run(ServiceSeen(attrs.evolve(any_address("a"), held=())))


def test_a_write_that_failed_for_good_is_asked_for_again_when_the_service_is_told_again() -> None:
    desk = controller(pool("p", "2001:db8::/64"), ServiceSeen(any_address("a")))
    (written,) = writes(desk.intents)
    assert [] == desk.run(Failed(intent=written, message="modified", retry=False))
    assert [written] == writes(desk.run(ServiceSeen(attrs.evolve(any_address("a"), labels={"a": "b"}))))


def test_so_is_a_refusal_that_could_not_be_written() -> None:
    desk = controller(pool("p", "10.0.0.0/24"), ServiceSeen(any_address("a")))
    (written,) = writes(desk.intents)
    assert (True, ()) == (written.refusal is not None, written.addresses)
    desk.run(Failed(intent=written, message="modified", retry=False))
    assert [written] == writes(desk.run(ServiceSeen(any_address("a"))))


def test_what_is_lost_before_it_was_shown_leaves_what_is_shown() -> None:
    web = plain_service("web", held=(ipv4(0),))
    desk = controller(pool("p", "10.0.0.0/31"), pool("q", "10.0.1.0/32"), ServiceSeen(web))
    asking = attrs.evolve(web, load_balancer_ip="10.0.1.0")
    assert [(Address.parse("10.0.1.0"),)] == [each.addresses for each in writes(desk.run(ServiceSeen(asking)))]
    (said,) = writes(desk.run(ConfigGone(origin("q"))))  # while that write is under way
    assert (ipv4(0),) == said.addresses
    assert said.refusal is not None
    assert Reason.ADDRESS_NOT_IN_POOL is said.refusal.reason


def test_who_is_given_an_address_waits_for_all_who_shared_it() -> None:
    terms = {"metallb.io/allow-shared-ip": "k"}
    sharers = [
        plain_service(name, annotations=terms, ports=(Port("TCP", port),), held=(ipv4(0),), labels={"tier": "gold"})
        for name, port in (("a", 1), ("b", 2))
    ]
    desk = controller(pool("p", "10.0.0.0/32"), *map(ServiceSeen, sharers), ServiceSeen(plain_service("c")))
    leaving = [ServiceSeen(attrs.evolve(each, load_balancer_class="example.com/other")) for each in sharers]
    given = [each for each in writes(desk.run(*leaving)) if each.addresses]
    assert [("c", tuple(each.key for each in sharers))] == [(each.key.name, each.after) for each in given]


def test_an_end_that_belongs_to_an_earlier_object_of_the_name_is_no_end() -> None:
    desk = controller(pool("p", "2001:db8::/64"), ServiceSeen(any_address("a")))
    assert [] == desk.run(ServiceGone(ServiceKey("red", "a"), "an-earlier-uid"))
    claims = [desk.state.ledger.of(each) for each in (ServiceKey("red", "a"),)]
    assert [(ipv6(0),)] == [claim.addresses for claim in claims if claim is not None]


def test_only_services_of_the_chosen_class_are_served() -> None:
    desk = new_desk(load_balancer_class="example.com/lbcore")
    mine = plain_service("mine", load_balancer_class="example.com/lbcore")
    desk.run(pool("p", "10.0.0.0/24"), ServiceSeen(mine), ServiceSeen(plain_service("plain")), *LISTED)
    assert [mine.key] == [intent.key for intent in writes(desk.intents)]
    gone = writes(desk.run(ServiceSeen(attrs.evolve(mine, load_balancer_class="example.com/other"))))
    assert [SetAddresses(key=mine.key, uid=mine.uid)] == gone


def test_explain_names_who_is_in_the_way_now() -> None:
    wish = plain_service("wish", load_balancer_ip="10.0.0.0")
    desk = controller(pool("p", "10.0.0.0/31"), ServiceSeen(plain_service("first")), ServiceSeen(wish))
    taken = attrs.evolve(plain_service("second"), load_balancer_ip="10.0.0.0")
    desk.run(ServiceSeen(taken), ServiceGone(ServiceKey("red", "first")))
    why = explain(desk.state, taken.key)
    assert why is not None
    assert why.refusal is not None
    assert Reason.ADDRESS_IN_USE is why.refusal.reason
    assert "red/wish" in why.refusal.detail
    assert explain(desk.state, ServiceKey("red", "nobody")) is None


def test_a_request_that_contradicts_itself_is_a_mistake_of_the_manifest() -> None:
    twice = plain_service("a", load_balancer_ip="10.0.0.1", annotations={"metallb.io/loadBalancerIPs": "10.0.0.1"})
    assert ["LoadBalancerFailed"] == said(controller(pool("p", "10.0.0.0/24"), ServiceSeen(twice)).intents)


def test_what_is_held_beside_what_a_pool_gives_out_is_not_counted_against_it() -> None:
    edges = Pool.parse("edges", "10.0.0.0/32", "10.0.0.255/32", avoid_buggy_ips=True)
    ledger = Ledger().claim(Claim(key=ServiceKey("red", "a"), addresses=(ipv4(0),), pools=("edges",)))
    usage = assignment.usage_of(edges, ledger)
    assert (1, 0) == (usage.assigned_ipv4, usage.available_ipv4)
