"""Which addresses Ingresses show, and who writes them when: the routing brain's statuses and Events."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from lbcore.addresses import Address
from lbcore.events import (
    Event,
    IngressClassGone,
    IngressClassSeen,
    IngressSeen,
    InstancesSeen,
    LeadershipSeen,
    Listed,
    NamespaceSeen,
    NodeSeen,
    ServiceSeen,
    Stopping,
    Tick,
)
from lbcore.ingress import Backend, Ingress, IngressClass, ObjectKey
from lbcore.intents import Intent, PublishIngress, RecordEvent, ServeRoutes
from lbcore.model import LabelSelector, Namespace, Node, Service
from lbcore.publishing import PublishSettings
from lbcore.routing import RoutingSettings, RoutingState, needs, step

OURS = IngressClassSeen(IngressClass(name="nginx", controller="k8s.io/ingress-nginx"))
GATE = ObjectKey("system", "gate")


def key(name: str) -> ObjectKey:
    return ObjectKey("shop", name)


def ingress(name: str, *held: str, uid: str = "1", **more: str) -> Ingress:
    annotations = {f"nginx.ingress.kubernetes.io/{each}": value for each, value in more.items()}
    return Ingress(
        key=key(name),
        uid=uid,
        class_name="nginx",
        default_backend=Backend(f"{name}", "80"),
        held=held,
        annotations=annotations,
    )


class Brain:
    """A routing brain whose statuses are written as soon as it wants that, unless told otherwise."""

    def __init__(self, *events: Event, echo: bool = True, **publish: object) -> None:
        settings = RoutingSettings(publish=PublishSettings(**publish))  # type: ignore[arg-type]
        self.state = RoutingState(settings=settings)
        self.echo = echo
        self.said: list[Intent] = []
        self.now = 0.0
        for event in (OURS, *events, *(Listed(kind) for kind in sorted(needs(settings), key=str))):
            self.hear(event)

    def hear(self, event: Event, now: float | None = None) -> None:
        self.now = self.now if now is None else now
        done = step(self.state, event, self.now)
        self.state = done.state
        self.said += done.intents
        self.wake_at = done.wake_at
        for each in done.intents:
            if isinstance(each, PublishIngress) and self.echo:
                self.hear(IngressSeen(evolve(self.state.ingresses[each.key], held=each.addresses)))

    def written(self) -> dict[str, tuple[str, ...]]:
        """What was wanted since the last question."""
        found = {each.key.name: each.addresses for each in self.said if isinstance(each, PublishIngress)}
        self.said = []
        return found


def gate(*held: str, **more: object) -> ServiceSeen:
    return ServiceSeen(Service(key=GATE, held=tuple(map(Address.parse, held)), **more))  # type: ignore[arg-type]


def test_without_a_source_of_addresses_nothing_is_written() -> None:
    assert {} == Brain(IngressSeen(ingress("a"))).written()


def test_every_ingress_shows_what_the_services_controller_gave_it_and_follows_it() -> None:
    brain = Brain(IngressSeen(ingress("a")), IngressSeen(ingress("b", "fd00::1")), gate("fd00::1"), service=GATE)
    assert {"a": ("fd00::1",)} == brain.written()
    brain.hear(gate("fd00::1", "192.0.2.1"))
    both = ("192.0.2.1", "fd00::1")
    assert {"a": both, "b": both} == brain.written()
    brain.hear(IngressSeen(ingress("c")))
    assert {"c": both} == brain.written()
    brain.hear(gate())
    assert {"a": (), "b": (), "c": ()} == brain.written()


def test_a_service_that_is_not_there_yet_costs_nobody_his_address() -> None:
    assert {} == Brain(IngressSeen(ingress("a", "fd00::9")), service=GATE).written()


def test_addresses_come_as_the_services_type_has_it() -> None:
    for service, wanted in (
        (gate("fd00::1", external_ips=("192.0.2.7",)), ("192.0.2.7", "fd00::1")),
        (gate(type="ClusterIP", cluster_ips=("10.96.0.9", "fd00:96::9")), ("10.96.0.9", "fd00:96::9")),
        (gate(type="NodePort", cluster_ips=("10.96.0.9",)), ("10.96.0.9",)),
        (gate(type="NodePort", cluster_ips=("10.96.0.9",), external_ips=("192.0.2.7",)), ("192.0.2.7",)),
        (gate(type="ExternalName", external_name="gate.example"), ("gate.example",)),
    ):
        assert {"a": wanted} == Brain(IngressSeen(ingress("a")), service, service=GATE).written()


def test_without_either_the_nodes_of_ready_instances_are_shown() -> None:
    outside, inside = Address.parse("2001:db8::1"), Address.parse("fd00::2")
    nodes = (NodeSeen(Node(name="n1", addresses=(inside,), external=(outside,))), NodeSeen(Node(name="n2")))
    run = InstancesSeen(running=frozenset({"p1", "p2"}), nodes=frozenset({"n1", "n2"}))
    brain = Brain(IngressSeen(ingress("a")), *nodes, run, nodes=True)
    assert {"a": ("2001:db8::1",)} == brain.written()
    brain = Brain(IngressSeen(ingress("a")), *nodes, run, nodes=True, internal=True)
    assert {"a": ("fd00::2",)} == brain.written()
    brain.hear(evolve(run, nodes=frozenset({"n2"})))
    assert {"a": ()} == brain.written()


def test_who_does_not_lead_serves_but_writes_no_status_and_no_event() -> None:
    given = {"load-balance": "nonsense"}
    brain = Brain(IngressSeen(ingress("a", **given)), elected=True, addresses=("192.0.2.1",))
    assert [ServeRoutes] == [type(each) for each in brain.said]
    brain.hear(LeadershipSeen(True))
    assert {PublishIngress, RecordEvent, ServeRoutes} == {type(each) for each in brain.said}
    brain.said = []
    brain.hear(LeadershipSeen(False))
    # The loop forgets what was wanted before another led; what is served is everybody's own.
    assert [ServeRoutes] == [type(each) for each in brain.said]
    brain.hear(IngressSeen(ingress("b", **given)))
    assert {} == brain.written()
    brain.hear(LeadershipSeen(True))
    assert ["Ingress shop/a", "Ingress shop/b"] == sorted(
        each.about for each in brain.said if isinstance(each, RecordEvent)
    )


def test_a_status_that_somebody_else_changed_is_written_again_after_a_while_and_not_at_once() -> None:
    brain = Brain(IngressSeen(ingress("a")), addresses=("192.0.2.1",), echo=False)
    assert {"a": ("192.0.2.1",)} == brain.written()
    brain.hear(IngressSeen(ingress("a", "192.0.2.66")), 1.0)
    assert {} == brain.written()
    assert 60.0 == brain.wake_at
    brain.hear(Tick(), 60.0)
    assert {"a": ("192.0.2.1",)} == brain.written()


def test_one_made_anew_under_its_name_gets_a_status_of_its_own() -> None:
    brain = Brain(IngressSeen(ingress("a")), addresses=("192.0.2.1",), echo=False)
    brain.written()
    brain.hear(IngressSeen(ingress("a", uid="2")))
    assert ["2"] == [each.uid for each in brain.said if isinstance(each, PublishIngress)]


def test_a_written_status_comes_back_and_changes_nothing() -> None:
    brain = Brain(IngressSeen(ingress("a")), addresses=("192.0.2.1",))
    table = brain.state.table
    brain.said = []
    brain.hear(IngressSeen(ingress("a", "192.0.2.1")))
    assert [] == brain.said
    assert table is brain.state.table


def test_an_ingress_of_a_class_that_is_no_longer_ours_is_left_alone() -> None:
    brain = Brain(IngressSeen(ingress("a")), addresses=("192.0.2.1",))
    brain.written()
    brain.hear(IngressClassGone("nginx"))
    assert {} == brain.written()
    brain.hear(OURS)
    assert {} == brain.written()


def test_the_last_instance_takes_the_addresses_away_and_no_other() -> None:
    alone = InstancesSeen(running=frozenset(), nodes=frozenset())  # our own Pod is being deleted
    for others, wanted in ((alone, {"a": ()}), (evolve(alone, running=frozenset({"p2"})), {})):
        brain = Brain(IngressSeen(ingress("a")), others, addresses=("192.0.2.1",), instance="p1")
        brain.written()
        brain.hear(Stopping())
        assert wanted == brain.written()
    kept = Brain(IngressSeen(ingress("a")), alone, addresses=("192.0.2.1",), instance="p1", clear=False)
    kept.written()
    kept.hear(Stopping())
    assert {} == kept.written()


def test_while_no_instance_is_ready_the_nodes_shown_stay_and_the_last_still_takes_them_away() -> None:
    run = InstancesSeen(running=frozenset({"p1"}), nodes=frozenset({"n1"}))
    node = NodeSeen(Node(name="n1", addresses=(Address.parse("fd00::1"),)))
    brain = Brain(IngressSeen(ingress("a")), node, run, nodes=True, instance="p1")
    assert {"a": ("fd00::1",)} == brain.written()
    brain.hear(InstancesSeen(running=frozenset({"p2"}), nodes=frozenset()))  # the next one, which is not ready yet
    assert {} == brain.written()
    brain.hear(InstancesSeen(running=frozenset(), nodes=frozenset()))
    brain.hear(Stopping())
    assert {"a": ()} == brain.written()


def test_namespaces_are_chosen_by_their_labels_now() -> None:
    brain = Brain()
    settings = evolve(
        brain.state.settings,
        namespace_selector=LabelSelector.of(team="a"),
        publish=PublishSettings(addresses=("192.0.2.1",)),
    )
    brain.state = RoutingState(settings=settings)
    brain.hear(OURS)
    brain.hear(IngressSeen(ingress("a")))
    for kind in sorted(needs(settings), key=str):
        brain.hear(Listed(kind))
    assert {} == brain.written()
    brain.hear(NamespaceSeen(Namespace(name="shop", labels={"team": "a"})))
    assert {"a": ("192.0.2.1",)} == brain.written()
    brain.hear(NamespaceSeen(Namespace(name="shop", labels={"team": "b"})))
    assert {} == dict(brain.state.entries)


HELD = st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2", "fd00::1"]), unique=True, max_size=3).map(tuple)


@given(st.lists(st.tuples(st.sampled_from("abc"), HELD), max_size=8), HELD.filter(bool), st.booleans())
def test_in_the_end_every_ingress_shows_the_addresses_and_nothing_is_written_that_is_there(
    seen: list[tuple[str, tuple[str, ...]]], wanted: tuple[str, ...], late: bool
) -> None:
    brain = Brain(elected=True, addresses=wanted)
    events: list[Event] = [IngressSeen(ingress(name, *held)) for name, held in seen]
    events.insert(len(events) if late else 0, LeadershipSeen(True))
    for number, event in enumerate(events):
        brain.hear(event, 60.0 * number)
    brain.hear(Tick(), 60.0 * len(events))
    assert all(tuple(sorted(wanted)) == tuple(sorted(each.held)) for each in brain.state.ingresses.values())
    brain.written()
    brain.hear(Tick(), 60.0 * (len(events) + 2))
    assert {} == brain.written()
