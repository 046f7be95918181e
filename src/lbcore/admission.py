"""May one object of the configuration become something else, given all the others? Asked before it is stored.

The judgement is that of `lbcore.config.build`, by which configurations come into force and `lbcore check` reads files.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from lbcore.config import ConfigDocument, InvalidConfig, Origin, build
from lbcore.errors import Problem

__all__ = ["Judgement", "judge"]


@frozen(kw_only=True)
class Judgement:
    """`refused`: why the change must not be made; empty if it may. `remarks`: what its author should know even so."""

    refused: tuple[Problem, ...] = ()
    remarks: tuple[Problem, ...] = ()


def judge(documents: Mapping[Origin, ConfigDocument], subject: Origin, becomes: ConfigDocument | None) -> Judgement:
    """What to say to a change of `subject`, which `becomes` something (None: it is deleted) among `documents`.

    Refused for what is wrong with it and was not wrong without, so that a configuration which is broken already can be
    mended step by step. A name that nobody defines yet is a remark only, for objects come in any order; but the last
    definition of a name that another object uses may not go, unless it could not be read anyway.
    """
    others = {origin: each for origin, each in documents.items() if origin != subject}
    known = _built(documents).problems
    if subject in documents and documents[subject].problems:
        # What it would have defined was not missed as long as it could not be read.
        known += _built(others).problems
    after = _built(others if becomes is None else {**others, subject: becomes})
    own = str(subject)
    said, places = set(known), {(each.object, each.field) for each in known}
    refused: list[Problem] = []
    remarks: list[Problem] = []
    for problem in after.problems:
        is_own = problem.object == own
        # Of this object, what is wrong in other words is new; in others, who is to blame may change its name.
        is_new = problem not in said if is_own else (problem.object, problem.field) not in places
        forgiven = is_own and problem in after.dangling
        (refused if is_new and not forgiven else remarks).append(problem)
    return Judgement(refused=tuple(refused), remarks=tuple(remarks))


def _built(documents: Mapping[Origin, ConfigDocument]) -> InvalidConfig:
    built = build(documents.values())
    return built if isinstance(built, InvalidConfig) else InvalidConfig(problems=())
