"""A slow test that fails is tried once more; one that passes then is named at the end, with what went wrong.

Slow tests start real programs on however much of a processor there is, and some six hundred of them make one run: each
may hit a moment that none of us has seen. Such a run is not thrown away, and nothing is kept quiet: what is named is a
defect to be found, of the test or of lbcore. Fast tests have no such excuse, and no second try.
"""

from __future__ import annotations

import pytest

__all__ = ["Unsteady"]


class Unsteady:
    """The pytest plugin (with pytest-rerunfailures, which does the second try)."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Allow a second try where a test is slow."""
        for item in items:
            if item.get_closest_marker("slow") is not None:
                item.add_marker(pytest.mark.flaky(reruns=1))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what passed at the second try only."""
        failed = {report.nodeid for kind in ("failed", "error") for report in terminalreporter.getreports(kind)}
        found = [report for report in terminalreporter.getreports("rerun") if report.nodeid not in failed]
        if not found:
            return
        terminalreporter.section("unsteady: failed, and passed when tried again", yellow=True)
        for report in found:
            terminalreporter.write_line(f"{report.nodeid} ({report.when})", yellow=True)
            terminalreporter.write_line(report.longreprtext)
