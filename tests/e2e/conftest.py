"""The clusters that end-to-end tests ask for: one for a whole file where tests only add Services, a fresh one else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet import BASE, Fleet
from lbcore.lab import Lab


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
