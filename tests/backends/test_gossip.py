"""How a member is told to gossip, and its sockets: what a stranger, a slow caller and a taken port do to it."""

from __future__ import annotations

import argparse
import random
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbcore.adapters.detector.engine import Detector
from lbcore.adapters.memberlist.messages import Endpoint
from lbcore.addresses import Address
from lbcore.backends.gossip import Gossip
from lbcore.backends.gossip_settings import SECRET_VARIABLE, GossipSettings, SecretError, add_gossip_arguments
from members import OurMember, Wire, until

HERE = Endpoint(Address.parse("::1"), 7946)
WIRE = Wire(key=bytes(32))


def test_settings_cross_the_command_line_whole_and_the_secret_is_not_on_it(tmp_path: Path) -> None:
    (tmp_path / "secretkey").write_bytes(b"s3cr3t")
    peers = (Address.parse("fd00::1"), Address.parse("192.0.2.1"))
    for settings in (
        GossipSettings(endpoint=HERE),
        GossipSettings(endpoint=HERE, peers=peers, secret=tmp_path, wan=True),
    ):
        parser = argparse.ArgumentParser()
        add_gossip_arguments(parser)
        assert settings == GossipSettings.from_arguments(parser.parse_args(settings.arguments))
        assert "s3cr3t" not in " ".join(settings.arguments)


def test_the_secret_is_read_from_a_file_a_mounted_secret_or_the_environment_alike(tmp_path: Path) -> None:
    (tmp_path / "secretkey").write_bytes(b"s3cr3t\n")
    message = b"\x0b\x81\xa5SeqNo\x01"
    sealed = GossipSettings(endpoint=HERE, secret=tmp_path).envelope({}).wrap([message])
    file = GossipSettings(endpoint=HERE, secret=tmp_path / "secretkey").envelope({})
    environment = GossipSettings(endpoint=HERE).envelope({SECRET_VARIABLE: "s3cr3t\n"})
    assert file.unwrap(sealed) == environment.unwrap(sealed) != []
    assert GossipSettings(endpoint=HERE).envelope({}).sealer is None


def test_a_secret_that_is_not_there_is_named_and_not_taken_for_none(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="nowhere"):
        GossipSettings(endpoint=HERE, secret=tmp_path / "nowhere").envelope({})


@pytest.fixture
def pair() -> Iterator[tuple[OurMember, OurMember]]:
    one = OurMember("a", "127.47.0.1", WIRE)
    other = OurMember("b", "127.47.0.2", WIRE, ["127.47.0.1"])
    yield one, other
    one.close()
    other.close()


def test_members_see_each_other_whatever_strangers_send_them(pair: tuple[OurMember, OurMember]) -> None:
    until(lambda: all({"a", "b"} == each.names for each in pair), "both to see each other")
    rng = random.Random(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(200):
            stranger.sendto(rng.randbytes(rng.randrange(1400)), ("127.47.0.1", 7946))
    for _ in range(20):
        with socket.create_connection(("127.47.0.1", 7946)) as connection:
            connection.sendall(rng.randbytes(rng.randrange(1, 300)))
    silent = [socket.create_connection(("127.47.0.1", 7946)) for _ in range(140)]
    time.sleep(0.2)
    for each in silent:
        each.close()
    until(lambda: pair[0].engine.counts.ignored >= 200, "the strangers' datagrams to be counted")
    assert all({"a", "b"} == each.names for each in pair)
    pair[1].close(politely=True)
    until(lambda: {"a"} == pair[0].names, "the leave to be heard", 2.0)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as holder:
        holder.bind(("::1", 0))
        holder.listen()
        endpoint = Endpoint(HERE.address, holder.getsockname()[1])
        envelope = GossipSettings(endpoint=endpoint).envelope({})
        with pytest.raises(OSError, match=r"cannot listen for members at \[::1\]:"):
            Gossip(
                Detector("a", endpoint, rng=random.Random(1), life=1, envelope=envelope),
                envelope,
                endpoint,
                selector=selectors.DefaultSelector(),
                clock=time.monotonic,
                report=lambda _: None,
                say=lambda _: None,
            )
