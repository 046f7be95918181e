"""Both link backends through one contract: a real cable, and the kernel of the other end as the client."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lbcore.adapters import arp, ndp
from lbcore.adapters.ethernet import BROADCAST
from lbcore.adapters.responder import Responder
from lbcore.addresses import Address
from lbcore.backends.base import FrameLink, LinkFault
from lbcore.backends.link import CapabilityError, PacketLink
from lbcore.backends.scapy import ScapyLink
from lbcore.events import AddressHeard
from lbcore.intents import Announce, SetLinks
from lbcore.model import Link
from wire import Cable, Namespace, Served, cable, isolated

pytestmark = pytest.mark.needs("netns", "packet")

Opener = Callable[[Link], FrameLink | LinkFault]

VIP4, VIP6 = Address.parse("192.0.2.20"), Address.parse("2001:db8::20")
IPV6 = b"\x86\xdd"
BOTH = pytest.mark.parametrize("address", [VIP6, VIP4], ids=["IPv6", "IPv4"])
MANNERS = pytest.mark.parametrize("opener", [PacketLink.open, ScapyLink.open], ids=["packet", "scapy"])


def opened(namespace: Namespace, opener: Opener, link: Link) -> FrameLink:
    """The link, opened inside."""
    result = namespace.run(opener, link)
    assert not isinstance(result, LinkFault)
    return result


def serve(on: Cable, opener: Opener, *addresses: Address, refresh: float | None = None) -> Served:
    """A responder for the addresses on the node's end of the cable; its announcements are already sent."""
    link = opened(on.node, opener, on.link)
    responder = Responder(rng=random.Random(1), schedule=(0.0,), refresh=refresh)
    served = Served(responder, link, on)
    served.carry_out(responder.command(SetLinks(links=(on.link,)), time.monotonic()))
    for address in addresses:
        served.carry_out(responder.command(Announce(address=address), time.monotonic()))
    assert on.node.run(link.set_groups, responder.groups(on.link.index)) is None
    return served


def request(on: Cable, *, tag: bytes = b"", destination: bytes = BROADCAST) -> bytes:
    """The client's ARP request for the address, with an 802.1Q tag if one is given."""
    mac = on.client_mac
    client = Address.parse("192.0.2.2")
    asked = arp.ArpPacket(
        operation=arp.Operation.REQUEST,
        sender_mac=mac,
        sender=client,
        target_mac=bytes(6),
        target=VIP4,
        destination=destination,
        source=mac,
    )
    frame = arp.encode(asked)
    return frame[:12] + tag + frame[12:]


