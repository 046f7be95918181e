"""The reflex process for real: a child in a namespace of its own, and the other end's kernel as the client."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from lbcore.adapters import arp
from lbcore.addresses import Address
from lbcore.backends.link import CapabilityError
from lbcore.backends.reflex import Reflex, ReflexRefusedError, ReflexReplacedError, ReflexSettings
from lbcore.events import AddressHeard, AnsweringSeen, Applied, Event, Failed, Kind, Listed, MembersSeen
from lbcore.intents import Announce, Intent, SetLinks, SetPoolUsage, SetPresence, Withdraw
from lbcore.model import Link
from wire import Cable, Namespace, cable, isolated

pytestmark = pytest.mark.needs("netns", "packet")

T = TypeVar("T")

PATIENCE = 10.0  # seconds: far more than anything here takes
VIP6, VIP4 = Address.parse("2001:db8::20"), Address.parse("192.0.2.20")
BOTH = (Announce(address=VIP6), Announce(address=VIP4))
JOIN = SetPresence(present=True, why="test")
_PR_CAPBSET_DROP, _CAP_NET_RAW = 24, 13


def until(condition: Callable[[], object], what: object = "") -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


class Speaker:
    """The speaker's side alone, in a namespace: a `Reflex` in a thread with an event loop of its own."""

    def __init__(self, namespace: Namespace, settings: ReflexSettings) -> None:
        self.told: list[Event] = []
        self.said: list[str] = []
        self.failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._reflex = Reflex(settings, say=self.said.append)
        self._thread = threading.Thread(target=self._run)
        namespace.run(self._thread.start)  # a thread, and a process, is born where its parent is

    def _run(self) -> None:
        self._follower = self._loop.create_task(self._follow())
        self._loop.run_forever()

    async def _follow(self) -> None:
        try:
            async for event in self._reflex.events():
                self.told.append(event)
        except Exception as error:
            self.failure = error

    def do(self, *intents: Intent) -> list[Applied | Failed]:
        """Apply intents, one after the other."""
        return [
            asyncio.run_coroutine_threadsafe(self._reflex.apply(intent), self._loop).result(PATIENCE)
            for intent in intents
        ]

    @property
    def answering(self) -> list[AnsweringSeen]:
        """What was told at each connection."""
        return [event for event in self.told if isinstance(event, AnsweringSeen)]

    @property
    def members(self) -> list[frozenset[str]]:
        """Each membership told."""
        return [event.names for event in self.told if isinstance(event, MembersSeen)]

    @property
    def replaced(self) -> bool:
        """Whether it knows that another has taken its child."""
        return self._reflex.replaced

    @property
    def pid(self) -> int:
        """The child's process id."""
        until(lambda: self._reflex.pid is not None, self.said)
        assert self._reflex.pid is not None
        return self._reflex.pid

    def hang_up(self) -> None:
        """Stop listening, as a daemon does before it ends what it drives."""
        self._loop.call_soon_threadsafe(self._follower.cancel)
        until(self._follower.done)

    def close(self, *, leave: bool) -> None:
        """End, with the child or without it."""
        asyncio.run_coroutine_threadsafe(self._reflex.close(leave=leave), self._loop).result(PATIENCE)
        until(self._follower.done)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._loop.close()


@contextmanager
def speaker(on: Cable | Namespace, settings: ReflexSettings, *, leave: bool = True) -> Iterator[Speaker]:
    """A speaker that is connected; at the end its child is gone unless `leave` is False."""
    one = Speaker(on if isinstance(on, Namespace) else on.node, settings)
    try:
        until(lambda: one.answering or one.failure, one.said)
        yield one
    finally:
        one.close(leave=leave)


def settings_in(folder: Path, **others: object) -> ReflexSettings:
    """Settings with everything below a folder."""
    return ReflexSettings(socket=folder / "reflex", node="n1", members=folder / "members", **others)  # type: ignore[arg-type]


