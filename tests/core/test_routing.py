"""The Ingress brain looks again at what a change touches, and ends where one ends that was told all at once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from lbcore.annotations.table import PREFIX
from lbcore.events import (
    ConfigMapGone,
    ConfigMapSeen,
    Event,
    IngressClassGone,
    IngressClassSeen,
    IngressGone,
    IngressSeen,
    LeadershipSeen,
    NamespaceGone,
    NamespaceSeen,
    SecretGone,
    SecretSeen,
    ServiceGone,
    ServiceSeen,
    SliceGone,
    SliceSeen,
)
from lbcore.ingress import (
    Backend,
    ConfigMap,
    Ingress,
    IngressClass,
    IngressPath,
    IngressRule,
    IngressTLS,
    ObjectKey,
    PathType,
    Secret,
)
from lbcore.intents import RecordEvent, ServeRoutes
from lbcore.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    LabelSelector,
    Namespace,
    Service,
    ServicePort,
    SliceKey,
)
from lbcore.proxy import Balance, Location
from lbcore.routing import RoutingSettings, RoutingState
from traffic import History, histories, settings, settle, standing, started

ADDRESSES = ("2001:db8::1", "2001:db8::2", "192.0.2.1")
# What depends on how it came there, and not on what there is.
_OF_THE_WAY = {"said", "said_of_options", "said_of_streams", "publishing", "sent", "dirty"}


def made(state: RoutingState) -> dict[str, object]:
    """Everything that it made of what it was told, notes for later included."""
    found: dict[str, object] = asdict(state, recurse=False)
    found["streams"] = evolve(state.streams, read=Map())  # a ConfigMap that is gone is an empty one there
    return {name: value for name, value in found.items() if name not in _OF_THE_WAY}


@pytest.mark.slow
@given(settings, histories())
def test_after_any_changes_all_is_as_if_it_had_been_told_at_once(settings: RoutingSettings, history: History) -> None:
    state, intents = started(settings, history[0])
    told: list[Event] = list(history[0])
    for burst in history[1:]:
        state, more = settle(state, burst)
        told += burst
        intents += more
        fresh, _ = started(settings, standing(told))
        assert made(fresh) == made(state)
    assert state.table == [each.table for each in intents if isinstance(each, ServeRoutes)][-1]


@pytest.mark.slow
@given(settings, histories(bursts=2))
def test_who_begins_to_lead_says_what_one_says_that_is_told_all_at_once(
    settings: RoutingSettings, history: History
) -> None:
    state, _ = started(settings, history[0])
    for burst in history[1:]:
        state, _ = settle(state, burst)
    _, said = settle(state, [LeadershipSeen(True)])
    everything = standing(event for burst in history for event in burst)
    _, expected = started(settings, [LeadershipSeen(True), *everything])
    assert _troubles(expected) == _troubles(said)


def _troubles(said: Iterable[object]) -> set[RecordEvent]:
    return {each for each in said if isinstance(each, RecordEvent) and each.reason in {"Rejected", "Ignored"}}


EVERYBODY = RoutingSettings(without_class=True)


def ingress(name: str, host: str, service: str = "web", **annotations: str) -> Ingress:
    path = IngressPath(path="/", type=PathType.PREFIX, backend=Backend(service, "80"))
    asked = {f"{PREFIX}/{key.replace('_', '-')}": text for key, text in annotations.items()}
    return Ingress(key=ObjectKey("shop", name), rules=(IngressRule(host=host, paths=(path,)),), annotations=asked)


def hosts(number: int) -> list[Event]:
    """Hosts that share one Service."""
    return [IngressSeen(ingress(f"i{each}", f"h{each}.example")) for each in range(number)]


def service(name: str = "web") -> ServiceSeen:
    return ServiceSeen(Service(key=ObjectKey("shop", name), named_ports=(ServicePort("", 80),)))


def endpoints(*addresses: str, of: str = "web") -> SliceSeen:
    return SliceSeen(
        EndpointSlice(
            key=SliceKey("shop", f"{of}-1"),
            service=of,
            endpoints=tuple(Endpoint(addresses=(each,), ready=True) for each in addresses),
            ports=(EndpointPort("", 8080),),
        )
    )


@given(st.sampled_from((1, 7, 120)), st.lists(st.sampled_from(ADDRESSES), unique=True))
def test_however_many_hosts_share_a_service_its_endpoints_change_in_one_step_that_looks_at_no_host(
    number: int, addresses: list[str]
) -> None:
    before, _ = started(EVERYBODY, [*hosts(number), service(), endpoints("2001:db8::9")])
    after, intents = settle(before, [endpoints(*addresses)])
    assert [ServeRoutes(table=after.table)] == intents
    assert sorted(addresses) == sorted(peer.host for _, each in after.table.upstreams.items() for peer in each.peers)
    # Whatever was built is the very same object.
    assert after.table.sites is before.table.sites
    assert after.built is before.built
    assert evolve(after.table, upstreams=before.table.upstreams) == before.table


# One thing comes, changes and goes: what looked at it follows. The property above finds these, too, a minute later.


def location(state: RoutingState, host: str = "a.example") -> Location:
    """The only one of a host."""
    (found,) = state.table.sites[host].locations
    return found


def test_a_host_redirects_to_https_while_the_wildcard_right_above_it_has_tls() -> None:
    state, _ = started(
        EVERYBODY, [IngressSeen(ingress("one", "a.example")), IngressSeen(ingress("two", "x.a.example"))]
    )
    plain = ingress("wild", "*.example")
    sealed = evolve(plain, tls=(IngressTLS(),))
    changes: list[Event] = [
        IngressSeen(plain),
        IngressSeen(sealed),
        IngressSeen(plain),
        IngressSeen(sealed),
        IngressGone(plain.key),
    ]
    for event, expected in zip(changes, (False, True, False, True, False), strict=True):
        state, _ = settle(state, [event])
        assert (expected, False) == (location(state).to_https, location(state, "x.a.example").to_https)


def test_an_ingress_is_served_while_its_namespace_has_the_labels_that_are_asked_for() -> None:
    state, _ = started(
        evolve(EVERYBODY, namespace_selector=LabelSelector.of(ours="yes")), [IngressSeen(ingress("one", "a.example"))]
    )
    ours, others = Namespace(name="shop", labels={"ours": "yes"}), Namespace(name="shop")
    changes: list[Event] = [NamespaceSeen(ours), NamespaceSeen(others), NamespaceSeen(ours), NamespaceGone("shop")]
    for event, expected in zip(changes, ({"a.example"}, set(), {"a.example"}, set()), strict=True):
        state, _ = settle(state, [event])
        assert expected == set(state.table.sites)


def test_an_ingress_is_served_while_its_class_is_ours() -> None:
    state, _ = started(RoutingSettings(), [IngressSeen(evolve(ingress("one", "a.example"), class_name="x"))])
    ours, others = IngressClass(name="x", controller="k8s.io/ingress-nginx"), IngressClass(name="x", controller="other")
    changes: list[Event] = [
        IngressClassSeen(ours),
        IngressClassSeen(others),
        IngressClassSeen(ours),
        IngressClassGone("x"),
    ]
    for event, expected in zip(changes, ({"a.example"}, set(), {"a.example"}, set()), strict=True):
        state, _ = settle(state, [event])
        assert expected == set(state.table.sites)


@pytest.mark.parametrize("secret_is_first", [True, False])
def test_a_host_is_denied_while_what_its_passwords_or_headers_are_in_is_not_there(secret_is_first: bool) -> None:
    options = ObjectKey("lb", "options")
    allowed = ConfigMapSeen(ConfigMap(key=options, data={"global-allowed-response-headers": "X-A"}))
    asking = ingress("one", "a.example", auth_type="basic", auth_secret="users", custom_headers="shop/answers")
    state, _ = started(evolve(EVERYBODY, config_map=options), [allowed, IngressSeen(asking)])
    users, answers = ObjectKey("shop", "users"), ObjectKey("shop", "answers")
    seen: list[Event] = [SecretSeen(Secret(key=users, data={"auth": b"u:x"})), ConfigMapSeen(ConfigMap(key=answers))]
    first, second = seen if secret_is_first else seen[::-1]
    for event, denied in ((first, True), (second, False), (SecretGone(users), True), (seen[0], False),
                          (ConfigMapGone(answers), True), (seen[1], False)):  # fmt: skip
        state, _ = settle(state, [event])
        assert denied is bool(location(state).policies.denied)


def test_a_default_backend_is_there_while_it_has_peers_and_hosts_follow_it() -> None:
    spare = ObjectKey("shop", "spare")
    nothing = evolve(ingress("one", "a.example"), rules=(IngressRule(host="a.example"),))
    state, _ = started(evolve(EVERYBODY, default_backend=spare), [IngressSeen(nothing)])
    up, empty = endpoints("2001:db8::1", of="spare"), endpoints(of="spare")
    changes: list[Event] = [
        service("spare"),
        up,
        empty,
        up,
        SliceGone(SliceKey("shop", "spare-1")),
        up,
        ServiceGone(spare),
    ]
    for event, expected in zip(changes, (False, True, False, True, False, True, False), strict=True):
        state, _ = settle(state, [event])
        name = state.table.default_upstream
        assert expected is (name is not None)
        assert name == location(state).upstream
        assert ([name] if expected else []) == list(state.table.upstreams)


def test_a_host_follows_the_service_that_answers_for_another_one() -> None:
    asking = ingress("one", "a.example", default_backend="spare")
    state, _ = started(EVERYBODY, [IngressSeen(asking), service()])
    spare = ObjectKey("shop", "spare")
    other = ServiceSeen(Service(key=spare, named_ports=(ServicePort("", 8443),)))
    changes: list[Event] = [service("spare"), other, ServiceGone(spare), service("spare")]
    for event, port in zip(changes, ("80", "8443", None, "80"), strict=True):
        state, _ = settle(state, [event])
        fallback = location(state).fallback
        assert port == (state.table.upstreams[fallback].port if fallback is not None else None)


def test_what_is_said_for_all_holds_for_hosts_and_for_the_default_backend_at_once() -> None:
    options, spare = ObjectKey("lb", "options"), ObjectKey("shop", "spare")
    asking = ingress("one", "a.example", configuration_snippet="return 403;")
    there: list[Event] = [IngressSeen(asking), service(), service("spare"), endpoints("2001:db8::1", of="spare")]
    state, _ = started(evolve(EVERYBODY, config_map=options, default_backend=spare), there)
    changes: list[Event] = [
        ConfigMapSeen(ConfigMap(key=options, data={"load-balance": "ewma"})),
        ConfigMapSeen(ConfigMap(key=options, data={"allow-snippet-annotations": "true"})),
        ConfigMapGone(options),
    ]
    for event, scored, snippets in zip(changes, (True, False, False), (False, True, False), strict=True):
        state, _ = settle(state, [event])
        assert snippets is bool(location(state).policies.snippet.steps)
        assert {scored} == {each.balance is Balance.EWMA for each in state.table.upstreams.values()}
        assert 2 == len(state.table.upstreams)
