"""The lines in which nginx is told its peers: addresses as it shows them itself, and nothing else."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given

from lbcore.adapters.nginx.lua import peers_line
from lbcore.addresses import Address
from lbcore.errors import LocalProtocolError
from lbcore.ingress import ObjectKey
from lbcore.proxy import Peer, Upstream
from strategies import addresses


def line(*hosts: str) -> str:
    peers = tuple(Peer(host, 80) for host in hosts)
    return peers_line(Upstream(id="x", service=ObjectKey("default", "web"), port="80", peers=peers), 7)


@given(addresses())
def test_an_address_is_told_as_nginx_shows_it_however_it_is_written(address: Address) -> None:
    text = str(address)
    written = IPv6Address(text).exploded.upper() if ":" in text else text
    shown = f"[{text}]" if ":" in text else text
    assert f"x 7 turns {shown} 80\n" == line(written)


@pytest.mark.parametrize("host", ["", "web.example", "::1 9", "::1\n", "1.2.3.4;", ":::", "::ffff:10.0.0.1"])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(LocalProtocolError, match="is no address"):
        line("2001:db8::1", host)
