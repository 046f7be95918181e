"""The clusters that end-to-end tests ask for: one for a whole file where tests only add Services, a fresh one else."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from fleet import BASE, Fleet
from lbcore.lab import Lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside a failure, the end of what each daemon has said: the lab and its files are gone when one reads it."""
    report = yield
    arguments = getattr(item, "funcargs", {}).values() if report.failed else ()
    parts = [part for each in arguments for part in (each if isinstance(each, tuple) else (each,))]
    for fleet in {part for part in parts if isinstance(part, Fleet)}:
        for program in sorted({program.name for program in fleet.lab.programs}):
            report.sections.append((f"log of {program}", fleet.log(program)[-4000:]))
    return report


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Three nodes, controller and speakers running, pools `first` and `reserved`, nginx; for all tests of a file."""
    with Lab() as lab:
        lab.apply(BASE)
        yield Fleet(lab).start()


@pytest.fixture
def fresh() -> Iterator[Fleet]:
    """The same for one test alone, which may break it. Short `grace`: pods of a dead node are soon out of service."""
    with Lab(grace=0.3) as lab:
        lab.apply(BASE)
        yield Fleet(lab).start()


@pytest.fixture
def bare() -> Iterator[Fleet]:
    """Three nodes with pods, and no daemon and no configuration yet."""
    with Lab() as lab:
        yield Fleet(lab)