def answers(on: Cable, address: Address) -> bool:
    """Whether the client's kernel, asking anew, finds the address at the node's MAC."""
    _forget(on, address)
    on.client.say_something_to(address)
    for _ in range(60):
        if on.client.neighbour(address) == on.link.mac:
            return True
        time.sleep(0.01)
    return False


def _forget(on: Cable, address: Address) -> None:
    index = on.client.index("eth0")
    with suppress(Exception):  # pyroute2 has its own: there was no entry
        on.client.netlink(lambda ip: ip.neigh("del", ifindex=index, dst=str(address)))


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@isolated
def test_the_other_end_finds_the_addresses_at_our_mac_until_they_are_withdrawn(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        assert [AnsweringSeen(())] == one.answering
        assert one.pid == os.getsid(one.pid)  # what is sent to our terminal's processes is not for it
        intents = (SetLinks(links=(on.link,)), *BOTH)
        assert [Applied(intent) for intent in intents] == one.do(*intents)
        assert answers(on, VIP6)
        assert answers(on, VIP4)
        one.do(Withdraw(address=VIP6))
        assert not answers(on, VIP6)
        assert answers(on, VIP4)


@isolated
def test_the_scapy_backend_answers_too(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path, link_backend="scapy")) as one:
        one.do(SetLinks(links=(on.link,)), *BOTH)
        assert answers(on, VIP6)
        assert answers(on, VIP4)


@isolated
def test_a_speaker_that_comes_back_finds_its_child_answering_and_in_membership(tmp_path: Path) -> None:
    with cable() as on:
        with speaker(on, settings_in(tmp_path), leave=False) as first:
            first.do(SetLinks(links=(on.link,)), *BOTH, JOIN)
            until(lambda: frozenset({"n1"}) in first.members)
            pid = first.pid
        assert answers(on, VIP6)
        with speaker(on, settings_in(tmp_path)) as second:
            assert pid == second.pid
            assert [AnsweringSeen(((VIP4, ()), (VIP6, ())))] == second.answering
            until(lambda: len(second.told) >= 3)
            assert [MembersSeen(frozenset({"n1"})), Listed(Kind.MEMBERS)] == second.told[1:3]
            assert answers(on, VIP6)
        until(lambda: not lives(pid))


@isolated
def test_it_has_its_turn_before_what_merely_computes_where_that_may_be_had(tmp_path: Path) -> None:
    asked = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    may = subprocess.run([sys.executable, "-c", asked], capture_output=True, check=False).returncode == 0
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        found = os.sched_getscheduler(one.pid) & ~os.SCHED_RESET_ON_FORK
    assert (os.SCHED_RR if may else os.SCHED_OTHER) == found


@pytest.mark.slow
@isolated
def test_a_child_without_a_speaker_leaves_and_lets_go(tmp_path: Path) -> None:
    with cable() as on:
        # A ping a second: on a busy machine three may come late.
        with speaker(on, settings_in(tmp_path, silence=4.0), leave=False) as one:
            one.do(SetLinks(links=(on.link,)), *BOTH, JOIN)
            pid = one.pid
            time.sleep(4.5)  # pings keep it
            assert lives(pid)
        assert (tmp_path / "members" / "n1").exists()  # not at once
        until(lambda: not lives(pid))
        assert not (tmp_path / "members" / "n1").exists()
        assert not (tmp_path / "reflex").exists()
        assert not answers(on, VIP6)


@isolated
def test_a_child_that_was_taken_up_ends_with_its_new_speaker_and_waits_for_nobody(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, silence=600.0)
    with cable() as on:
        with speaker(on, settings, leave=False) as one:
            pid = one.pid
        with speaker(on, settings) as other:
            assert pid == other.pid
            other.hang_up()
        until(lambda: not lives(pid))


