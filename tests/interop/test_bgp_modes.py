"""How a session comes about: unnumbered, in a VRF, from an address, held to a TTL, begun by the router; and how not.

FRR is the router; where a session fails, what is said of it.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterator

import pytest
from scapy.contrib import bgp as scapy_bgp

from bgp_link import NODE, ROUTER, Cable, prefixes, session, texts
from lbcore.addresses import Address
from lbcore.backends.tcp import is_far
from lbcore.bgp import DynamicASN
from lbcore.routes import PeerState
from routers import frr

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns")]

FOUR, SIX = prefixes(2, 4), prefixes(2, 6)


@pytest.fixture
def cable() -> Iterator[Cable]:
    cable = Cable()
    yield cable
    cable.close()


@pytest.mark.needs("frr")
def test_two_ends_of_a_cable_find_each_other_without_any_address(cable: Cable) -> None:
    router = frr(cable.router, {"eth0": 64513}).start()
    peer = session("tor", "", interface="eth0")
    try:
        with cable.speaking(peer) as speaking:
            speaking.advertise(FOUR + SIX, "tor")
            speaking.wait_up("tor")
            speaking.wait(lambda: texts(FOUR + SIX) == set(router.routes()), "the routes")
            (hop,) = {hop for hops in router.routes().values() for hop in hops}
            assert hop.startswith("fe80::")
        # No host takes us for its way into the world.
        assert "" == cable.router.run(["ip", "-6", "route", "show", "default"]).stdout
    finally:
        router.stop()


@pytest.mark.needs("frr")
def test_a_router_that_connects_itself_is_let_in_and_one_connection_stays(cable: Cable) -> None:
    # FRR's password for both, and nobody but the configured router gets in.
    group = ["neighbor tor remote-as 64513", "neighbor tor password s3cret", "neighbor tor timers connect 1"]
    lines = ["router bgp 64512", "bgp router-id 10.255.0.1", "no bgp ebgp-requires-policy", "neighbor tor peer-group"]
    lines += [*group, f"neighbor {NODE[4]} peer-group tor", "address-family ipv4 unicast", "neighbor tor activate"]
    router = frr(cable.router, {}, lines=lines).start()
    try:
        # The node dials a port where nobody is: only the router's own connection can come about.
        peer = session("tor", ROUTER[4], port=1799, password="s3cret")
        with cable.speaking(peer, listen_port=179) as speaking:
            speaking.advertise(FOUR, "tor")
            speaking.wait(lambda: texts(FOUR) == set(router.routes()), "the routes")
            speaking.stop()
            speaking.wait(lambda: not router.routes(), "the routes to go")
        # Both dial.
        with cable.speaking(session("tor", ROUTER[4], password="s3cret"), listen_port=179) as speaking:
            speaking.advertise(FOUR, "tor")
            speaking.wait(lambda: texts(FOUR) == set(router.routes()), "the routes")
            connections = cable.node.run(["ss", "-Htn", "state", "established"]).stdout.splitlines()
            assert 1 == len(connections)
    finally:
        router.stop()


@pytest.mark.parametrize("version", [4, 6])
def test_what_has_come_over_a_router_is_not_listened_to(cable: Cable, version: int) -> None:
    # The other end is no router but sends with a TTL of 64, as one many hops away would seem to.
    with cable.listener(ROUTER[version]) as listener:
        with cable.speaking(session("far", ROUTER[version], ttl_security_hops=1)) as speaking:
            connection, _ = listener.accept()
            with connection:
                speaking.wait(
                    lambda: "far" in speaking.sessions and speaking.sessions["far"].state is PeerState.OPEN_SENT, "OPEN"
                )
                connection.sendall(b"\xff" * 16 + b"\x00\x13\x07")  # of no type that there is; nobody hears it
                with pytest.raises(AssertionError):
                    speaking.wait_error("far", "type 7", timeout=1.0)
        with cable.speaking(session("far", ROUTER[version])) as speaking:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"\xff" * 16 + b"\x00\x13\x07")
                speaking.wait_error("far", "type 7")


@pytest.mark.needs("frr")
def test_a_router_that_keeps_to_ttl_255_is_heard_by_one_that_wants_it(cable: Cable) -> None:
    router = frr(cable.router, {NODE[4]: 64513, NODE[6]: 64513}, extra=["ttl-security hops 1"]).start()
    peers = [session(f"tor{n}", ROUTER[n], ttl_security_hops=1) for n in (4, 6)]
    try:
        with cable.speaking(*peers) as speaking:
            speaking.wait_up("tor4", "tor6")
    finally:
        router.stop()


@pytest.mark.needs("frr")
def test_the_as_number_may_be_any_other_and_a_wrong_kind_is_told(cable: Cable) -> None:
    router = frr(cable.router, {NODE[4]: 64513, NODE[6]: 64513}).start()
    external = session("external", ROUTER[4], peer_asn=None, dynamic_asn=DynamicASN.EXTERNAL)
    internal = session("internal", ROUTER[6], peer_asn=None, dynamic_asn=DynamicASN.INTERNAL)
    try:
        with cable.speaking(external, internal) as speaking:
            speaking.wait_up("external")
            speaking.wait_error("internal", "AS 64512, and internal to AS 64513 is configured")
    finally:
        router.stop()


@pytest.mark.parametrize(
    ("version", "stated", "has_ipv4", "expected"),
    [
        (4, None, True, NODE[4]),
        (6, None, True, NODE[4]),
        (6, "10.0.0.9", True, "10.0.0.9"),
        (6, None, False, socket.inet_ntoa(struct.pack("<I", zlib.crc32(b"node")))),  # as MetalLB's speaker has it
    ],
)
def test_the_router_id_is_the_stated_one_or_an_ipv4_address_of_that_interface_or_made_of_the_nodes_name(
    cable: Cable, version: int, stated: str | None, has_ipv4: bool, expected: str
) -> None:
    if not has_ipv4:
        cable.node.run(["ip", "-4", "addr", "flush", "dev", "eth0"], check=True)
    peer = session("tor", ROUTER[version], router_id=Address.parse(stated) if stated is not None else None)
    with cable.listener(ROUTER[version]) as listener, cable.speaking(peer):
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10.0)
            opened = scapy_bgp.BGP(connection.recv(4096))[scapy_bgp.BGPOpen]
    assert expected == opened.bgp_id


def test_each_thing_that_keeps_a_session_down_is_told_in_one_line_and_touches_no_other(cable: Cable) -> None:
    with cable.listener(ROUTER[6]) as listener:
        peers = {
            "no-source": session("no-source", ROUTER[4], source_address=Address.parse("192.0.2.77")),
            "no-source6": session("no-source6", ROUTER[6], source_address=Address.parse("2001:db8::77")),
            "no-vrf": session("no-vrf", ROUTER[4], vrf="red"),
            "no-interface": session("no-interface", "", interface="eth7"),
            "no-router": session("no-router", "", interface="eth0"),
            "nobody": session("nobody", "192.0.2.99"),
            "no-bgp": session("no-bgp", ROUTER[4]),
            "no-route": session("no-route", "203.0.113.1"),
            "waits": session("waits", ROUTER[6]),
        }
        with cable.speaking(*peers.values()) as speaking:
            connection, _ = listener.accept()
            with connection:
                for name, words in {
                    "no-source": "sourceAddress 192.0.2.77 is not an address of this node",
                    "no-source6": "sourceAddress 2001:db8::77 is not an address of this node",
                    "no-vrf": "there is no VRF 'red' on this node",
                    "no-interface": "there is no interface 'eth7' on this node",
                    "no-router": "no router advertises itself on eth0",
                    "nobody": "No route to host",
                    "no-bgp": "192.0.2.1 port 179 refuses connections; is BGP on there",
                    "no-route": "Network is unreachable",
                }.items():
                    assert "\n" not in speaking.wait_error(name, words)
                assert PeerState.OPEN_SENT is speaking.sessions["waits"].state
                assert "" == speaking.sessions["waits"].error


@pytest.mark.parametrize("version", [4, 6])
def test_where_a_ttl_is_too_small_for_the_way_it_is_said_and_no_other_session_is_touched(
    cable: Cable, version: int
) -> None:
    # Nothing comes back from there: as from a router some hops away whose packets have a TTL of 1.
    far, by = {4: ("203.0.113.9", ROUTER[4]), 6: ("2001:db8:9::9", ROUTER[6])}[version]
    cable.node.run(["ip", f"-{version}", "route", "add", far, "via", by], check=True)
    cable.router.run(["ip", f"-{version}", "route", "add", "blackhole", far], check=True)
    peers = [session("far", far), session("multihop", far, port=1790, ebgp_multihop=True)]
    peers += [session("ours", far, port=1792, peer_asn=64513), session("waits", ROUTER[6])]
    near = [Address.parse(each) for each in (*ROUTER.values(), "192.0.2.99", "fe80::1", "127.0.0.1")]
    assert [False] * 5 == [cable.node.call(is_far, each) for each in near]
    assert cable.node.call(is_far, Address.parse(far))
    with cable.listener(ROUTER[6]) as listener, cable.speaking(*peers) as speaking:
        connection, _ = listener.accept()
        with connection:
            lost = (
                "no answer in 10 s; it is on no link of this node, and packets with a TTL of 1 do not come from there"
            )
            assert (
                f"{lost}: set ebgpMultiHop: true, and let the router speak over several hops, too (ebgp-multihop)"
                == (speaking.wait_error("far", "no answer"))
            )
            assert f"{lost}: let the router" in speaking.wait_error("multihop", "no answer")
            assert "TTL" not in speaking.wait_error("ours", "no answer")
            assert (PeerState.OPEN_SENT, "") == (speaking.sessions["waits"].state, speaking.sessions["waits"].error)


def test_a_vrf_binds_the_connection_to_its_device(cable: Cable) -> None:
    # A kernel need not have the device type `vrf`: any device shows which way packets may go.
    with (
        cable.listener(ROUTER[4]),
        cable.speaking(session("in", ROUTER[4], vrf="lo"), session("out", ROUTER[4], vrf="eth0")) as speaking,
    ):
        speaking.wait(lambda: speaking.sessions["out"].state is PeerState.OPEN_SENT, "a connection by the right way")
        assert speaking.sessions["in"].state in (PeerState.CONNECT, PeerState.ACTIVE)
