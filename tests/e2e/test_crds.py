"""The custom resources on a real API server: what is accepted, what the server alone refuses, and how it reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lbcore.adapters.kubernetes.crds import KINDS, definitions
from lbcore.adapters.kubernetes.text import TextError, parse, split
from lbcore.adapters.kubernetes.writing import documents_text
from lbcore.lab.api import Answered
from lbcore.lab.controlplane import ApiServer

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "openssl", "kubectl")]

DATA = Path(__file__).parent.parent / "data"
PLURALS = {kind.name: kind.plural for kind in KINDS}

# What no schema and no rule can hold: `lbcore check` finds it, and the controller refuses the configuration.
BEYOND_CEL = {
    "pool-annotation-unknown.yaml": "rules see no annotations",
    "pool-keep-for.yaml": "rules see no annotations",
    "pool-backward-range.yaml": "a range of IPv6: rules cannot compare numbers of 128 bits",
    "pool-selector-twice.yaml": "the same condition, once as matchLabels and once as matchExpressions",
    "pool-without-name.yaml": "has generateName: an API server gives it a name",
}


@pytest.fixture(scope="module", autouse=True)
def _definitions(api: ApiServer) -> None:
    api.kubectl("apply", "--server-side", "-f", "-", text=documents_text(definitions()))
    paths = [f"/apis/metallb.io/{kind.versions[-1].name}/{kind.plural}" for kind in KINDS]
    api.wait(lambda: all(api.request("GET", path).status == 200 for path in paths), "the resources to be served")
    api.kubectl("create", "namespace", "metallb-system")


def create(api: ApiServer, document: dict[str, Any], *, dry_run: bool = True) -> Answered:
    """As `kubectl create` asks for it: fields that do not exist are errors."""
    namespace = document["metadata"].get("namespace", "default")
    plural = PLURALS[document["kind"]]
    where = f"/apis/{document['apiVersion']}/namespaces/{namespace}/{plural}"
    return api.request("POST", f"{where}?fieldValidation=Strict{'&dryRun=All' if dry_run else ''}", document)


def documents_of(file: Path) -> Iterator[dict[str, Any]]:
    for chunk in split(file.read_text("utf-8")):
        for document in parse(chunk):
            if isinstance(document, dict):
                yield document


def wishes_in(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The documents of our kinds in each file that is YAML at all."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.yaml")):
        try:
            documents = [each for each in documents_of(file) if each.get("kind") in PLURALS]
        except (TextError, UnicodeDecodeError):
            continue
        if documents and all(isinstance(each.get("metadata"), dict) for each in documents):
            found[file.name] = documents
    return found


def test_every_bad_manifest_is_refused_by_the_server_or_known_to_be_beyond_it(api: ApiServer) -> None:
    bad = wishes_in(DATA / "bad")
    accepted = {name for name, documents in bad.items() if all(create(api, each).status == 201 for each in documents)}
    assert BEYOND_CEL.keys() == accepted
    assert len(bad) > 70


def test_every_good_manifest_is_accepted(api: ApiServer) -> None:
    for documents in wishes_in(DATA / "manifests").values():
        for document in documents:
            answered = create(api, document)
            assert (201, "") == (answered.status, str(answered.document.get("message", "")))


POOL: dict[str, Any] = {
    "apiVersion": "metallb.io/v1beta1",
    "kind": "IPAddressPool",
    "metadata": {"name": "pool", "namespace": "default"},
}


@pytest.mark.parametrize(
    "entry",
    [
        "2001:db8::/64", "2001:DB8::1/128", "2001:db8::1-2001:db8::ff", " 2001:db8::1 - 2001:db8::ff ", "192.0.2.0/24",
        "192.0.2.7/24", "192.0.2.1-192.0.2.1", "9.0.0.9-10.0.0.1", "0.0.0.0/0", "192.0.2.1 -192.0.2.9",
    ],
)  # fmt: skip
def test_an_entry_of_a_pool_that_the_reader_takes_is_accepted(api: ApiServer, entry: str) -> None:
    assert 201 == create(api, POOL | {"spec": {"addresses": [entry]}}).status


@pytest.mark.parametrize(
    ("entry", "phrase"),
    [
        ("2001:db8::1", "for one address write"),
        ("192.0.2.0/33", "must be a CIDR"),
        ("192.0.2.1-", "must be a CIDR"),
        ("192.0.2.1-192.0.2.2-192.0.2.3", "must be a CIDR"),
        ("10.0.0.1-9.0.0.9", "ends before it starts"),
        ("192.0.2.1-2001:db8::1", "mixes IPv4 and IPv6"),
        ("::1-192.0.2.1", "mixes IPv4 and IPv6"),
        ("192.0.2.1-192.0.2.1/32", "must be a CIDR"),
        ("\N{FULLWIDTH DIGIT ONE}92.0.2.0/24", "must be a CIDR"),
        ("1" * 100, "Too long"),
    ],
)
def test_an_entry_of_a_pool_is_refused_in_words_that_help(api: ApiServer, entry: str, phrase: str) -> None:
    answered = create(api, POOL | {"spec": {"addresses": [entry]}})
    assert 422 == answered.status
    assert "spec.addresses[0]" in answered.document["message"]
    assert phrase in answered.document["message"]


def test_a_pool_may_have_two_thousand_entries_and_gets_its_defaults(api: ApiServer) -> None:
    entries = [f"2001:db8:{number:x}::1 - 2001:db8:{number:x}:ffff:ffff:ffff:ffff:ffff" for number in range(2048)]
    answered = create(api, POOL | {"spec": {"addresses": entries}})
    assert 201 == answered.status
    assert answered.document["spec"]["autoAssign"] is True
    assert answered.document["spec"]["avoidBuggyIPs"] is False


def test_the_largest_objects_stay_within_what_rules_may_cost(api: ApiServer) -> None:
    selectors = [{"matchLabels": {f"l{name}": f"v{number}" for name in range(32)}} for number in range(64)]
    kind, spec = "BGPAdvertisement", {"nodeSelectors": selectors, "ipAddressPoolSelectors": selectors}
    assert 201 == create(api, POOL | {"kind": kind, "spec": spec}).status


PEERS = "/apis/metallb.io/{}/namespaces/default/bgppeers"


def peer(name: str, version: str, **spec: object) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": f"metallb.io/{version}", "kind": "BGPPeer", "metadata": metadata, "spec": spec}


OLD_SPEC: dict[str, object] = {"myASN": 64500, "peerASN": 64501, "peerAddress": "2001:db8::1"}


def test_the_columns_are_those_of_metallb(api: ApiServer) -> None:
    api.apply(POOL | {"spec": {"addresses": ["2001:db8::/64"]}})
    head, row = api.kubectl("get", "ipaddresspool", "pool", "-n", "default").splitlines()
    assert ["NAME", "AUTO", "ASSIGN", "AVOID", "BUGGY", "IPS", "ADDRESSES"] == head.split()
    assert ["pool", "true", "false", '["2001:db8::/64"]'] == row.split()
    api.apply(peer("shown", "v1beta2", **OLD_SPEC, ebgpMultiHop=True))
    head, row = api.kubectl("get", "bgppeer", "shown", "-n", "default").splitlines()
    assert ["NAME", "ADDRESS", "ASN", "BFD", "PROFILE", "MULTI", "HOPS"] == head.split()
    assert ["shown", "2001:db8::1", "64501", "true"] == row.split()


def test_a_peer_written_in_the_old_version_reads_in_the_new_one_with_its_defaults(api: ApiServer) -> None:
    assert 201 == create(api, peer("old", "v1beta1", **OLD_SPEC), dry_run=False).status
    spec = api.ask("GET", PEERS.format("v1beta2") + "/old")["spec"]
    assert OLD_SPEC | {"peerPort": 179, "disableMP": False, "dualStackAddressFamily": False} == spec


def test_port_zero_of_the_old_version_stays_and_does_not_stand_in_the_way_of_other_edits(api: ApiServer) -> None:
    assert 201 == create(api, peer("zero", "v1beta1", **OLD_SPEC, peerPort=0), dry_run=False).status
    path = PEERS.format("v1beta2") + "/zero"
    assert 0 == api.ask("GET", path)["spec"]["peerPort"]
    assert 200 == api.request("PATCH", path, {"spec": {"peerASN": 64502}}).status
    assert 422 == create(api, peer("new", "v1beta2", **OLD_SPEC, peerPort=0)).status


def test_writing_a_peer_back_in_the_old_version_loses_what_is_new(api: ApiServer) -> None:
    assert 201 == create(api, peer("new", "v1beta2", **OLD_SPEC, vrf="red"), dry_run=False).status
    old = api.ask("GET", PEERS.format("v1beta1") + "/new")
    assert "vrf" not in old["spec"]
    assert 200 == api.request("PUT", PEERS.format("v1beta1") + "/new", old).status
    assert "vrf" not in api.ask("GET", PEERS.format("v1beta2") + "/new")["spec"]


def test_a_patch_in_the_old_version_loses_what_is_new(api: ApiServer) -> None:
    assert 201 == create(api, peer("patched", "v1beta2", **OLD_SPEC, vrf="red"), dry_run=False).status
    assert 200 == api.request("PATCH", PEERS.format("v1beta1") + "/patched", {"spec": {"peerASN": 64502}}).status
    assert "vrf" not in api.ask("GET", PEERS.format("v1beta2") + "/patched")["spec"]


def test_an_unnumbered_peer_cannot_be_written_back_in_the_old_version(api: ApiServer) -> None:
    unnumbered = peer("unnumbered", "v1beta2", myASN=64500, dynamicASN="external", interface="eth1")
    assert 201 == create(api, unnumbered, dry_run=False).status
    old = api.ask("GET", PEERS.format("v1beta1") + "/unnumbered")
    assert 422 == api.request("PUT", PEERS.format("v1beta1") + "/unnumbered", old).status


def test_a_pool_tells_how_many_addresses_are_left_up_to_the_largest_number(api: ApiServer) -> None:
    api.apply(
        POOL | {"metadata": {"name": "counted", "namespace": "default"}, "spec": {"addresses": ["2001:db8::/64"]}}
    )
    counts = {"assignedIPv4": 0, "assignedIPv6": 1, "availableIPv4": 0, "availableIPv6": 2**63 - 1}
    path = "/apis/metallb.io/v1beta1/namespaces/default/ipaddresspools/counted/status"
    assert 200 == api.request("PATCH", path, {"status": counts}).status
    assert counts == api.ask("GET", path)["status"]


def test_ours_take_the_place_of_metallbs_as_the_migration_page_says(own_api: ApiServer) -> None:
    theirs = next(each for each in definitions() if each["metadata"]["name"] == "bgppeers.metallb.io")
    service = {"name": "metallb-webhook-service", "namespace": "metallb-system", "path": "/convert"}
    webhook = {"clientConfig": {"service": service}, "conversionReviewVersions": ["v1beta1", "v1beta2"]}
    theirs["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    own_api.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", theirs)
    page = (Path(__file__).parent.parent.parent / "docs/migrate-from-metallb.md").read_text("utf-8")
    patch = page.partition("-p '")[2].partition("'")[0]
    own_api.kubectl("patch", "crd", "bgppeers.metallb.io", "--type=json", "-p", patch)
    own_api.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=documents_text(definitions()))
    conversion = own_api.ask("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bgppeers.metallb.io")
    assert {"strategy": "None"} == conversion["spec"]["conversion"]


def test_a_status_says_for_ever_whom_it_is_about(api: ApiServer) -> None:
    status = POOL | {"kind": "ServiceL2Status", "metadata": {"name": "l2-x", "namespace": "default"}, "spec": {}}
    assert 201 == create(api, status, dry_run=False).status
    path = "/apis/metallb.io/v1beta1/namespaces/default/servicel2statuses/l2-x/status"
    about = {"node": "n1", "serviceName": "web", "serviceNamespace": "shop", "interfaces": [{"name": "eth0"}]}
    assert 200 == api.request("PATCH", path, {"status": about}).status
    assert 422 == api.request("PATCH", path, {"status": {"node": "n2"}}).status
    assert "n1" in api.kubectl("get", "servicel2status", "l2-x", "-n", "default")
