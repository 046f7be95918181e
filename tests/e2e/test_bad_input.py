"""Bad objects at a real API server: its definitions refuse them, or, where those are gone, the controller bears them.

Borne means: the process lives, the last good state stays in force, whoever wrote it is told once, by an Event and a
line in the log, and there is an end to writing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from lbcore.adapters.kubernetes.crds import definitions
from lbcore.adapters.kubernetes.documents import read
from lbcore.events import ConfigSeen
from lbcore.lab.controlplane import ApiServer, Daemon

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl")]

SYSTEM = "metallb-system"
Document = dict[str, Any]
Path_ = tuple[str | int, ...]

# One good object of each kind that says as much as it can.
SELECTOR = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "rack", "operator": "In", "values": ["one"]}]}
LABELS = {"matchLabels": {"a": "b"}}  # the inside of a selector is tried at one place of each kind
CHOICE = {"nodeSelectors": [SELECTOR], "serviceSelectors": [LABELS]}
GOOD: dict[str, Document] = {
    "IPAddressPool": {
        "addresses": ["2001:db8:1::/64", "192.0.2.1-192.0.2.9"],
        "autoAssign": True,
        "avoidBuggyIPs": True,
        "serviceAllocation": {
            "priority": 5,
            "namespaces": ["shop"],
            "namespaceSelectors": [LABELS],
            "serviceSelectors": [SELECTOR],
        },
    },
    "L2Advertisement": {
        "ipAddressPools": ["bad"],
        "ipAddressPoolSelectors": [LABELS],
        "interfaces": ["eth0"],
        "preferredNodeSelectors": [{"weight": 5, "preference": LABELS}],
        **CHOICE,
    },
    "BGPAdvertisement": {
        "ipAddressPools": ["bad"],
        "ipAddressPoolSelectors": [LABELS],
        "nodeSelectors": [SELECTOR],
        "aggregationLength": 32,
        "aggregationLengthV6": 128,
        "localPref": 100,
        "communities": ["65000:1", "large:1:2:3"],
        "peers": ["spine"],
    },
    "BGPPeer": {
        "myASN": 64500,
        "peerASN": 64501,
        "peerAddress": "2001:db8::1",
        "peerPort": 179,
        "sourceAddress": "2001:db8::2",
        "holdTime": "90s",
        "keepaliveTime": "30s",
        "connectTime": "5s",
        "routerID": "192.0.2.1",
        "nodeSelectors": [SELECTOR],
        "password": "dont-tell",
        "ebgpMultiHop": True,
        "enableGracefulRestart": True,
        "vrf": "red",
        "dualStackAddressFamily": True,
    },
    "BFDProfile": {
        "receiveInterval": 300,
        "transmitInterval": 300,
        "echoInterval": 50,
        "detectMultiplier": 3,
        "minimumTtl": 254,
        "echoMode": False,
        "passiveMode": False,
    },
    "Community": {"communities": [{"name": "home", "value": "65000:7"}]},
}
PLURALS = {each["spec"]["names"]["kind"]: each["spec"]["names"]["plural"] for each in definitions()}

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus": -1,
    "fraction": 1.5,
    "huge": 2**63 - 1,
    "empty": "",
    "unicode": "\N{SNOWMAN}\u202e\N{FULLWIDTH DIGIT ONE}\n\x1b[31m",
    "long": "x" * 5_000,
    "list": [],
    "strange": {"no such field": {"x": [["x"]]}},
    "many": ["2001:db8::/64"] * 200,
}


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every place inside a document, itself included."""
    yield path
    if isinstance(value, dict):
        for name, each in value.items():
            yield from places(each, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def put(spec: Document, path: Path_, value: Any) -> Any:
    """The same with a value at one place."""
    if not path:
        return value
    changed = deepcopy(spec)
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


def wish(kind: str, spec: Any, name: str = "bad") -> Document:
    version = "v1beta2" if kind == "BGPPeer" else "v1beta1"
    metadata = {"name": name, "namespace": SYSTEM}
    return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": metadata, "spec": spec}


def collection(document: Document) -> str:
    return f"/apis/{document['apiVersion']}/namespaces/{SYSTEM}/{PLURALS[document['kind']]}"


def prepare(api: ApiServer, *crds: Document) -> None:
    api.apply(*crds)
    api.kubectl("create", "namespace", SYSTEM)
    paths = [collection(wish(kind, {})) for kind in GOOD]
    api.wait(lambda: all(api.request("GET", path).status == 200 for path in paths), "the resources to be served")


@pytest.mark.parametrize("kind", GOOD)
def test_what_the_server_stores_of_any_value_at_any_place_is_read_or_named_with_its_field(
    with_schemas: ApiServer, kind: str
) -> None:
    refused = stored = beyond = 0
    caller = with_schemas.caller()
    good = wish(kind, GOOD[kind])
    assert 201 == caller.request("POST", f"{collection(good)}?dryRun=All&fieldValidation=Strict", good).status
    for path in places(GOOD[kind]):
        for name, value in VALUES.items():
            document = wish(kind, put(GOOD[kind], path, value))
            answered = caller.request("POST", f"{collection(document)}?dryRun=All&fieldValidation=Strict", document)
            assert answered.status in (201, 400, 422), (path, name, answered)
            if answered.status != 201:
                refused += 1
                continue
            stored += 1
            seen = read(answered.document, "")
            assert isinstance(seen, ConfigSeen), (path, name)
            beyond += bool(seen.document.problems)
            assert all(each.field.startswith(("spec", "metadata")) for each in seen.document.problems), (path, name)
    caller.close()
    assert refused > stored > beyond


@pytest.fixture(scope="module")
def with_schemas() -> Iterator[ApiServer]:
    with ApiServer.start() as api:
        prepare(api, *definitions())
        yield api


# Past validation


def bare(definition: Document) -> Document:
    """A definition that takes everything, as a cluster may have it that was installed in haste."""
    changed = deepcopy(definition)
    for version in changed["spec"]["versions"]:
        version["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return changed


@pytest.fixture(scope="module")
def without() -> Iterator[ApiServer]:
    """A server whose definitions hold nothing back, with a good pool and a Service that has its address."""
    with ApiServer.start(audit=True, flags=("--disable-admission-plugins=ServiceAccount",)) as api:
        prepare(api, *map(bare, definitions()))
        for name, range_ in (("good", "2001:db8:a::/126"), ("four", "203.0.113.0/29")):
            good = wish("IPAddressPool", {"addresses": [range_]}, name)
            api.ask("POST", collection(good), good)
        service(api, "web")
        yield api


@pytest.fixture(scope="module")
def controller(without: ApiServer) -> Daemon:
    argv = ["-m", "lbcore.cli.main", "controller", "--kubeconfig", str(without.kubeconfig), "--log-format", "json"]
    daemon = without.daemon("controller", argv, program=Path(sys.executable)).start()
    without.wait(lambda: addresses(without, "web"), f"an address: {daemon.said()}")
    rest(without, daemon)
    return daemon


def service(api: ApiServer, name: str, *, annotations: Document | None = None, **spec: Any) -> None:
    body = {
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
    }
    api.ask("POST", "/api/v1/namespaces/default/services", body)


def addresses(api: ApiServer, name: str) -> list[str]:
    status = api.ask("GET", f"/api/v1/namespaces/default/services/{name}")["status"]
    return [each.get("ip", each.get("hostname", "")) for each in status["loadBalancer"].get("ingress") or ()]


def writes(api: ApiServer) -> int:
    """Every write of the controller so far, but for the Lease."""
    return sum(
        each["verb"] in ("create", "update", "patch", "delete")
        for each in api.requests()
        if each.get("userAgent", "").startswith("lbcore") and (each.get("objectRef") or {}).get("resource") != "leases"
    )


def rest(api: ApiServer, daemon: Daemon) -> int:
    """How often it had written when it fell silent; the test fails where it does not."""
    before = -1
    deadline = time.monotonic() + 60
    while (now := writes(api)) != before:
        assert time.monotonic() < deadline, f"it writes on and on: {daemon.said()}"
        before = now
        time.sleep(1.5)  # a pool's counts are written a second apart
    return now


def lines(daemon: Daemon) -> list[Document]:
    return [json.loads(line) for line in daemon.said(10_000_000).splitlines() if line.startswith("{")]


def events(api: ApiServer, name: str, kind: str) -> list[str]:
    found = api.ask("GET", "/apis/events.k8s.io/v1/events")["items"]
    return [each["note"] for each in found if (each["regarding"]["name"], each["regarding"]["kind"]) == (name, kind)]


def store(api: ApiServer, document: Document) -> None:
    """Put an object where it belongs, new or changed."""
    path = f"{collection(document)}/{document['metadata']['name']}"
    now = api.request("GET", path)
    if now.status == 404:
        api.ask("POST", collection(document), document)
        return
    document["metadata"]["resourceVersion"] = now.document["metadata"]["resourceVersion"]
    api.ask("PUT", path, document)


@pytest.mark.parametrize(
    ("kind", "place", "value", "field"),
    [
        ("IPAddressPool", (), "no mapping", "spec"),
        ("IPAddressPool", ("addresses",), "2001:db8::/64", "spec.addresses"),
        ("IPAddressPool", ("addresses", 0), VALUES["unicode"], "spec.addresses[0]"),
        ("IPAddressPool", ("serviceAllocation", "priority"), "high", "spec.serviceAllocation.priority"),
        ("L2Advertisement", ("interfaces",), {"a": 1}, "spec.interfaces"),
        (
            "L2Advertisement",
            ("preferredNodeSelectors", 0, "weight"),
            2**63 - 1,
            "spec.preferredNodeSelectors[0].weight",
        ),
        ("BGPAdvertisement", ("communities", 0), "nobody", "spec.communities[0]"),
        ("BGPAdvertisement", ("aggregationLength",), -1, "spec.aggregationLength"),
        ("BGPPeer", ("peerAddress",), VALUES["long"], "spec.peerAddress"),
        ("BGPPeer", ("holdTime",), 90, "spec.holdTime"),
        ("BFDProfile", ("receiveInterval",), 1.5, "spec.receiveInterval"),
        ("Community", ("communities", 0, "value"), ["x"], "spec.communities[0].value"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_an_object_that_no_schema_held_back_is_told_of_once_and_changes_nothing(
    without: ApiServer, controller: Daemon, kind: str, place: Path_, value: Any, field: str
) -> None:
    held, before = addresses(without, "web"), writes(without)
    name = f"bad-{abs(hash((kind, place))) % 10_000}"
    about = f"{kind} {SYSTEM}/{name}: {field}: "
    store(without, wish(kind, put(GOOD[kind], place, value), name))
    without.wait(lambda: events(without, name, kind), f"an Event: {controller.said()}")
    said = [each for each in lines(controller) if about in str(each.get("problem", ""))]
    assert 1 == len(said), said
    assert "the last good one stays in force" in said[0]["event"]
    (note,) = [each for each in events(without, name, kind) if each.startswith(f"{field}: ")]
    assert "\n" not in note
    assert rest(without, controller) - before <= 4  # the Event, and the state of the configuration
    assert held == addresses(without, "web")
    without.ask("DELETE", f"{collection(wish(kind, {}))}/{name}")
    without.wait(lambda: state(without) == "Valid", f"the configuration to be good again: {controller.said()}")
    rest(without, controller)


def state(api: ApiServer) -> str:
    path = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/configurationstates/controller"
    return str(api.ask("GET", path).get("status", {}).get("result"))


def test_a_storm_of_garbage_and_of_deletes_ends_in_the_state_before(without: ApiServer, controller: Daemon) -> None:
    held, before = addresses(without, "web"), writes(without)
    caller = without.caller()
    stored = 0
    for kind, spec in GOOD.items():
        path = collection(wish(kind, {}))
        for number, place in enumerate(places(spec)):
            value = list(VALUES.values())[number % len(VALUES)]
            answered = caller.request("POST", path, wish(kind, put(spec, place, value), f"storm-{number % 7}"))
            stored += answered.status == 201
            if number % 3 == 2:
                caller.request("DELETE", f"{path}/storm-{(number - 1) % 7}")  # while it is being looked at
        caller.ask("DELETE", path + "?fieldSelector=metadata.name!=good,metadata.name!=four")
    caller.close()
    without.wait(lambda: state(without) == "Valid", f"the configuration to be good again: {controller.said()}", 30)
    assert stored > 40
    assert rest(without, controller) - before <= 4 * stored
    assert controller.running
    assert held == addresses(without, "web")
    service(without, "after", ipFamilies=["IPv4"])
    without.wait(lambda: addresses(without, "after"), "an address for one more Service", 10)
    assert [] == [each for each in lines(controller) if "Traceback" in str(each)]


@pytest.mark.parametrize(
    "annotations",
    [
        {"metallb.io/loadBalancerIPs": "nonsense"},
        {"metallb.io/loadBalancerIPs": VALUES["unicode"]},
        {"metallb.io/address-pool": "x" * 100_000},
        {"metallb.io/loadBalancerIPs": ",".join(["2001:db8:a::1"] * 3_000)},
    ],
    ids=["word", "unicode", "long", "many"],
)
def test_a_service_that_asks_for_nonsense_is_told_once_and_written_seldom(
    without: ApiServer, controller: Daemon, annotations: Document
) -> None:
    before = writes(without)
    name = f"asks-{abs(hash(str(annotations))) % 10_000}"
    service(without, name, annotations=annotations)
    without.wait(lambda: events(without, name, "Service"), f"an Event: {controller.said()}")
    assert rest(without, controller) - before <= 3  # the Event, the condition
    assert [] == addresses(without, name)
    (said,) = [each for each in lines(controller) if each.get("service") == f"default/{name}" and "reason" in each]
    assert "service waits" == said["event"]
    assert len(str(said)) < 2_000
    without.ask("DELETE", f"/api/v1/namespaces/default/services/{name}")
    rest(without, controller)


def test_services_that_go_while_they_are_being_served_leave_nothing_behind(
    without: ApiServer, controller: Daemon
) -> None:
    caller = without.caller()
    for number in range(60):
        service_ = {"metadata": {"name": f"gone-{number}"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}
        caller.ask("POST", "/api/v1/namespaces/default/services", service_)
        if number:
            caller.ask("DELETE", f"/api/v1/namespaces/default/services/gone-{number - 1}")
    caller.ask("DELETE", "/api/v1/namespaces/default/services/gone-59")
    caller.close()
    rest(without, controller)
    assert controller.running
    service(without, "last", ipFamilies=["IPv4"])
    without.wait(lambda: addresses(without, "last"), f"an address: {controller.said()}", 10)


@pytest.mark.parametrize("ingress", [[{"ip": "198.51.100.7"}], [{"hostname": "lb.example"}]], ids=["address", "name"])
def test_what_another_controller_writes_into_a_status_is_answered_once_and_not_for_ever(
    without: ApiServer, controller: Daemon, ingress: list[Document]
) -> None:
    """An address takes the place of ours, and is replaced; a name stands beside it, and is left alone."""
    path = "/api/v1/namespaces/default/services/web/status"
    held, before = addresses(without, "web"), writes(without)
    wanted = [*held, *(each["hostname"] for each in ingress if "hostname" in each)]
    for _ in range(3):
        without.ask("PATCH", path, {"status": {"loadBalancer": {"ingress": ingress}}})
        without.wait(lambda: wanted == addresses(without, "web"), f"its own address again: {controller.said()}", 15)
    assert rest(without, controller) - before <= 3 * 3


def test_a_service_of_another_class_is_left_alone_whatever_stands_in_it(without: ApiServer, controller: Daemon) -> None:
    before = writes(without)
    service(without, "theirs", loadBalancerClass="example.org/other")
    ingress = [{"hostname": "lb.example"}, {"ip": "2001:db8:a::1"}]
    path = "/api/v1/namespaces/default/services/theirs/status"
    without.ask("PATCH", path, {"status": {"loadBalancer": {"ingress": ingress}}})
    assert before == rest(without, controller)
    assert ["lb.example", "2001:db8:a::1"] == addresses(without, "theirs")
