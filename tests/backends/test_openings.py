"""Which ports can be opened here: not somebody else's; one that we hold ourselves is not asked for."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from attrs import evolve

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.general import Places
from lbcore.backends.openings import NO_MODULE, unopenable
from lbcore.ingress import ObjectKey
from lbcore.proxy import Peer, Stream, Transport

HERE = Places(folder="/x", listen=("127.0.0.1", "[::1]"))


def stream(port: int, transport: Transport = Transport.TCP) -> Stream:
    service = ObjectKey("data", "pg")
    return Stream(port=port, transport=transport, service=service, service_port="1", peers=(Peer("::1", 1),))


def free(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET6, kind) as probe:
        probe.bind(("::1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(("host", "family"), [("::1", socket.AF_INET6), ("127.0.0.1", socket.AF_INET)])
@pytest.mark.parametrize(
    ("transport", "kind"), [(Transport.TCP, socket.SOCK_STREAM), (Transport.UDP, socket.SOCK_DGRAM)]
)
def test_a_port_of_somebody_else_at_either_address_is_named(
    host: str, family: socket.AddressFamily, transport: Transport, kind: socket.SocketKind
) -> None:
    taken, good = free(kind), free(kind)
    streams = [stream(taken, transport), stream(good, transport)]
    assert {} == unopenable(streams, frozenset(), HERE, Capabilities())
    with ExitStack() as others:
        other = others.enter_context(socket.socket(family, kind))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, taken))
        if transport is Transport.TCP:
            other.listen()
        place = f"[::1]:{taken}" if host == "::1" else f"127.0.0.1:{taken}"
        why = f"{place} is in use by somebody else on this machine; free it, or take another port"
        assert {streams[0].name: why} == unopenable(streams, frozenset(), HERE, Capabilities())
        assert {} == unopenable(streams, frozenset({streams[0].name}), HERE, Capabilities())
    assert {} == unopenable(streams, frozenset(), HERE, Capabilities())


def test_an_address_that_is_not_here_is_named() -> None:
    port = free()
    found = unopenable([stream(port)], frozenset(), evolve(HERE, listen=("[2001:db8::1]",)), Capabilities())
    assert {f"{port}/tcp": f"cannot listen at [2001:db8::1]:{port}: Cannot assign requested address"} == found


def test_connections_that_have_ended_do_not_keep_a_port() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("::1", port)) as client:
            here, _ = server.accept()
            here.close()  # this side waits: TIME-WAIT (RFC 9293, section 3.6)
            assert b"" == client.recv(1)
    assert {} == unopenable([stream(port)], frozenset(), HERE, Capabilities())


def test_without_the_module_no_port_can() -> None:
    without = evolve(Capabilities(), stream=False)
    assert {"1/tcp": NO_MODULE} == unopenable([stream(1)], frozenset({"1/tcp"}), HERE, without)
