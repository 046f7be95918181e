"""Electing an announcer for each of 10,000 addresses over 200 nodes, and again when one node leaves."""

from __future__ import annotations

import time
from statistics import median

from benchmarks.report import Row, frozen_heap, percentile, progress, samples
from lbcore.addresses import Address
from lbcore.election import Election, Electorate, re_elect

__all__ = ["NAME", "run"]

NAME = "election: 10,000 addresses over 200 nodes"
ADDRESSES, NODES, ROUNDS = 10_000, 200, 5


def run() -> list[Row]:
    """From nothing; one node leaving; one joining."""
    base = Address.parse("2001:db8::").value
    addresses = [Address(6, base + number) for number in range(ADDRESSES)]
    nodes = frozenset(f"node-{number:03}.example.org" for number in range(NODES))
    everybody = Electorate(nodes)
    whole, slices, leaving, joining = [], [], [], []
    with frozen_heap():
        for number in range(ROUNDS):
            progress(f"round {number + 1} of {ROUNDS}")
            found, each = _from_nothing(addresses, everybody)
            whole.append(sum(each) / 1e9)
            slices.append(percentile(each, 0.99) / 1e3)
            leaving.append(_one_leaves(found, everybody))
            joining.append(_one_joins(found, everybody))
    return [
        Row(what="from nothing, all addresses", figure=median(whole), unit="s", at_most=2),
        Row(what="from nothing, one address, 99th percentile", figure=median(slices), unit="us",
            note="what a slice of at most 5 ms is made of"),
        Row(what="one node leaves: elect its addresses anew", figure=median(leaving), unit="ms", at_most=20,
            note=f"about {ADDRESSES // NODES} addresses, {NODES - 1} hashes each"),
        Row(what="one node joins: compare it with every winner", figure=median(joining), unit="ms",
            note="one hash for each address"),
    ]  # fmt: skip


def _from_nothing(addresses: list[Address], among: Electorate) -> tuple[dict[Address, Election], list[int]]:
    found: dict[Address, Election] = {}

    def elect_one(number: int) -> None:
        election = re_elect(None, among, addresses[number])
        assert election is not None
        found[addresses[number]] = election

    return found, samples(len(addresses), elect_one)


def _one_leaves(found: dict[Address, Election], among: Electorate) -> float:
    gone = min(among.candidates)
    rest = Electorate(among.candidates - {gone})
    begin = time.thread_time()
    orphans = [address for address, election in found.items() if election.winner == gone]
    for address in orphans:
        re_elect(found[address], rest, address)
    return (time.thread_time() - begin) * 1e3


def _one_joins(found: dict[Address, Election], among: Electorate) -> float:
    more = Electorate(among.candidates | {"node-new.example.org"})
    begin = time.thread_time()
    for address, election in found.items():
        re_elect(election, more, address)
    return (time.thread_time() - begin) * 1e3
