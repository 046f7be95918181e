"""Runs tests against a changed copy of lbcore, many times over: what `test_mutants_of_the_core` asks.

Started as a program with a folder to work in. Each line that it reads is a change and the tests to
run, each line that it writes is their exit status and what they printed. It has pytest and
hypothesis loaded and lbcore not, and forks for each line: half a second, where a new interpreter
takes two.
"""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import _pytest.pytester  # noqa: F401  # loaded once, before the forks
import hypothesis.stateful  # noqa: F401
import msgspec  # noqa: F401
import netaddr  # noqa: F401
import pytest
import yaml  # noqa: F401
from hypothesis import HealthCheck, Phase, settings

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "src" / "lbcore"
PATIENCE = 240  # seconds for the tests of one change: most take one or two, the dearest 25 on an idle machine

# The first example that fails is enough, and it is to be the same one on every machine.
PROFILE = settings(
    deadline=None,
    max_examples=100,
    database=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)


def run_tests(root: Path, tests: Sequence[str]) -> NoReturn:
    """In the child: the tests on the copy below `root`; ends the process with pytest's exit status."""
    sys.path.insert(0, str(root))
    found = importlib.util.find_spec("lbcore")
    if found is None or found.origin is None or not found.origin.startswith(str(root)):
        os._exit(pytest.ExitCode.INTERNAL_ERROR)
    settings.register_profile("mutants", PROFILE)
    names = [str(PROJECT / "tests" / test) for test in tests]
    # Without the rewriting of assertions, which takes half of the time and makes messages that nobody reads.
    options = ["-x", "-q", "--tb=short", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:anyio"]
    code = pytest.main([*options, f"--rootdir={PROJECT}", "--hypothesis-profile=mutants", *names])
    sys.stdout.flush()
    os._exit(code)


def outcome(root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """The exit status of the tests on the copy below `root`, and what they printed."""
    printed = root / "printed"
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        with printed.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        run_tests(root, tests)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), printed.read_text(encoding="utf-8", errors="replace")


def main(root: Path) -> None:
    """Answer lines until there are no more."""
    package = root / "lbcore"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(package, quiet=1)
    # What is compiled of a changed file must not outlive the change: two changes may have one size and one second.
    sys.dont_write_bytecode = True
    for line in sys.stdin:
        change = json.loads(line)
        path = package / f"{change['module']}.py"
        text = path.read_text(encoding="utf-8")
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
        path.write_text(text.replace(change["before"], change["after"]), encoding="utf-8")
        try:
            code, printed = outcome(root, change["tests"])
        finally:
            path.write_text(text, encoding="utf-8")
        print(json.dumps([code, printed]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
