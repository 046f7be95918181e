"""AdmissionReview (`admission.k8s.io/v1`) in and out: an object of metallb.io is about to be stored or deleted.

What to say to that is `lbcore.admission`'s to judge; here it is read from JSON, and written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from attrs import frozen

from lbcore.adapters.kubernetes.documents import read
from lbcore.admission import Judgement, judge
from lbcore.config import ConfigDocument, Origin
from lbcore.errors import ManifestError, Problem, RemoteProtocolError
from lbcore.events import ConfigSeen

__all__ = ["Question", "Reviewed", "decode", "review"]

_VERSION = "admission.k8s.io/v1"
_MOST_TOLD = 10  # problems in one answer: it is shown on somebody's terminal
_MOST_WARNED = 5
_WARNING = 256  # characters; an API server cuts what is longer, and drops all beyond 4,096 in total


class _User(msgspec.Struct):
    username: str = ""


class Question(msgspec.Struct):
    """What is to be done, by whom, to which object: as it shall be, and as it was."""

    uid: str
    operation: str
    namespace: str = ""
    userInfo: _User = msgspec.field(default_factory=_User)  # noqa: N815 - as Kubernetes spells it
    object: dict[str, Any] | None = None
    oldObject: dict[str, Any] | None = None  # noqa: N815


class _Review(msgspec.Struct):
    apiVersion: str  # noqa: N815
    kind: str
    request: Question


@frozen(kw_only=True)
class Reviewed:
    """The answer as JSON, and for the log: about which object, what was to be done, by whom, and why not."""

    answer: bytes
    about: str
    operation: str
    user: str
    refusal: str


def decode(body: bytes) -> Question:
    """What is asked. Raises `RemoteProtocolError` for what is no AdmissionReview."""
    try:
        asked = msgspec.json.decode(body, type=_Review)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not an AdmissionReview: {error}") from None
    if (asked.apiVersion, asked.kind) != (_VERSION, "AdmissionReview"):
        got = f"{asked.kind[:80]!r} of {asked.apiVersion[:80]!r}"
        raise RemoteProtocolError(f"an AdmissionReview of {_VERSION} is understood, not {got}")
    return asked.request


def review(question: Question, documents: Mapping[Origin, ConfigDocument], namespace: str) -> Reviewed:
    """The answer. `documents` are those of the configuration now; `namespace` is the one that counts."""
    about, judgement = _judged(question, documents, namespace)
    refusal = _text(judgement.refused)
    response: dict[str, Any] = {"uid": question.uid, "allowed": not refusal}
    if refusal:
        response["status"] = {"code": 422, "reason": "Invalid", "message": refusal}
    elif judgement.remarks:
        response["warnings"] = [_cut(_line(each)) for each in judgement.remarks[:_MOST_WARNED]]
    answer = msgspec.json.encode({"apiVersion": _VERSION, "kind": "AdmissionReview", "response": response})
    user = question.userInfo.username[:_WARNING]
    return Reviewed(answer=answer, about=about, operation=question.operation[:20], user=user, refusal=refusal)


def _judged(question: Question, documents: Mapping[Origin, ConfigDocument], namespace: str) -> tuple[str, Judgement]:
    removes = question.operation == "DELETE"
    subject = (question.oldObject if removes else question.object) or {}
    try:
        seen = read(subject, "")
    except ManifestError as error:
        return error.problem.object, Judgement(refused=(error.problem,))
    if not isinstance(seen, ConfigSeen):
        return "", Judgement()  # no configuration of ours: not our business
    document, origin = seen.document, seen.document.origin
    metadata = subject.get("metadata")
    if isinstance(metadata, dict) and metadata.get("deletionTimestamp") and not removes:
        return str(origin), Judgement()  # it is going, and must be let go: somebody takes a finalizer off
    if question.namespace != namespace:
        return str(origin), _elsewhere(question, origin, namespace)
    return str(origin), judge(documents, origin, None if removes else document)


def _elsewhere(question: Question, origin: Origin, namespace: str) -> Judgement:
    """In another namespace than ours an object does nothing; those that are there already may be edited and deleted."""
    text = f"only objects in the namespace {namespace} have an effect; create it there"
    problem = origin.problem("metadata.namespace", text)
    if question.operation == "CREATE":
        return Judgement(refused=(problem,))
    return Judgement(remarks=(problem,) if question.operation == "UPDATE" else ())


def _text(problems: tuple[Problem, ...]) -> str:
    told = [_line(each) for each in problems]
    more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
    return "; ".join([*told[:_MOST_TOLD], *more])


def _line(problem: Problem) -> str:
    return ": ".join(part for part in (problem.object, problem.field, problem.message) if part)


def _cut(text: str) -> str:
    return text if len(text) <= _WARNING else f"{text[: _WARNING - 3]}..."
