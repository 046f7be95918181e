"""The reflex process's loop turned by hand: a real Unix socket, no privilege, and time that the test makes."""

from __future__ import annotations

import json
import os
import select
import selectors
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lbcore.adapters import arp
from lbcore.adapters.base import Report
from lbcore.adapters.ethernet import BROADCAST
from lbcore.adapters.heartbeat import Heartbeat
from lbcore.adapters.reflex import (
    Ack,
    Bye,
    Command,
    Hello,
    Lines,
    Message,
    Nack,
    Ping,
    Pong,
    ReflexIntent,
    Replaced,
    decode,
    encode,
)
from lbcore.adapters.responder import Responder
from lbcore.addresses import Address
from lbcore.backends.base import LinkFault
from lbcore.backends.local import Listener, SocketTakenError
from lbcore.backends.members import MemberFolder
from lbcore.daemons.membership import by_records
from lbcore.daemons.reflex import ReflexLoop
from lbcore.events import MembersSeen
from lbcore.intents import Announce, SetLinks, SetPresence, StandBy, Withdraw
from lbcore.model import Link

VIP6, VIP4 = Address.parse("2001:db8::20"), Address.parse("192.0.2.20")
LINK = Link(index=7, name="eth0", mac=bytes.fromhex("020000000001"))
JOIN = SetPresence(present=True, why="test")
GROUP6 = Address.parse("ff02::1:ff00:20")


class Wire:
    """A link whose other end the test holds: frames are datagrams of a socket pair."""

    def __init__(self) -> None:
        self.inside, self.outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.inside.setblocking(False)
        self.outside.settimeout(1.0)
        self.groups: frozenset[Address] = frozenset()
        self.joined_again = 0
        self.fault: LinkFault | None = None
        self.closed = False

    @property
    def readers(self) -> tuple[int, ...]:
        return (self.inside.fileno(),)

    def drain(self) -> None:
        """Forget the frames that were sent."""
        while select.select([self.outside], [], [], 0)[0]:
            self.outside.recv(2048)

    def receive(self) -> list[bytes] | LinkFault:
        frame = self.inside.recv(2048)
        return self.fault or [frame]

    def send(self, frame: bytes) -> LinkFault | None:
        if self.fault is None:
            self.inside.send(frame)
        return self.fault

    def set_groups(self, groups: frozenset[Address]) -> LinkFault | None:
        self.groups = groups
        return self.fault

    def rejoin(self) -> LinkFault | None:
        self.joined_again += 1
        return None

    def close(self) -> None:
        self.closed = True
        self.inside.close()


class House:
    """A loop with everything around it: wires by link index, a clock, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.said: list[str] = []
        self.wires: list[Wire] = []
        self.refuse: LinkFault | None = None
        self.socket = folder / "reflex"
        self.members = folder / "members"
        self.loop = ReflexLoop(
            node="n1",
            listener=Listener(self.socket),
            responder=Responder(rng=Random(1), schedule=(0.0,), refresh=None),
            membership=by_records(
                "n1", Heartbeat("n1", 1, rng=Random(1)), MemberFolder(self.members), lambda: self.now
            ),
            open_link=self.open_link,
            clock=lambda: self.now,
            say=self.said.append,
            release="0.1.0",
            arguments=("--node", "n1"),
        )

    def open_link(self, link: Link) -> Wire | LinkFault:
        if self.refuse is not None:
            return self.refuse
        self.wires.append(Wire())
        return self.wires[-1]

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass in small steps, with a turn after each."""
        end = self.now + seconds
        while True:
            self.now = min(end, self.now + 0.05)
            self.loop.turn(0)
            if self.now >= end:
                return


