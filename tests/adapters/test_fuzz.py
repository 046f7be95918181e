"""A fixed share of `make soak`'s nonsense for every decoder; a seed that once failed would stand here."""

from __future__ import annotations

import pytest

from fuzz import DECODERS, fuzz


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_messages_raise_only_what_is_declared(seed: int) -> None:
    refused = fuzz(6_000, seed)
    # Were nothing refused, or everything, the mutations would say little.
    each = 6_000 // len(DECODERS)
    assert all(count < each for count in refused.values())
    assert sum(refused.values()) > 500


def test_it_is_the_same_nonsense_every_time() -> None:
    assert fuzz(200, 7) == fuzz(200, 7)
