"""What nginx's workers counted, read: sums over workers, labels from routes, and nothing else is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.nginx.counts import HISTOGRAMS, read_counts
from lbcore.adapters.nginx.status import Connections, read_status
from lbcore.errors import RemoteProtocolError

WIDTH = 1 + sum(len(bounds) + 2 for _, _, bounds in HISTOGRAMS)
NUMBERS = st.lists(st.integers(0, 10**9), min_size=WIDTH, max_size=WIDTH)


def line(numbers: list[int], host: str = "a.example", route: str = "shop/web/app/80/x/y", canary: str = "") -> str:
    return "\x1f".join(["200", "GET", host, route, canary]) + "\x1e" + " ".join(map(str, numbers))


@given(st.lists(NUMBERS, min_size=1, max_size=3))
def test_workers_are_added_up(told: list[list[int]]) -> None:
    (found,) = read_counts("\n".join(map(line, told)))
    assert sum(each[0] for each in told) == found.requests
    first, last = HISTOGRAMS[0][2], found.histograms[-1]
    assert (
        tuple(map(sum, zip(*(each[1 : len(first) + 2] for each in told), strict=True))) == found.histograms[0].buckets
    )
    assert sum(each[-1] for each in told) == last.sum


def test_labels_come_from_the_route_and_the_server() -> None:
    numbers = [0] * WIDTH
    wild, plain, rest = read_counts(
        "\n".join(
            [
                line(numbers, "~^[a-z0-9_-]+\\.d\\.example$", canary="shop-new-80"),
                line(numbers, "_", route="shop/web/app//"),
                line(numbers, "", route="-"),
            ]
        )
    )[::-1]
    assert ("*.d.example", "shop", "web", "app", "/x/y", "shop-new-80") == (
        wild.host, wild.namespace, wild.ingress, wild.service, wild.path, wild.canary
    )  # fmt: skip
    assert ("", "app", "/") == (plain.host, plain.service, plain.path)
    assert ("", "", "") == (rest.namespace, rest.ingress, rest.path)


@given(st.text(max_size=60) | NUMBERS.map(lambda numbers: line(numbers[1:])))
def test_anything_else_is_refused(text: str) -> None:
    if not text:
        assert () == read_counts(text)
        return
    with pytest.raises(RemoteProtocolError):
        read_counts(text)


def test_the_status_of_nginx() -> None:
    page = "Active connections: 2 \nserver accepts handled requests\n 10 9 31 \nReading: 0 Writing: 1 Waiting: 1 \n"
    assert (
        Connections(active=2, reading=0, writing=1, waiting=1, accepted=10, handled=9, requests=31)
        == read_status(page)
    )  # fmt: skip
    with pytest.raises(RemoteProtocolError):
        read_status("<html>")