class Parent:
    """A speaker as the socket sees it."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(house.socket))
        self.socket.setblocking(False)
        self._lines = Lines()

    def send(self, *messages: Message) -> list[Message]:
        """Say something, and hear what is said in return."""
        self.socket.send(b"".join(encode(message) for message in messages))
        return self.hear()

    def hear(self) -> list[Message]:
        """What the loop says within a few turns."""
        heard: list[Message] = []
        for _ in range(3):
            self._house.turn()
            try:
                heard += [decode(line) for line in self._lines.feed(self.socket.recv(1 << 20))]
            except (BlockingIOError, ConnectionResetError):
                continue
        return heard

    @property
    def hung_up(self) -> bool:
        """Whether the loop has ended the conversation."""
        try:
            while self.socket.recv(1 << 20):
                pass
            return True
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.loop.close()


def request(address: Address, *, mac: str = "0200000000aa") -> bytes:
    return arp.encode(
        arp.ArpPacket(
            operation=arp.Operation.REQUEST,
            sender_mac=bytes.fromhex(mac),
            sender=Address.parse("192.0.2.9"),
            target_mac=bytes(6),
            target=address,
            destination=BROADCAST,
            source=bytes.fromhex(mac),
        )
    )


def test_a_parent_is_greeted_and_every_command_answered_by_its_number(house: House) -> None:
    parent = Parent(house)
    assert [Hello(version="0.1.0", arguments=("--node", "n1"))] == parent.hear()
    commands: list[ReflexIntent] = [
        SetLinks(links=(LINK,)),
        Announce(address=VIP6),
        Announce(address=VIP4),
        Withdraw(address=VIP4),
    ]
    numbered = [Command(10 + number, intent) for number, intent in enumerate(commands)]
    assert [Ack(10), Ack(11), Ack(12), Ack(13)] == parent.send(*numbered)
    assert frozenset({GROUP6}) == house.wires[0].groups


def test_a_request_is_answered_in_the_turn_it_arrives_in(house: House) -> None:
    Parent(house).send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP4)))
    wire = house.wires[0]
    assert 2 == len([wire.outside.recv(2048), wire.outside.recv(2048)])  # the announcements
    wire.outside.send(request(VIP4))
    house.loop.turn(0)
    answer = arp.decode(wire.outside.recv(2048))
    assert (arp.Operation.REPLY, VIP4, LINK.mac) == (answer.operation, answer.sender, answer.sender_mac)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=80), max_size=5))
def test_frames_of_noise_stop_no_answer(house: House, noise: list[bytes]) -> None:
    if not house.wires:
        Parent(house).send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP4)))
        house.wires[0].drain()
    wire = house.wires[0]
    for frame in (*noise, request(VIP4)[:30], request(VIP4)):
        wire.outside.send(frame)
        house.loop.turn(0)
    assert VIP4 == arp.decode(wire.outside.recv(2048)).sender
    assert 0 == house.loop.statistics.faults


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(min_size=1, max_size=100) | st.dictionaries(st.text(), st.text()).map(lambda x: json.dumps(x).encode())
)
@example(b"\xff" * 20_000)
@example(b"[" * 20_000)
def test_a_parent_that_talks_nonsense_is_hung_up_on_and_the_next_one_heard(house: House, noise: bytes) -> None:
    babbler = Parent(house)
    house.turn()
    babbler.socket.send(noise + b"\n")
    for _ in range(5):
        house.turn()
    assert babbler.hung_up
    assert [Pong(house.loop.statistics)] == Parent(house).send(Ping())[-1:]


def test_what_only_a_child_may_say_is_ignored(house: House) -> None:
    assert [Ack(2)] == Parent(house).send(Ack(1), Command(2, JOIN))[1:]
    assert 1 == len(house.said)


def test_what_a_lost_member_announced_is_announced_before_the_parent_says_so_and_let_go_when_it_is_back(
    house: House,
) -> None:
    heartbeat = Heartbeat("n2", 2, rng=Random(2))
    opened = by_records("n2", heartbeat, MemberFolder(house.members), lambda: house.now)
    other = opened(selectors.DefaultSelector(), lambda _: None, house.said.append)

    def live(seconds: float) -> None:
        for _ in range(int(seconds / 0.1)):
            other.tick()
            house.turn(0.1)

    parent = Parent(house)
    parent.send(Command(1, SetLinks(links=(LINK,))), Command(2, JOIN))
    other.command(JOIN)
    live(0.5)
    parent.send(Command(3, StandBy(address=VIP6, member="n2")))
    house.wires[0].drain()
    live(1.0)
    assert not select.select([house.wires[0].outside], [], [], 0)[0], "n2 lives"
    other.command(SetPresence(present=False, why="test"))
    house.turn(0.2)
    assert VIP6.packed in house.wires[0].outside.recv(2048)
    assert frozenset({GROUP6}) == house.wires[0].groups
    other.command(JOIN)
    live(0.5)
    assert frozenset() == house.wires[0].groups
    other.command(SetPresence(present=False, why="test"))
    house.turn(0.2)
    assert Ack(4) in parent.send(Command(4, Announce(address=VIP6)))
    house.wires[0].drain()
    other.command(JOIN)
    live(0.5)
    assert frozenset({GROUP6}) == house.wires[0].groups, "it was confirmed"
    other.close()


def test_an_end_of_the_connection_alone_changes_nothing(house: House) -> None:
    parent = Parent(house)
    parent.send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP6)), Command(3, JOIN))
    parent.socket.close()
    house.turn(4.5)
    assert not house.loop.ended
    assert (house.members / "n1").exists()
    hello = Parent(house).hear()[0]
    assert Hello(version="0.1.0", arguments=("--node", "n1"), answering=((VIP6, ()),), present=True) == hello


def test_a_silent_parent_is_left_after_five_seconds_and_pings_prevent_it(house: House) -> None:
    parent = Parent(house)
    for _ in range(4):
        parent.send(Ping())
        house.turn(4.0)
    assert not house.loop.ended, "pings prevent it"
    house.turn(1.1)
    assert ["no speaker was heard for 5 s: leaving"] == house.said


def test_nobody_who_ever_comes_is_waited_for_no_longer(house: House) -> None:
    house.turn(5.0)
    assert house.loop.ended


def test_a_bye_ends_it_at_once(house: House) -> None:
    parent = Parent(house)
    parent.send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP6)), Command(3, JOIN))
    parent.send(Bye())
    assert house.loop.ended
    house.loop.close()
    assert not (house.members / "n1").exists()
    assert house.wires[0].closed
    assert not house.socket.exists()
    house.loop = House(house.socket.parent).loop  # the name is free again


def test_asked_to_end_it_answers_for_two_seconds_and_joins_no_more(house: House) -> None:
    parent = Parent(house)
    parent.send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP4)), Command(3, JOIN))
    house.turn(1.0)
    house.loop.ask_to_end()
    assert not (house.members / "n1").exists()
    (answer,) = [message for message in parent.send(Command(4, JOIN)) if not isinstance(message, Report)]
    assert isinstance(answer, Nack) and answer.retry
    house.turn(1.8)
    assert not house.loop.ended
    house.turn(0.2)
    assert house.loop.ended


def test_asked_twice_it_ends_at_once(house: House) -> None:
    Parent(house).send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP4)))
    house.loop.ask_to_end()
    assert not house.loop.ended
    house.loop.ask_to_end()
    assert house.loop.ended


def test_a_newer_parent_replaces_the_older_which_is_told(house: House) -> None:
    older = Parent(house)
    house.turn()
    newer = Parent(house)
    assert Replaced() == older.hear()[-1]
    assert older.hung_up
    assert [Ack(1)] == newer.send(Command(1, JOIN))[-1:]


def test_membership_is_told_to_every_parent_that_comes(house: House) -> None:
    Parent(house).send(Command(1, JOIN))
    house.turn(2.0)
    parent = Parent(house)
    assert Report(MembersSeen(frozenset({"n1"}))) == parent.hear()[1]


def test_a_parent_that_does_not_read_costs_bounded_memory_and_no_answers(house: House) -> None:
    parent = Parent(house)
    parent.send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP4)))
    wire = house.wires[0]
    for number in range(20_000):
        if number % 200 == 0:  # the engine reports so many in a second, and no more
            house.now += 1.1
            parent.socket.send(encode(Command(number, Withdraw(address=VIP6))))
        wire.outside.send(arp.encode(arp.gratuitous_request(VIP4, bytes.fromhex(f"02{number:010x}"))))
        house.loop.turn(0)
        wire.drain()
    assert house.loop.statistics.reports_dropped > 1000
    wire.outside.send(request(VIP4))
    house.loop.turn(0)
    assert VIP4 == arp.decode(wire.outside.recv(2048)).sender


def test_a_link_that_cannot_be_opened_is_refused_for_now_and_opened_a_second_later(house: House) -> None:
    house.refuse = LinkFault.GONE
    parent = Parent(house)
    refusal = Nack(seq=1, message="cannot use eth0: the interface no longer exists", retry=True)
    assert [refusal, Ack(2)] == parent.send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP6)))[1:]
    house.refuse = None
    house.turn(1.1)
    assert frozenset({GROUP6}) == house.wires[0].groups
    assert 2 == len(house.said)  # that it failed, once, and that it is over


def test_a_link_that_breaks_is_opened_anew(house: House) -> None:
    Parent(house).send(Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP6)))
    house.wires[0].fault = LinkFault.GONE
    house.wires[0].outside.send(b"anything")
    house.turn(0.1)
    assert [True, False] == [wire.closed for wire in house.wires]
    assert frozenset({GROUP6}) == house.wires[1].groups


def test_a_link_that_is_down_is_kept_and_frames_are_counted_as_lost(house: House) -> None:
    parent = Parent(house)
    parent.send(Command(1, SetLinks(links=(LINK,))))
    house.wires[0].fault = LinkFault.DOWN
    parent.send(Command(2, Announce(address=VIP4)))
    assert 2 == house.loop.statistics.frames_refused
    house.wires[0].outside.send(b"anything")
    house.turn(0.1)
    assert [False] == [wire.closed for wire in house.wires]


def test_a_new_mac_opens_the_link_anew_and_a_link_no_longer_wanted_is_closed(house: House) -> None:
    parent = Parent(house)
    parent.send(Command(1, SetLinks(links=(LINK,))))
    other = Link(index=7, name="eth0", mac=bytes.fromhex("020000000002"))
    parent.send(Command(2, SetLinks(links=(other,))), Command(3, SetLinks(links=(other,))))
    assert [True, False] == [wire.closed for wire in house.wires]
    parent.send(Command(4, SetLinks(links=())))
    assert [True, True] == [wire.closed for wire in house.wires]


def test_a_link_that_comes_up_joins_its_groups_again(house: House) -> None:
    parent = Parent(house)
    down = Link(index=7, name="eth0", mac=LINK.mac, carrier=False)
    parent.send(*(Command(number, SetLinks(links=(link,))) for number, link in enumerate((LINK, down, LINK))))
    assert [1] == [wire.joined_again for wire in house.wires]


def test_a_record_that_cannot_be_kept_is_said_once_and_its_end_too(house: House) -> None:
    Parent(house).send(Command(1, JOIN))
    house.turn(1.0)
    (house.members / "n1").unlink()
    (house.members / "n1").mkdir()
    house.turn(1.0)
    assert 1 == len(house.said)
    (house.members / "n1").rmdir()
    house.turn(1.0)
    assert "the member record cannot be kept: over" == house.said[-1]
    assert 2 == len(house.said)


def test_the_socket_is_for_its_owner_alone_and_no_second_process_takes_it(house: House) -> None:
    assert 0o600 == stat.S_IMODE(house.socket.stat().st_mode)
    with pytest.raises(SocketTakenError):
        Listener(house.socket)
    assert [Ack(1)] == Parent(house).send(Command(1, JOIN))[-1:]


def test_a_socket_file_that_a_dead_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "reflex"
    child = os.fork()
    if child == 0:
        Listener(path)
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
    Listener(path).close()
    assert not path.exists()


def counted(messages: list[Message]) -> dict[Address, tuple[int, int]]:
    """Questions and answers of the addresses that a Pong tells."""
    (pong,) = (message for message in messages if isinstance(message, Pong))
    return {count.address: (count.requests, count.responses) for count in pong.counts}


def test_a_pong_tells_what_has_changed_and_the_next_parent_hears_all_of_it(house: House) -> None:
    parent = Parent(house)
    parent.send(
        Command(1, SetLinks(links=(LINK,))), Command(2, Announce(address=VIP6)), Command(3, Announce(address=VIP4))
    )
    house.wires[0].outside.send(request(VIP4))
    house.turn()
    assert {VIP6: (0, 0), VIP4: (1, 1)} == counted(parent.send(Ping()))
    assert {} == counted(parent.send(Ping()))
    house.wires[0].outside.send(request(VIP4))
    house.turn()
    assert {VIP4: (2, 2)} == counted(parent.send(Ping()))
    assert {VIP6: (0, 0), VIP4: (2, 2)} == counted(Parent(house).send(Ping()))


def test_so_many_addresses_that_one_pong_is_too_short_are_told_in_the_next(house: House) -> None:
    many = [Address(6, VIP6.value + number) for number in range(251)]
    Parent(house).send(*(Command(number, Announce(address=address)) for number, address in enumerate(many)))
    parent = Parent(house)
    told = [counted(parent.send(Ping())) for _ in range(3)]
    assert [250, 1, 0] == [len(each) for each in told]
    assert set(many) == {*told[0], *told[1]}
