"""Ours and hashicorp's members in one cluster, on loopback addresses of their own: MetalLB's are no others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lbcore.adapters.memberlist.keys import metallb_key
from members import GoMember, OurMember, Wire, go_program, until

pytestmark = [pytest.mark.needs("go"), pytest.mark.slow]

KEY = metallb_key(b"0123456789abcdefghijkl") or b""
WIRES = {
    "plain": Wire(compressed=False),
    "compressed": Wire(),
    "labelled": Wire(label="blue"),
    "sealed": Wire(key=KEY),
    "padded": Wire(key=KEY, version=0),
    "all": Wire(key=KEY, label="blue"),
    "all padded": Wire(key=KEY, version=0, label="blue", compressed=False),
}
SEALED = WIRES["sealed"]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_program(tmp_path_factory.mktemp("interop"))


class Mixed:
    """A cluster of both kinds, each at an address of its own in a network that this test alone uses."""

    # Of the several processes that run tests at once, each begins elsewhere.
    _networks = iter(range(1 + 60 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4), 250))

    def __init__(self, program: Path) -> None:
        self._program = program
        self._stack = ExitStack()
        self._network = next(self._networks)
        self.members: dict[str, GoMember | OurMember] = {}

    def address(self, number: int) -> str:
        return f"127.46.{self._network}.{number}"

    def go(self, number: int, wire: Wire) -> GoMember:
        member = GoMember(self._program, f"go-{number}", self.address(number), wire)
        self._stack.callback(member.close)
        self.members[member.name] = member
        return member

    def ours(self, number: int, wire: Wire, *peers: int) -> OurMember:
        member = OurMember(f"ours-{number}", self.address(number), wire, map(self.address, peers))
        self._stack.callback(member.close)
        self.members[member.name] = member
        return member

    def lose(self, name: str) -> None:
        del self.members[name]

    def agree(self, timeout: float = 20.0) -> float:
        def agreed() -> bool:
            return all(member.names == self.members.keys() for member in self.members.values())

        return until(agreed, f"all to see {sorted(self.members)}", timeout)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def mixed(program: Path) -> Iterator[Mixed]:
    cluster = Mixed(program)
    yield cluster
    cluster.close()


@pytest.mark.parametrize("name", WIRES)
def test_ours_joins_go_members_and_is_joined_by_them(mixed: Mixed, name: str) -> None:
    wire = WIRES[name]
    first = mixed.go(1, wire)
    mixed.ours(2, wire, 1)
    mixed.agree()
    third = mixed.go(3, wire)
    third.say("join", mixed.address(2))
    mixed.agree()
    until(lambda: third.joined == 1, "the Go member to have joined us")
    mixed.ours(4, wire, 3)
    mixed.agree()
    time.sleep(2.5)
    for member in (first, third):
        member.say("members")
    mixed.agree(0.1)
    assert all(not member.left for member in mixed.members.values())


def test_who_has_another_key_or_none_is_not_let_in(mixed: Mixed) -> None:
    mixed.go(1, SEALED)
    mixed.ours(2, SEALED, 1)
    mixed.agree()
    stranger = mixed.go(5, WIRES["plain"])
    stranger.say("join", mixed.address(2))
    strangers: list[GoMember | OurMember] = [
        stranger,
        mixed.ours(3, WIRES["plain"], 1, 2),
        mixed.ours(4, Wire(key=bytes(32)), 1, 2),
    ]
    time.sleep(1.5)
    for each in strangers:
        assert {each.name} == each.names
        mixed.lose(each.name)
    mixed.agree(1)


def test_a_quiet_quarter_of_a_minute_brings_no_suspicion_and_a_clean_leave_is_heard_at_once(mixed: Mixed) -> None:
    go, _, ours = mixed.go(1, SEALED), mixed.ours(2, SEALED, 1), mixed.ours(3, SEALED, 1)
    mixed.agree()
    time.sleep(15)
    go.say("members")
    mixed.agree(0.1)
    assert (0, []) == (go.health, go.left)
    assert 0 == ours.engine.counts.refutations == ours.engine.counts.health
    mixed.lose("ours-3")
    ours.close(politely=True)
    assert mixed.agree(1.0) < 1.0


def test_killed_members_of_either_kind_are_found_by_both_and_a_returning_one_is_back_at_once(mixed: Mixed) -> None:
    go, _ = mixed.go(1, SEALED), mixed.go(2, SEALED)
    ours = mixed.ours(3, SEALED, 1, 2, 5)
    mixed.ours(4, SEALED, 1, 2)
    mixed.agree()
    mixed.lose("go-1")
    go.signal(signal.SIGKILL)
    assert 4.0 < mixed.agree(20)
    mixed.lose("ours-3")
    ours.close()
    assert 4.0 < mixed.agree(30)
    mixed.ours(3, SEALED, 2)
    mixed.agree(2.0)


def test_a_stopped_go_member_is_suspected_and_refutes_when_it_goes_on(mixed: Mixed) -> None:
    go = mixed.go(1, SEALED)
    mixed.ours(2, SEALED, 1)
    mixed.ours(3, SEALED, 1)
    mixed.agree()
    go.signal(signal.SIGSTOP)
    time.sleep(3.5)
    go.signal(signal.SIGCONT)
    time.sleep(4)
    mixed.agree(1)
    assert not any(member.left for member in mixed.members.values())


def test_twenty_members_of_both_kinds_agree_and_agree_again_when_one_of_each_is_killed(mixed: Mixed) -> None:
    for number in range(1, 11):
        mixed.go(number, SEALED).say("join", mixed.address(1))
    ours = [mixed.ours(number, SEALED, 1, 2, 3) for number in range(11, 21)]
    mixed.agree(30)
    go = mixed.members["go-5"]
    assert isinstance(go, GoMember)
    for member in (go, ours[0]):
        mixed.lose(member.name)
    go.signal(signal.SIGKILL)
    ours[0].close()
    mixed.agree(40)


@pytest.mark.needs("netns", "nft")
def test_where_a_tenth_of_the_datagrams_is_lost_nobody_alive_is_missed_and_the_dead_are(program: Path) -> None:
    script = Path(__file__).parent.parent / "lossy.py"
    command = ["unshare", "--net", sys.executable, str(script), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout)
    assert [] == told["lost"]
    assert 4.0 < told["took"]
