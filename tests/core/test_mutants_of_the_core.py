"""Small mistakes made in a copy of the core, one at a time: each must be noticed by the test that is named beside it.

`tests/mutants/core.tsv` has a line for each: the module, a piece of its text that stands there once,
what it becomes, and the test (below `tests/`) that fails then. `\\n` is the end of a line. A piece
that is no longer there is to be written anew against the code that it spoilt.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest
from attrs import frozen

PROJECT = Path(__file__).parent.parent.parent
PACKAGE = PROJECT / "src" / "lbcore"
TABLE = PROJECT / "tests" / "mutants" / "core.tsv"

# The modules that decide about addresses and who announces them, and what an Ingress's hosts are to be looked at again
# for: none of them without.
WITH_MUTANTS = {
    "addresses", "model", "config", "soundness", "resources", "bgp", "requests", "pools", "sharing", "occupancy",
    "ledger", "allocation", "election", "waiting", "worklist", "keeping", "links", "endpoints", "advertising",
    "verdicts", "assignment/__init__", "assignment/knowing", "assignment/deciding", "assignment/reporting",
    "assignment/explaining", "announcement/knowing", "announcement/judging", "announcement/voting",
    "announcement/answering", "announcement/routers", "announcement/explaining",
    "routing/hosting", "routing/knowing", "routing/building", "backing", "streams",
}  # fmt: skip
FAILED = 1  # pytest's exit status when a test failed; 2 to 5 are mistakes in running it


@frozen
class Mutant:
    """One mistake: `before`, which stands once in a module of the core, becomes `after`; `test` fails then."""

    line: int
    module: str
    before: str
    after: str
    test: str

    @classmethod
    def read(cls, line: int, text: str) -> Mutant:
        module, before, after, test = text.split("\t")
        return cls(line, module, before.replace(r"\n", "\n"), after.replace(r"\n", "\n"), test)

    def __str__(self) -> str:
        return f"{self.module}-{self.line}"


MUTANTS = [Mutant.read(number, line) for number, line in enumerate(TABLE.read_text("utf-8").splitlines(), start=1)]


class Runner:
    """The program `tests/mutating.py`, which keeps a copy of lbcore and pytest at hand."""

    def __init__(self, work: IO[str], answers: IO[str]) -> None:
        self._work, self._answers = work, answers

    def run(self, module: str, before: str, after: str, *tests: str) -> tuple[int, str]:
        """Pytest's exit status with that text changed, and what it printed."""
        change = {"module": module, "before": before, "after": after, "tests": tests}
        print(json.dumps(change), file=self._work, flush=True)
        code, printed = json.loads(self._answers.readline())
        return int(code), str(printed)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    command = [sys.executable, str(PROJECT / "tests" / "mutating.py"), str(tmp_path_factory.mktemp("mutants"))]
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        )
        assert process.stdin is not None
        assert process.stdout is not None
        stack.enter_context(process.stdin)  # at its end the program ends
        yield Runner(process.stdin, process.stdout)


@pytest.mark.slow
def test_the_tests_that_are_named_pass_on_a_copy_in_which_nothing_is_changed(runner: Runner) -> None:
    tests = sorted({mutant.test for mutant in MUTANTS})
    code, printed = runner.run("errors", "", "", *tests)
    assert 0 == code, printed


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mistake_in_the_core_is_noticed(mutant: Mutant, runner: Runner) -> None:
    text = (PACKAGE / f"{mutant.module}.py").read_text("utf-8")
    assert 1 == text.count(mutant.before), f"{mutant.module} no longer has {mutant.before!r} once; write it anew"
    code, printed = runner.run(mutant.module, mutant.before, mutant.after, mutant.test)
    assert FAILED == code, f"{mutant.before!r} -> {mutant.after!r} is not noticed:\n{printed}"


def test_every_module_that_decides_has_its_mutants() -> None:
    counts = Counter(mutant.module for mutant in MUTANTS)
    assert WITH_MUTANTS <= counts.keys()
    assert len(MUTANTS) >= 100


def test_no_mistake_is_listed_twice() -> None:
    assert [] == [what for what, count in Counter((m.module, m.before, m.after) for m in MUTANTS).items() if count > 1]
