"""A second try is for slow tests that fail by chance, and it is told; what fails twice fails."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = """
from unsteady import Unsteady

def pytest_configure(config):
    config.pluginmanager.register(Unsteady(), "unsteady")
"""
ONCE = "tries = []\n{}def test_a():\n    tries.append(1)\n    assert len(tries) > {}, 'a bad moment'\n"
SLOW = "@pytest.mark.slow\n"


def run(pytester: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST)
    pytester.makeini(f"[pytest]\nmarkers = slow: takes long\npythonpath = {Path(__file__).parent}")
    pytester.makepyfile("import pytest\n" + test)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


@pytest.mark.parametrize("workers", [(), ("--numprocesses", "1")], ids=["one process", "workers"])
def test_a_slow_test_that_passes_at_its_second_try_passes_and_is_named_with_what_went_wrong(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    result = run(pytester, ONCE.format(SLOW, 1), *workers)
    assert pytest.ExitCode.OK == result.ret
    result.stdout.fnmatch_lines(
        ["*unsteady: failed, and passed when tried again*", "*::test_a (call)", "*a bad moment*"]
    )


def test_a_slow_test_that_fails_twice_fails_and_is_not_called_unsteady(pytester: pytest.Pytester) -> None:
    result = run(pytester, ONCE.format(SLOW, 2))
    assert pytest.ExitCode.TESTS_FAILED == result.ret
    result.stdout.no_fnmatch_line("*passed when tried again*")


def test_a_fast_test_has_one_try(pytester: pytest.Pytester) -> None:
    result = run(pytester, ONCE.format("", 1))
    assert pytest.ExitCode.TESTS_FAILED == result.ret
    result.stdout.no_fnmatch_line("*passed when tried again*")