def raw_socket(namespace: Namespace, name: str, protocol: int = 0) -> socket.socket:
    """A socket for whole frames, on which nothing arrives unless a protocol is given."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.bind((name, protocol))
        made.settimeout(5)
        return made

    return namespace.run(make)


@MANNERS
@BOTH
@isolated
def test_a_kernel_finds_an_address_that_is_answered_for(opener: Opener, address: Address) -> None:
    with cable() as on:
        served = serve(on, opener, address)
        on.client.say_something_to(address)
        served.until(lambda: on.client.neighbour(address) is not None)
        assert on.link.mac == on.client.neighbour(address)


@MANNERS
@BOTH
@isolated
def test_a_kernel_that_remembers_the_old_node_follows_an_announcement(opener: Opener, address: Address) -> None:
    with cable() as on:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        index = on.client.index("eth0")
        on.client.netlink(
            lambda ip: ip.neigh(
                "add", dst=str(address), lladdr="02:00:00:00:00:99", ifindex=index, state=4, family=family
            )
        )
        assert bytes.fromhex("020000000099") == on.client.neighbour(address)
        served = serve(on, opener, address)
        served.until(lambda: on.client.neighbour(address) == on.link.mac)


@MANNERS
@isolated
def test_a_kernel_cannot_take_an_address_that_is_answered_for(opener: Opener) -> None:
    with cable() as on:
        served = serve(on, opener, VIP6)
        on.client.add_address("eth0", str(VIP6), 64, check=True)
        served.until(lambda: on.client.is_duplicate(str(VIP6)))


@MANNERS
@isolated
def test_frames_of_another_vlan_and_for_other_stations_are_not_answered(opener: Opener) -> None:
    with cable() as on, raw_socket(on.client, "eth0") as client:
        served = serve(on, opener, VIP4)
        client.send(request(on, tag=bytes.fromhex("81000014")))
        client.send(request(on, destination=bytes.fromhex("020000000099")))
        client.send(request(on))  # frames keep their order: when this one is answered, the others were seen
        served.until(lambda: served.responder.statistics.arp_answered > 0)
        assert 1 == served.responder.statistics.arp_answered


@MANNERS
@BOTH
@isolated
def test_a_rival_on_the_wire_is_heard(opener: Opener, address: Address) -> None:
    with cable() as on, raw_socket(on.client, "eth0") as client:
        served = serve(on, opener, address)
        if address.version == 4:
            client.send(arp.encode(arp.gratuitous_reply(address, on.client_mac)))
        else:
            client.send(ndp.encode(ndp.unsolicited(address, on.client_mac)))
        served.until(lambda: bool(served.events))
        assert [AddressHeard(address=address, mac=on.client_mac, link="wire")] == served.events


@MANNERS
@isolated
def test_own_frames_and_other_protocols_are_not_received(opener: Opener) -> None:
    with cable() as on, raw_socket(on.client, "eth0") as client:
        link = opened(on.node, opener, on.link)
        assert link.send(arp.encode(arp.gratuitous_request(VIP4, on.link.mac))) is None
        client.send(on.link.mac + on.client_mac + b"\x08\x00" + bytes(46))
        advertisement = ndp.encode(ndp.unsolicited(VIP6, on.client_mac))
        client.send(advertisement[:54] + b"\x80" + advertisement[55:])  # an echo request
        client.send(request(on))
        frames: list[bytes] = []
        deadline = time.monotonic() + 5
        while not frames and time.monotonic() < deadline:
            got = link.receive()
            assert not isinstance(got, LinkFault)
            assert {135, 136} >= {frame[54] for frame in got if frame[12:14] == IPV6}
            frames += [frame for frame in got if frame[12:14] != IPV6]  # the kernels ask each other, too
        assert [request(on)] == frames


@MANNERS
@isolated
def test_a_link_that_is_down_says_so_and_works_again_when_it_is_up(opener: Opener) -> None:
    with cable() as on:
        served = serve(on, opener, VIP4)
        on.set_node("down")
        served.until(lambda: LinkFault.DOWN in served.faults)
        announcement = arp.encode(arp.gratuitous_request(VIP4, on.link.mac))
        assert LinkFault.DOWN is served.link.send(announcement)
        on.set_node("up")
        assert served.link.send(announcement) is None
        on.client.say_something_to(VIP4)
        served.until(lambda: on.client.neighbour(VIP4) == on.link.mac)


@MANNERS
@isolated
def test_a_link_that_is_down_can_be_opened_now_or_once_it_is_up(opener: Opener) -> None:
    with cable() as on:
        on.set_node("down")
        early = on.node.run(opener, on.link)
        assert isinstance(early, PacketLink) or early is LinkFault.DOWN
        on.set_node("up")
        served = serve(on, opener, VIP6) if isinstance(early, LinkFault) else serve(on, lambda _: early, VIP6)
        on.client.say_something_to(VIP6)
        served.until(lambda: on.client.neighbour(VIP6) == on.link.mac)


@MANNERS
@isolated
def test_a_link_whose_interface_is_deleted_says_that_it_is_gone(opener: Opener) -> None:
    with cable() as on:
        served = serve(on, opener, VIP6)
        on.cut()
        served.until(lambda: LinkFault.GONE in served.faults)
        assert LinkFault.GONE is served.link.send(arp.encode(arp.gratuitous_request(VIP4, on.link.mac)))
        assert served.link.set_groups(frozenset()) is None
        assert LinkFault.GONE is served.link.set_groups(frozenset({ndp.solicited_node(VIP6)}))


@MANNERS
@isolated
def test_an_interface_that_is_not_there_or_is_another_one_is_not_opened(opener: Opener) -> None:
    with cable() as on:
        assert LinkFault.GONE is on.node.run(opener, Link(index=on.link.index, name="other", mac=on.link.mac))
        assert LinkFault.GONE is on.node.run(opener, Link(index=on.link.index + 100, name="wire", mac=on.link.mac))


def joined(on: Cable) -> frozenset[Address]:
    """The solicited-node groups that the node's kernel is a member of on the cable."""
    lines = on.node.run(Path("/proc/thread-self/net/igmp6").read_text).splitlines()
    groups = [Address(6, int(line.split()[2], 16)) for line in lines if line.split()[1] == on.link.name]
    # The kernel's own link-local address is in a group as well, which depends on the MAC.
    own = {ndp.solicited_node(address) for address in kernel_addresses(on)}
    return frozenset(group for group in groups if ndp.solicited_node(group) == group) - own


