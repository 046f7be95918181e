"""A skip is a statement about the machine: `needs("tool")` makes it, a table tells it, nothing else may skip.

The suite fails when a test was skipped though every tool it needs is there, so that a green run
means what it says. `conftest.py` registers the plugin with the tools of `machine.py`. Where several processes share
the tests (pytest-xdist), what a test needed comes with its report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache

import pytest

from machine import Tool

__all__ = ["Skips"]

_ASKED, _ABSENT = "lbcore needs", "lbcore lacks"


class Skips:
    """The pytest plugin: skips tests whose tools are absent and accounts for every skip."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools
        self._why_absent = cache(lambda name: tools[name].probe())
        self._skipped: Counter[str] = Counter()
        self._unexplained: list[tuple[str, str]] = []
        self._asked: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuse a tool that the table does not know: a typo would skip nothing, for ever."""
        for item in items:
            unknown = [name for name in _needed(item) if name not in self._tools]
            if unknown:
                known = ", ".join(sorted(self._tools))
                raise pytest.UsageError(f"{item.nodeid} needs {unknown[0]!r}; the known tools are {known}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip before any fixture is made."""
        for name in _needed(item):
            item.user_properties.append((_ASKED, name))
            why = self._why_absent(name)
            if why is not None:
                item.user_properties.append((_ABSENT, name))
                pytest.skip(f"needs {name}: {why}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Book each skip: on a tool, or as one that nobody can explain."""
        told = report.user_properties
        self._asked.update(str(name) for key, name in told if key == _ASKED)
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        name = next((str(name) for key, name in told if key == _ABSENT), None)
        if name is None:
            self._unexplained.append((report.nodeid, _reason(report)))
            return
        self._skipped[name] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A whole module that skips itself (importorskip) is a skip nobody can explain."""
        if report.skipped:
            self._unexplained.append((report.nodeid, _reason(report)))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that looks green but left out tests that could have run."""
        # Asked a second time: a probe that failed by chance must not hide a tool that is there.
        for name in self._skipped:
            if self._tools[name].probe() is None:
                self._unexplained.append((f"{self._skipped[name]} tests", f"{name} is there after all"))
        if self._unexplained and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The closing table."""
        terminalreporter.section("skipped")
        terminalreporter.write_line(self._table())
        for what, why in self._unexplained:
            terminalreporter.write_line(f"ERROR: skipped though nothing it needs is missing: {what}: {why}", red=True)

    def _table(self) -> str:
        if not self._skipped:
            there = ", ".join(sorted(self._asked))
            return f"No tool was missing ({there})." if there else "No test of this run needs a tool."
        rows = [("tool", "tests", "why", "how to get it")]
        for name, count in sorted(self._skipped.items()):
            rows.append((name, str(count), self._why_absent(name) or "", self._tools[name].cure))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join("  ".join([*map(str.ljust, row, widths), row[3]]) for row in rows)


def _needed(item: pytest.Item) -> list[str]:
    return [name for marker in item.iter_markers("needs") for name in marker.args]


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
