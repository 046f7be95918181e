"""What `kubectl apply` would make of an object: the manifest counts, what it took back goes, the rest stays."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.kubernetes.announced import Announced, read_announced
from lbcore.adapters.kubernetes.applying import LAST_APPLIED, ObjectName, applied, name_of
from lbcore.model import ServiceKey

WEB = ObjectName("", "Service", "default", "web")

leaves = st.integers(0, 3) | st.text("ab", max_size=2) | st.lists(st.integers(0, 2), max_size=2)
trees = st.dictionaries(
    st.sampled_from("uvwxyz"), st.recursive(leaves, lambda inner: st.dictionaries(st.sampled_from("xyz"), inner))
)


def service(spec: Any, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", **metadata}, "spec": spec}


def on_server(spec: Any, last: Any = None) -> dict[str, Any]:
    notes = {} if last is None else {LAST_APPLIED: json.dumps(service(last))}
    there = service(spec, namespace="default", uid="1", annotations=notes)
    return there | {"status": {"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}]}}}


def result_of(manifest: object, there: dict[str, Any] | None) -> Any:
    return applied(manifest, lambda name: there if name == WEB else None)


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    return bool(whole == part)


@given(trees, trees)
def test_all_that_the_manifest_says_is_so_afterwards(there: Any, wanted: Any) -> None:
    assert contains(result_of(service(wanted), on_server(there))["spec"], wanted)


@given(trees, trees)
def test_what_nobody_applied_stays(there: Any, wanted: Any) -> None:
    result = result_of(service(wanted), on_server(there))
    assert all(result["spec"][key] == value for key, value in there.items() if key not in wanted)


@given(trees, trees)
def test_what_was_applied_and_is_wanted_no_more_goes(last: Any, wanted: Any) -> None:
    """An object that nobody else touched looks like the manifest, whatever it was before."""
    assert wanted == result_of(service(wanted), on_server(last, last))["spec"]


@given(trees, trees)
def test_applying_twice_is_applying_once(there: Any, wanted: Any) -> None:
    once = result_of(service(wanted), on_server(there))
    assert once == result_of(service(wanted), once)


def test_identity_and_status_are_the_servers() -> None:
    claims = service({}, uid="other") | {"status": {"loadBalancer": {"ingress": [{"ip": "2001:db8::9"}]}}}
    result = result_of(claims, on_server({}))
    assert ("1", "2001:db8::1") == (result["metadata"]["uid"], result["status"]["loadBalancer"]["ingress"][0]["ip"])
    assert "status" not in result_of(claims, None)


def test_items_of_a_list_are_applied_one_by_one() -> None:
    result = result_of(
        {"apiVersion": "v1", "kind": "List", "items": [service({"x": 2}), 7]}, on_server({"x": 1, "y": 1})
    )
    assert [{"x": 2, "y": 1}, 7] == [result["items"][0]["spec"], result["items"][1]]


def test_the_namespace_that_was_chosen_is_that_of_manifests_without_one() -> None:
    assert "team" == applied(service({}), lambda _: None, "team")["metadata"]["namespace"]  # type: ignore[index]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    assert node == applied(node, lambda _: None, "team")


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["apiVersion", "kind", "metadata", "name", "namespace", "items", "status", "node", "peers"]
                ),
                inner,
            )
        ),
    )
)
def test_whatever_a_document_is_nothing_is_raised(document: object) -> None:
    name_of(document)
    applied(document, lambda _: on_server({}, {}))
    if isinstance(document, dict):
        read_announced(document)


def test_a_status_without_interfaces_speaks_of_all_of_them() -> None:
    status = {"node": "n1", "serviceName": "web", "serviceNamespace": "default"}
    said = read_announced({"status": status | {"interfaces": None}})
    assert Announced(service=ServiceKey("default", "web"), node="n1") == said
    assert said is not None
    assert "layer2" == said.protocol
    assert read_announced({"status": {"node": "n1"}}) is None
