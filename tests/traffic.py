"""What an Ingress controller may be told: few objects of each kind, so that they meet, as they come and go."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve
from hypothesis import strategies as st

from lbcore.adapters.kubernetes.changes import Gone, gone
from lbcore.adapters.kubernetes.documents import Seen
from lbcore.annotations.table import PREFIX
from lbcore.events import (
    ConfigMapSeen,
    Event,
    IngressClassSeen,
    IngressSeen,
    LeadershipSeen,
    Listed,
    NamespaceSeen,
    SecretSeen,
    ServiceSeen,
    SliceSeen,
    Tick,
)
from lbcore.ingress import (
    Backend,
    Certificate,
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
from lbcore.intents import Intent
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
from lbcore.publishing import PublishSettings
from lbcore.routing import RoutingSettings, RoutingState, needs, step
from lbcore.streams import StreamSettings

__all__ = ["History", "histories", "settings", "settle", "standing", "started"]

History = tuple[tuple[Event, ...], ...]  # of bursts; the first one is there when the lists are read

# Ingresses, and the host that each of them has as a rule: so that changes meet what is there.
INGRESSES = {"one": "a.example", "two": "b.example", "three": "*.example", "four": "www.a.example", "five": ""}
HOSTS = tuple(INGRESSES.values())
NAMESPACES = ("shop", "shop", "shop", "team")
SERVICES = ("web", "api", "spare")
OPTIONS, STREAMS = ObjectKey("lb", "options"), ObjectKey("lb", "tcp")
PORTS = (ServicePort("http", 80, "8080"), ServicePort("https", 443), ServicePort("", 80))
ADDRESSES = ("2001:db8::1", "2001:db8::2", "192.0.2.1", "nonsense", "::")
# What an Ingress asks for, one thing each.
WISHES: tuple[dict[str, str], ...] = (
    {}, {"default-backend": "spare"}, {"default-backend": "spare", "custom-http-errors": "404"},
    {"default-backend": "nobody"}, {"custom-http-errors": "404"},
    {"canary": "true", "canary-weight": "30"}, {"canary": "true", "canary-weight": "0", "affinity": "cookie"},
    {"affinity": "cookie", "affinity-mode": "persistent"}, {"affinity": "cookie"}, {"upstream-hash-by": "$request_uri"},
    {"service-upstream": "true"}, {"load-balance": "ewma"}, {"auth-type": "basic", "auth-secret": "users"},
    {"rewrite-target": "/x"}, {"use-regex": "true"}, {"backend-protocol": "HTTPS", "proxy-ssl-secret": "shop/users"},
    {"backend-protocol": "GRPC"}, {"auth-tls-secret": "shop/users"}, {"custom-headers": "shop/answers"},
    {"server-alias": "b.example,c.example"}, {"from-to-www-redirect": "true"}, {"configuration-snippet": "return 403;"},
    {"proxy-read-timeout": "soon", "whitelist-source-range": "nobody"}, {"limit-rps": "3"},
)  # fmt: skip
# What the ConfigMap says for all.
OF_ALL: tuple[dict[str, str], ...] = (
    {}, {"load-balance": "ewma"}, {"service-upstream": "true"}, {"custom-http-errors": "503"},
    {"ssl-redirect": "false"}, {"allow-snippet-annotations": "true"}, {"proxy-set-headers": "shop/answers"},
    {"global-auth-url": "http://x.example/"}, {"allow-cross-namespace-resources": "true"},
    {"global-allowed-response-headers": "X-A", "use-http2": "soon"},
)  # fmt: skip
# Ports besides those of HTTP.
PORTS_OPEN: tuple[dict[str, str], ...] = (
    {"5432": "shop/web:80"}, {"5433": "team/web:http"}, {"5434": "shop/spare:https:PROXY"}, {"80": "shop/web:80"},
)  # fmt: skip
PAIR = Certificate(names=("a.example", "*.a.example"), expires="2030-01-01T00:00:00Z", chain=b"chain", key=b"key")


def _together(wishes: tuple[dict[str, str], ...], prefix: str = "") -> st.SearchStrategy[dict[str, str]]:
    two = st.tuples(st.sampled_from(wishes), st.sampled_from(wishes))
    return two.map(lambda each: {prefix + key: text for wish in each for key, text in wish.items()})


def _some(*values: object, most: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


_keys = st.builds(ObjectKey, st.sampled_from(NAMESPACES), st.sampled_from(SERVICES))
_backends = st.builds(Backend, st.sampled_from((*SERVICES, "nobody")), st.sampled_from(("80", "80", "http", "443")))
_paths = st.builds(
    IngressPath,
    path=st.sampled_from(("/", "/a", "/a/", "/a(b)")),
    type=st.sampled_from(PathType),
    backend=st.one_of(_backends, _backends, st.none()),
)
_any_host = st.sampled_from((*HOSTS, "no host"))


def _rules(host: str) -> st.SearchStrategy[IngressRule]:
    return st.builds(
        IngressRule,
        host=st.one_of(st.just(host), st.just(host), _any_host),
        paths=st.lists(_paths, min_size=1, max_size=2).map(tuple),
    )


_tls = st.builds(IngressTLS, hosts=_some(*HOSTS[:4]), secret=st.sampled_from(("users", "pair", "")))


def _ingress(name: str) -> st.SearchStrategy[Ingress]:
    rules = _rules(INGRESSES[name])
    return st.builds(
        Ingress,
        key=st.builds(ObjectKey, st.sampled_from(NAMESPACES), st.just(name)),
        created=st.sampled_from(("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")),
        class_name=st.sampled_from((*("nginx",) * 6, "other", None)),
        annotations=_together(WISHES, f"{PREFIX}/"),
        default_backend=st.one_of(st.none(), st.none(), _backends),
        rules=st.sampled_from((1, 1, 1, 2, 0)).flatmap(lambda size: st.tuples(*[rules] * size)),
        tls=st.lists(_tls, max_size=1).map(tuple),
        held=_some("192.0.2.9"),
    )


_ingresses = st.sampled_from(sorted(INGRESSES)).flatmap(_ingress)
_services = st.builds(
    Service,
    key=_keys,
    type=st.sampled_from(("ClusterIP", "ClusterIP", "ClusterIP", "ExternalName")),
    cluster_ips=_some("2001:db8:1::1", "None", most=1),
    named_ports=_some(*PORTS),
    external_name=st.sampled_from(("elsewhere.example", "192.0.2.77", "localhost")),
)
_endpoints = st.builds(
    Endpoint, addresses=st.sampled_from(ADDRESSES).map(lambda each: (each,)), ready=st.sampled_from((True, None, False))
)
_slices = st.builds(
    EndpointSlice,
    key=st.builds(SliceKey, st.sampled_from(NAMESPACES), st.sampled_from(("s0", "s1", "s2"))),
    service=st.sampled_from(SERVICES),
    endpoints=st.lists(_endpoints, max_size=3).map(tuple),
    ports=st.sampled_from(((EndpointPort("http", 8080), EndpointPort("https", 8443)), (EndpointPort("", 81),), ())),
)
_secrets = st.builds(
    Secret,
    key=st.builds(ObjectKey, st.sampled_from(NAMESPACES), st.sampled_from(("users", "pair"))),
    data=st.dictionaries(st.sampled_from(("auth", "ca.crt")), st.sampled_from((b"x", b"y"))),
    certificate=st.sampled_from((PAIR, "", "is broken")),
)


def _plain(host: str, service: str = "web") -> IngressRule:
    return IngressRule(host=host, paths=(IngressPath(path="/", type=PathType.PREFIX, backend=Backend(service, "80")),))


# Those that are there at the beginning.
FIRST = {
    name: Ingress(key=ObjectKey("shop", name), class_name="nginx", rules=(_plain(host),))
    for name, host in INGRESSES.items()
}
# And a canary of one of them: two that have to meet are rare.
CANARY = Ingress(
    key=ObjectKey("shop", "canary"),
    class_name="nginx",
    annotations={f"{PREFIX}/canary": "true", f"{PREFIX}/canary-weight": "30"},
    rules=(_plain(INGRESSES["one"], "api"),),
)
# One of them with one wish, or with TLS or without, and nothing else about it: what would hide a change that is passed
# over. With TLS it is mostly the wildcard, which others look at.
_one_wish_seen = st.builds(
    lambda name, wish: IngressSeen(
        evolve(FIRST[name], annotations={f"{PREFIX}/{key}": text for key, text in wish.items()})
    ),
    st.sampled_from(sorted(INGRESSES)),
    st.sampled_from(WISHES),
)
_tls_seen = st.builds(
    lambda name, tls: IngressSeen(evolve(FIRST[name], tls=tls)),
    st.sampled_from(("three", "three", "three", *INGRESSES)),
    st.lists(_tls, max_size=1).map(tuple),
)
_ingress_seen, _slice_seen = st.builds(IngressSeen, _ingresses), st.builds(SliceSeen, _slices)
_seen: st.SearchStrategy[Seen] = st.one_of(
    _ingress_seen,
    _one_wish_seen,
    _tls_seen,
    _slice_seen,
    _slice_seen,
    st.builds(ServiceSeen, _services),
    st.builds(SecretSeen, _secrets),
    st.builds(ConfigMapSeen, st.builds(ConfigMap, key=st.just(OPTIONS), data=_together(OF_ALL))),
    st.builds(ConfigMapSeen, st.builds(ConfigMap, key=st.just(ObjectKey("shop", "answers")),
                                       data=_together(({"X-A": "a"}, {"X-A": "b"}, {"X-B": "c"})))),
    st.builds(ConfigMapSeen, st.builds(ConfigMap, key=st.just(STREAMS), data=_together(PORTS_OPEN))),
    st.builds(IngressClassSeen, st.builds(IngressClass, name=st.just("nginx"),
                                          controller=st.sampled_from(("k8s.io/ingress-nginx", "other")))),
    st.builds(NamespaceSeen, st.builds(Namespace, name=st.sampled_from(NAMESPACES),
                                       labels=st.sampled_from(({}, {"ours": "yes"})))),
)  # fmt: skip


GOOD = EndpointSlice(
    key=SliceKey("shop", ""),
    service="",
    endpoints=(Endpoint(addresses=("2001:db8::1",)), Endpoint(addresses=("192.0.2.1",))),
    ports=(EndpointPort("http", 8080),),
)
OURS = IngressClassSeen(IngressClass(name="nginx", controller="k8s.io/ingress-nginx"))
BEGIN: tuple[Event, ...] = (
    OURS,
    *(NamespaceSeen(Namespace(name=each, labels={"ours": "yes"})) for each in NAMESPACES),
    *(ServiceSeen(Service(key=ObjectKey("shop", each), named_ports=PORTS[:1], type="ClusterIP")) for each in SERVICES),
    *(
        SliceSeen(evolve(GOOD, key=SliceKey("shop", f"s{number}"), service=each))
        for number, each in enumerate(SERVICES)
    ),
    *map(IngressSeen, (*FIRST.values(), CANARY)),
    SecretSeen(Secret(key=ObjectKey("shop", "users"), data={"auth": b"x", "ca.crt": b"x"}, certificate=PAIR)),
    ConfigMapSeen(ConfigMap(key=STREAMS, data=PORTS_OPEN[0])),
)

_others: st.SearchStrategy[Event] = st.sampled_from((Tick(), LeadershipSeen(True), LeadershipSeen(False)))


def _of(*events: st.SearchStrategy[Event], least: int, most: int) -> st.SearchStrategy[tuple[Event, ...]]:
    return st.lists(st.one_of(*events), min_size=least, max_size=most).map(tuple)


def histories(bursts: int = 4, most: int = 4) -> st.SearchStrategy[History]:
    """What there is at first, then bursts of changes."""
    first = st.tuples(
        st.just(BEGIN),
        _of(_ingress_seen, _one_wish_seen, least=1, most=4),
        _of(_seen, least=0, most=3),
    ).map(lambda parts: tuple(event for part in parts for event in part))
    changes = _of(_seen, _seen, _seen, _seen.map(gone), _others, least=1, most=most)
    return st.tuples(first, st.lists(changes, min_size=1, max_size=bursts)).map(lambda found: (found[0], *found[1]))


settings = st.builds(
    RoutingSettings,
    without_class=st.booleans(),
    namespace_selector=st.sampled_from((None, LabelSelector.of(ours="yes"))),
    config_map=st.just(OPTIONS),
    default_backend=st.sampled_from((None, ObjectKey("shop", "spare"))),
    default_certificate=st.sampled_from((None, ObjectKey("shop", "pair"))),
    no_external_name=st.booleans(),
    streams=st.just(StreamSettings(tcp=STREAMS)),
    publish=st.builds(PublishSettings, elected=st.booleans()),
    most=st.sampled_from((1, 2, 100)),
)


def standing(events: Iterable[Event]) -> tuple[Event, ...]:
    """What is there after all these: each object as it was seen last, unless it is gone; the newest come first, so
    that who is told this hears of things in another order than they came.
    """
    found: dict[tuple[str, str], Event] = {}
    for event in events:
        if isinstance(event, Gone):
            found.pop(event.subject, None)
        elif isinstance(event, Seen):
            found.pop(event.subject, None)
            found[event.subject] = event
    return tuple(reversed(found.values()))


def settle(state: RoutingState, events: Iterable[Event]) -> tuple[RoutingState, list[Intent]]:
    """Tell these, and let it build all that is to be built."""
    intents: list[Intent] = []
    for event in events:
        done = step(state, event, 0.0)
        state = done.state
        intents += done.intents
    while not state.settled:
        done = step(state, Tick(), 0.0)
        state = done.state
        intents += done.intents
    return state, intents


def started(settings: RoutingSettings, events: Iterable[Event]) -> tuple[RoutingState, list[Intent]]:
    """A controller that starts when there is this."""
    lists = [Listed(kind) for kind in sorted(needs(settings), key=str)]
    return settle(RoutingState(settings=settings), [*events, *lists])