def kernel_addresses(on: Cable) -> list[Address]:
    """The IPv6 addresses that the node itself has on the cable."""
    texts = on.node.netlink(lambda ip: [entry.get("address") for entry in ip.get_addr(index=on.link.index)])
    return [Address.parse(text) for text in texts if ":" in text]


@MANNERS
@isolated
def test_the_kernel_is_in_exactly_the_groups_that_were_set(opener: Opener) -> None:
    with cable() as on:
        link = opened(on.node, opener, on.link)
        for numbers in ((1, 2), (2, 3), (), (1,)):
            wanted = frozenset(ndp.solicited_node(Address(6, number)) for number in numbers)
            assert on.node.run(link.set_groups, wanted) is None
            assert wanted == joined(on)
        link.close()
        assert frozenset() == joined(on)


@MANNERS
@isolated
def test_a_thousand_groups_are_joined_though_one_socket_has_no_room_for_them(opener: Opener) -> None:
    with cable() as on:
        with suppress(OSError):  # a kernel before 6.8 has one limit for all namespaces, and that one is low
            on.node.run(Path("/proc/sys/net/core/optmem_max").write_text, "20480")
        link = opened(on.node, opener, on.link)
        wanted = frozenset(ndp.solicited_node(Address(6, number)) for number in range(1000))
        assert on.node.run(link.set_groups, wanted) is None
        assert wanted == joined(on)


@MANNERS
@isolated
def test_groups_that_an_interface_has_lost_are_joined_again_by_rejoining(opener: Opener) -> None:
    with cable() as on:
        link = opened(on.node, opener, on.link)
        wanted = frozenset({ndp.solicited_node(VIP6)})
        assert on.node.run(link.set_groups, wanted) is None
        for size in (1000, 1500):
            on.set_mtu(size)
        assert frozenset() == joined(on)
        assert on.node.run(link.rejoin) is None
        assert wanted == joined(on)


@MANNERS
@isolated
def test_an_interface_without_ipv6_joins_no_group_and_says_so(opener: Opener) -> None:
    with cable() as on:
        on.set_mtu(1000)
        link = opened(on.node, opener, on.link)
        wanted = frozenset({ndp.solicited_node(VIP6)})
        assert LinkFault.NO_GROUPS is on.node.run(link.set_groups, wanted)
        assert LinkFault.NO_GROUPS is on.node.run(link.rejoin)
        on.set_mtu(1500)
        assert on.node.run(link.rejoin) is None
        assert wanted == joined(on)


@MANNERS
@isolated
def test_rejoining_tells_the_switch_of_the_groups_anew(opener: Opener) -> None:
    with cable() as on, raw_socket(on.client, "eth0", 0x86DD) as switch:
        # One report for one join: the repetition, in case that is lost, comes tomorrow; there is no
        # link-local address whose check would end with reports; and the carrier has been noticed.
        settings = Path("/proc/sys/net/ipv6/conf/wire")
        on.set_node("down")
        on.node.run((settings / "mldv2_unsolicited_report_interval").write_text, "100000000")
        on.node.run((settings / "addr_gen_mode").write_text, "1")
        on.set_node("up")
        on.wait_for_carrier()
        group = ndp.solicited_node(VIP6)
        link = opened(on.node, opener, on.link)
        assert on.node.run(link.set_groups, frozenset({group})) is None
        for _ in range(2):
            wait_for_report(switch, group)
            assert on.node.run(link.rejoin) is None
        assert frozenset({group}) == joined(on)


def wait_for_report(switch: socket.socket, group: Address) -> None:
    """Read frames until one is an MLDv2 report (RFC 3810 section 5.2) that names the group."""
    for _ in range(1000):
        frame = switch.recv(2048)
        if frame[20] == 0 and frame[62] == 143 and group.packed in frame[62:]:  # behind a hop-by-hop header
            return
    raise AssertionError("a thousand frames without a report")


@MANNERS
@isolated
def test_a_closed_link_has_no_descriptors_and_closes_again(opener: Opener) -> None:
    with cable() as on:
        link = opened(on.node, opener, on.link)
        assert link.readers
        link.close()
        link.close()
        assert () == link.readers


@MANNERS
@isolated
def test_a_missing_capability_is_one_line_that_names_the_cure(opener: Opener) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    with pytest.raises(CapabilityError) as caught:
        opener(Link(index=1, name="lo", mac=bytes(6)))
    assert "lo: not allowed to open a packet socket" in str(caught.value)
    assert "CAP_NET_RAW" in str(caught.value)
    assert 1 == len(str(caught.value).splitlines())
