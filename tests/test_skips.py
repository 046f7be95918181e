"""The suite's own honesty: which skips pass, which fail a run, and what the closing table says."""

from __future__ import annotations

import pytest

CONFTEST = """
from machine import Tool
from skips import Skips

answers = iter(["gone by chance"])

def pytest_configure(config):
    config.pluginmanager.register(Skips({
        "wheel": Tool(lambda: None, "apt-get install wheel"),
        "anvil": Tool(lambda: "no anvil here", "apt-get install anvil"),
        "moody": Tool(lambda: next(answers, None), "patience"),
    }))
"""


def run(pytester: pytest.Pytester, test: str) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers = needs: a tool")
    pytester.makepyfile("import pytest\n" + test)
    return pytester.runpytest("-p", "no:cacheprovider")


def test_a_test_whose_tool_is_missing_is_skipped_and_the_table_says_how_to_get_it(pytester: pytest.Pytester) -> None:
    result = run(pytester, "@pytest.mark.needs('wheel', 'anvil')\ndef test_a(): assert False")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["tool *tests *why *how to get it", "anvil *1 *no anvil here *apt-get install anvil"])
    assert pytest.ExitCode.OK == result.ret


def test_a_test_whose_tool_is_there_runs(pytester: pytest.Pytester) -> None:
    result = run(pytester, "@pytest.mark.needs('wheel')\ndef test_a(): pass")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["No tool was missing (wheel)."])


def test_fixtures_of_a_skipped_test_are_not_made(pytester: pytest.Pytester) -> None:
    broken = "@pytest.fixture(autouse=True)\ndef broken(): raise OSError\n"
    run(pytester, broken + "@pytest.mark.needs('anvil')\ndef test_a(): pass").assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    "test",
    [
        "def test_a(): pytest.skip('no mood')",
        "@pytest.mark.needs('wheel')\ndef test_a(): pytest.skip('no mood')",
        "@pytest.mark.skipif(True, reason='no mood')\ndef test_a(): pass",
        "pytest.skip('no mood', allow_module_level=True)\ndef test_a(): pass",
    ],
    ids=["in the test", "though its tool is there", "by condition", "a whole module"],
)
def test_a_skip_that_no_tool_explains_fails_the_run(pytester: pytest.Pytester, test: str) -> None:
    result = run(pytester, test + "\ndef test_b(): pass")
    result.stdout.fnmatch_lines(["ERROR: skipped though nothing it needs is missing: *no mood"])
    assert result.ret != pytest.ExitCode.OK


def test_a_tool_that_is_there_after_all_fails_the_run(pytester: pytest.Pytester) -> None:
    result = run(pytester, "@pytest.mark.needs('moody')\ndef test_a(): pass")
    result.stdout.fnmatch_lines(["ERROR: *moody is there after all"])
    assert pytest.ExitCode.TESTS_FAILED == result.ret


def test_an_expected_failure_is_not_taken_for_a_skip(pytester: pytest.Pytester) -> None:
    result = run(pytester, "@pytest.mark.xfail\ndef test_a(): assert False")
    assert pytest.ExitCode.OK == result.ret


def test_an_unknown_tool_is_refused_by_name(pytester: pytest.Pytester) -> None:
    result = run(pytester, "@pytest.mark.needs('anvli')\ndef test_a(): pass")
    result.stderr.fnmatch_lines(["*needs 'anvli'; the known tools are anvil, moody, wheel"])
    assert pytest.ExitCode.USAGE_ERROR == result.ret
