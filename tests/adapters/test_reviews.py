"""AdmissionReview: a question in JSON is answered in JSON, whatever it holds, and never with more than it should."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.kubernetes.documents import read
from lbcore.adapters.kubernetes.reviews import Reviewed, decode, review
from lbcore.config import ConfigDocument, Origin
from lbcore.errors import RemoteProtocolError
from lbcore.events import ConfigSeen

SYSTEM = "metallb-system"
PASSWORD = "dont-tell"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def wish(kind: str, name: str, namespace: str = SYSTEM, **spec: object) -> dict[str, Any]:
    version = "v1beta2" if kind == "BGPPeer" else "v1beta1"
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": metadata, "spec": spec}


def documents(*wishes: dict[str, Any]) -> dict[Origin, ConfigDocument]:
    seen = [read(each, "") for each in wishes]
    return {each.document.origin: each.document for each in seen if isinstance(each, ConfigSeen)}


def question(operation: str, subject: Any, namespace: str = SYSTEM, **more: Any) -> bytes:
    key = "oldObject" if operation == "DELETE" else "object"
    request = {"uid": "u-1", "operation": operation, "namespace": namespace, key: subject, **more}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def answer(reviewed: Reviewed) -> dict[str, Any]:
    whole = json.loads(reviewed.answer)
    assert ("admission.k8s.io/v1", "AdmissionReview") == (whole["apiVersion"], whole["kind"])
    response: dict[str, Any] = whole["response"]
    assert "u-1" == response["uid"]
    return response


def asked(operation: str, subject: dict[str, Any], *present: dict[str, Any]) -> tuple[bool, str]:
    """Whether it is allowed, and what was said."""
    body = question(operation, subject, subject["metadata"]["namespace"])
    response = answer(review(decode(body), documents(*present), SYSTEM))
    return response["allowed"], response.get("status", {}).get("message") or "".join(response.get("warnings", ()))


POOL = wish("IPAddressPool", "six", addresses=["2001:db8::/64"])


def test_a_mistake_is_refused_in_one_line_with_object_field_and_what_to_do() -> None:
    allowed, said = asked("CREATE", wish("IPAddressPool", "more", addresses=["2001:db8::8/125"]), POOL)
    assert not allowed
    assert "\n" not in said
    assert said.startswith(
        "IPAddressPool metallb-system/more: spec.addresses[0]: 2001:db8::8/125 overlaps 2001:db8::/64"
    )


def test_what_no_rule_of_the_api_server_holds_is_refused_here() -> None:
    allowed, said = asked("CREATE", wish("IPAddressPool", "x", addresses=["2001:db8::9-2001:db8::1"]))
    assert (False, True) == (allowed, "spec.addresses[0]" in said)


def test_a_peer_may_come_before_its_profile_and_the_answer_warns() -> None:
    spec: dict[str, Any] = {"myASN": 1, "peerASN": 2, "peerAddress": "2001:db8::1", "bfdProfile": "quick"}
    profile, peer = wish("BFDProfile", "quick"), wish("BGPPeer", "spine", **spec)
    allowed, said = asked("CREATE", peer)
    assert (True, True) == (allowed, "there is no BFDProfile 'quick'" in said)
    assert (True, "") == asked("CREATE", peer, profile)
    assert not asked("DELETE", profile, profile, peer)[0]


def test_an_object_in_another_namespace_is_refused_when_it_is_made_and_may_be_edited_and_deleted() -> None:
    elsewhere = wish("IPAddressPool", "x", "default", addresses=["2001:db8::/64"])
    allowed, said = asked("CREATE", elsewhere, POOL)
    assert (False, True) == (allowed, "only objects in the namespace metallb-system have an effect" in said)
    assert (True, True) == (asked("UPDATE", elsewhere, POOL)[0], "have an effect" in asked("UPDATE", elsewhere)[1])
    assert (True, "") == asked("DELETE", elsewhere, POOL)


def test_what_is_being_deleted_is_let_go_however_wrong_it_is() -> None:
    going = wish("IPAddressPool", "x", addresses=["2001:db8::/65"])
    going["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    assert (True, "") == asked("UPDATE", going, POOL)


def test_what_is_no_configuration_is_let_pass() -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}}
    assert (True, "") == asked("CREATE", other)


def test_many_problems_are_told_in_a_bounded_text_and_many_warnings_too() -> None:
    many = wish("IPAddressPool", "x", addresses=[f"{number}::9-{number}::1" for number in range(1, 500)])
    allowed, said = asked("CREATE", many)
    assert not allowed
    assert re.search(r"; and \d+ more$", said)
    assert len(said) < 4000
    lost = wish("BGPAdvertisement", "x", communities=[f"name-{number}-{'x' * 90}" for number in range(50)])
    warnings = answer(review(decode(question("CREATE", lost)), {}, SYSTEM))["warnings"]
    assert (5, True) == (len(warnings), all(len(each) <= 256 for each in warnings))


@given(VALUES, st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT", "x"]), st.sampled_from(["spec", "metadata"]))
def test_whatever_stands_in_an_object_it_is_answered_and_no_password_is_told(
    value: Any, operation: str, where: str
) -> None:
    spec = {"myASN": "x", "peerASN": 2, "peerAddress": "2001:db8::1", "password": PASSWORD, "odd": value}
    subject = wish("BGPPeer", "spine", **spec)
    subject[where] = value if where == "metadata" else {**spec, "addresses": value}
    reviewed = review(decode(question(operation, subject)), documents(POOL), SYSTEM)
    assert answer(reviewed)["allowed"] in (True, False)
    assert PASSWORD.encode() not in reviewed.answer
    assert PASSWORD not in reviewed.refusal


@pytest.mark.parametrize("subject", [None, {}, {"kind": "IPAddressPool"}, {"kind": 7, "apiVersion": []}])
def test_a_question_about_nothing_is_answered(subject: Any) -> None:
    assert "allowed" in answer(review(decode(question("CREATE", subject)), {}, SYSTEM))


@given(
    st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(
        [b'{"apiVersion": "x", "kind": "y", "request": {"uid": "1", "operation": "CREATE"}}', b"[" * 100_000]
    )
)
def test_what_is_no_review_is_refused_as_that_in_one_line(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="AdmissionReview") as caught:
        decode(body)
    assert "\n" not in str(caught.value)
