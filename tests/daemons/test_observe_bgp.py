"""What a speaker says of BGP: who its routers are, and each route that comes or goes."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from lbcore.addresses import Address
from lbcore.bgp import BGPPeer
from lbcore.daemons.observe import log_observer
from lbcore.intents import AdvertiseRoute, SetSessions, WithdrawRoute
from lbcore.routes import Offer, Path, Prefix

ROUTER = BGPPeer(name="tor", my_asn=64513, peer_asn=64512, address=Address.parse("2001:db8::1"), password="s3cret")
PREFIX = Prefix.of(Address.parse("2001:db8:1::"), 64)


def test_peers_and_routes_are_said_and_passwords_are_not() -> None:
    with capture_logs() as lines:
        observe = log_observer(structlog.get_logger())
        observe(None, [SetSessions((ROUTER,))])
        observe(None, [AdvertiseRoute(prefix=PREFIX, offers=(Offer("tor", Path()),)), WithdrawRoute(PREFIX)])
    assert ["BGP peers", "advertising", "withdrawing"] == [line["event"] for line in lines]
    assert "tor (2001:db8::1)" == lines[0]["peers"]
    assert {"2001:db8:1::/64"} == {line["prefix"] for line in lines[1:]}
    assert "s3cret" not in str(lines)
    assert "s3cret" not in repr(SetSessions((ROUTER,)))
