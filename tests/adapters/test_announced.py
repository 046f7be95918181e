"""ServiceL2Status and ServiceBGPStatus: what is written reads as what was said, and says it once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.kubernetes.announced import (
    BGP,
    L2,
    Announced,
    Owner,
    new_object,
    node_label,
    node_of,
    read_announced,
    read_row,
    status_patch,
    wanted_status,
)
from lbcore.adapters.kubernetes.api import ANNOUNCED
from lbcore.intents import ReportAnnounced
from lbcore.model import ServiceKey

WEB = ServiceKey("shop", "web")
NAMES = st.lists(st.sampled_from(["a", "b", "c"]), unique=True).map(sorted).map(tuple)
SAID = st.builds(ReportAnnounced, key=st.just(WEB), node=st.just("n1"), interfaces=st.none() | NAMES, peers=NAMES)


def merge(status: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**status, **patch["status"]}.items() if value is not None}


@given(SAID, SAID)
def test_a_patch_leads_from_anything_that_was_said_to_what_is_said_now(
    before: ReportAnnounced, after: ReportAnnounced
) -> None:
    for resource in ANNOUNCED:
        there, wanted = wanted_status(resource, before) or {}, wanted_status(resource, after)
        if wanted is None:
            assert (after.interfaces is None) if resource is L2 else not after.peers
            continue
        patch = status_patch(wanted, there)
        there = merge(there, patch) if patch is not None else there
        assert status_patch(wanted, there) is None
        read = read_announced({"status": there})
        names = {"peers": after.peers} if resource is BGP else {"interfaces": after.interfaces or ()}
        assert Announced(service=WEB, node="n1", **names) == read


@pytest.mark.parametrize("resource", ANNOUNCED)
def test_an_object_is_found_by_metallbs_labels_and_goes_with_its_pod(resource: Any) -> None:
    said = ReportAnnounced(key=WEB, node="n" * 70, interfaces=(), peers=("tor",))
    document = new_object(resource, said, Owner("speaker-x", "7"))
    labels = {"metallb.io/node": "n" * 63, "metallb.io/service-name": "web", "metallb.io/service-namespace": "shop"}
    assert labels == document["metadata"]["labels"]
    assert [{"apiVersion": "v1", "kind": "Pod", "name": "speaker-x", "uid": "7"}] == document["metadata"][
        "ownerReferences"
    ]
    found = read_row(document)
    assert found is not None
    assert (WEB, frozenset({"7"}), {}) == (found[0], found[1].owners, found[1].status)
    assert node_label(said.node) == node_of(document)
    assert document["metadata"]["name"] == new_object(resource, said, None)["metadata"]["name"]


@given(
    st.recursive(
        st.none() | st.text(max_size=2),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["metadata", "labels", "name", "metallb.io/service-name", "ownerReferences", "status"]),
                inner,
            )
        ),
    )
)
def test_whatever_an_object_holds_nothing_is_raised(document: object) -> None:
    if isinstance(document, dict):
        read_row(document)
        node_of(document)