@isolated
def test_a_child_that_is_killed_is_replaced_by_one_that_answers_for_nothing_yet(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        one.do(SetLinks(links=(on.link,)), *BOTH, JOIN)
        until(lambda: one.members and one.members[-1] == {"n1"})
        told = len(one.members)
        os.kill(one.pid, signal.SIGKILL)
        until(lambda: len(one.answering) == 2, one.said)
        assert AnsweringSeen(()) == one.answering[1]
        assert [Applied(intent) for intent in BOTH] == one.do(*BOTH)
        assert answers(on, VIP6)  # on the links that were commanded before
        assert answers(on, VIP4)
        until(lambda: len(one.members) > told)
        assert {"n1"} == one.members[-1]  # and as present as before
        assert 1 == one.told.count(Listed(Kind.MEMBERS))


@isolated
def test_while_the_child_is_away_intents_are_to_be_tried_again(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        os.kill(one.pid, signal.SIGKILL)
        until(lambda: one.said)
        (result,) = one.do(BOTH[0])
        assert isinstance(result, Applied) or result.retry
        until(lambda: len(one.answering) == 2)
        assert [Applied(BOTH[0])] == one.do(BOTH[0])


@pytest.mark.slow
@isolated
def test_a_child_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        hung = one.pid
        os.kill(hung, signal.SIGSTOP)
        try:
            until(lambda: len(one.answering) == 2, one.said)
            assert not lives(hung)
            assert hung != one.pid
        finally:
            with suppress(ProcessLookupError):  # a stopped process would wait for ever
                os.kill(hung, signal.SIGKILL)


@isolated
def test_an_interface_that_is_made_anew_is_answered_on_when_the_speaker_says_so(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        one.do(SetLinks(links=(on.link,)), *BOTH)
        on.cut()
        one.do(SetLinks(links=()))
        again = _plug_in(on)
        assert [Applied(SetLinks(links=(again.link,)))] == one.do(SetLinks(links=(again.link,)))
        assert on.link.index != again.link.index
        assert answers(again, VIP6)
        assert answers(again, VIP4)


def _plug_in(on: Cable, **details: object) -> Cable:
    """A new cable in place of one that was cut; `details` as pyroute2 has them."""
    peer = {"ifname": "eth0", "net_ns_fd": on.client.descriptor}
    on.node.netlink(lambda ip: ip.link("add", ifname="wire", kind="veth", peer=peer, **details))
    on.node.set_link("wire", "up")
    on.client.set_link("eth0", "up")
    on.client.add_address("eth0", "192.0.2.2", 24)
    on.client.add_address("eth0", "2001:db8::2", 64)
    index = on.node.index("wire")
    text = on.node.netlink(lambda ip: ip.get_links(index)[0].get("address"))
    link = Link(index=index, name="wire", mac=bytes.fromhex(text.replace(":", "")))
    return Cable(node=on.node, client=on.client, link=link, client_mac=b"")


@isolated
def test_an_interface_that_went_down_and_up_is_answered_on_again(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        one.do(SetLinks(links=(on.link,)), *BOTH)
        on.set_node("down")
        time.sleep(0.1)
        on.set_node("up")
        one.do(SetLinks(links=(on.link,)))
        until(lambda: answers(on, VIP6))
        until(lambda: answers(on, VIP4))


@pytest.mark.slow
@isolated
def test_an_interface_that_is_not_there_is_told_and_taken_up_when_it_comes(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        on.cut()
        missing = Link(index=4711, name="wire", mac=bytes.fromhex("020000000007"))
        (result, *_) = one.do(SetLinks(links=(missing,)), *BOTH)
        assert isinstance(result, Failed)
        assert result.retry
        assert "wire: the interface no longer exists" in result.message
        again = _plug_in(on, index=4711, address="02:00:00:00:00:07")
        assert missing == again.link
        until(lambda: answers(again, VIP6))
        until(lambda: answers(again, VIP4))


@isolated
def test_another_stations_claim_is_reported(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        one.do(SetLinks(links=(on.link,)), *BOTH)
        on.client.run(_claim, on)
        until(lambda: any(isinstance(event, AddressHeard) for event in one.told), one.told)
        (heard, *_) = [event for event in one.told if isinstance(event, AddressHeard)]
        assert AddressHeard(address=VIP4, mac=on.client_mac, link="wire") == heard


def _claim(on: Cable) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind(("eth0", 0))
        sender.send(arp.encode(arp.gratuitous_request(VIP4, on.client_mac)))


@pytest.mark.parametrize("change", [{"refresh": 30.0}, {"release": "9.9.9"}], ids=["arguments", "release"])
@isolated
def test_a_child_that_was_started_otherwise_is_replaced(tmp_path: Path, change: dict[str, object]) -> None:
    with cable() as on:
        with speaker(on, settings_in(tmp_path), leave=False) as first:
            first.do(SetLinks(links=(on.link,)), *BOTH)
            old = first.pid
        with speaker(on, settings_in(tmp_path, **change)) as second:
            assert old != second.pid
            assert not lives(old)
            assert [AnsweringSeen(())] == second.answering


@isolated
def test_the_newest_speaker_has_the_child_and_the_older_one_ends(tmp_path: Path) -> None:
    with cable() as on, speaker(on, settings_in(tmp_path)) as first, speaker(on, settings_in(tmp_path)) as second:
        until(lambda: first.failure is not None)
        assert isinstance(first.failure, ReflexReplacedError)
        assert first.replaced
        assert second.failure is None
        assert [Applied(JOIN)] == second.do(JOIN)


@isolated
def test_without_the_capability_the_speaker_is_told_in_one_line(tmp_path: Path) -> None:
    with cable() as on:
        assert 0 == on.node.run(ctypes.CDLL(None).prctl, _PR_CAPBSET_DROP, _CAP_NET_RAW, 0, 0, 0)
        with speaker(on, settings_in(tmp_path)) as one:
            assert isinstance(one.failure, CapabilityError)
            assert "CAP_NET_RAW" in str(one.failure)
            assert "\n" not in str(one.failure)


@isolated
def test_a_name_that_no_node_can_have_is_refused_for_good(tmp_path: Path) -> None:
    settings = ReflexSettings(socket=tmp_path / "reflex", node="../n1", members=tmp_path)
    with cable() as on, speaker(on, settings) as one:
        assert isinstance(one.failure, ReflexRefusedError)


@isolated
def test_an_intent_that_is_not_for_layer_2_is_refused(tmp_path: Path) -> None:
    usage = SetPoolUsage(pool="a", assigned_ipv4=0, assigned_ipv6=0, available_ipv4=0, available_ipv6=0)
    with cable() as on, speaker(on, settings_in(tmp_path)) as one:
        (result,) = one.do(usage)
        assert isinstance(result, Failed)
        assert not result.retry


@pytest.mark.slow
@isolated
def test_asked_to_end_it_leaves_membership_at_once_and_the_addresses_two_seconds_later(tmp_path: Path) -> None:
    record = tmp_path / "members" / "n1"
    with cable() as on:
        with speaker(on, settings_in(tmp_path), leave=False) as one:
            one.do(SetLinks(links=(on.link,)), *BOTH, JOIN)
            pid = one.pid
            until(record.exists)
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        until(lambda: not record.exists())
        assert time.monotonic() - began < 0.5
        assert answers(on, VIP6)
        until(lambda: not lives(pid))
        assert 1.8 < time.monotonic() - began < 3
        assert not answers(on, VIP6)


@isolated
def test_two_nodes_see_each_other_and_miss_one_that_is_killed(tmp_path: Path) -> None:
    here = settings_in(tmp_path)
    there = ReflexSettings(socket=tmp_path / "other", node="n2", members=tmp_path / "members")
    with cable() as on, speaker(on, here) as one:
        with speaker(on.client, there, leave=False) as two:
            one.do(JOIN)
            two.do(JOIN)
            until(lambda: one.members[-1:] == [{"n1", "n2"}] == two.members[-1:])
            pid = two.pid
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: one.members[-1] == {"n1"})
        assert time.monotonic() - killed < 1.5
