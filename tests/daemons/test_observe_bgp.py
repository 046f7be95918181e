"""What a daemon says of BGP while it holds no sessions: once, and not as an error."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from lbcore.bgp import BGPAdvertisement
from lbcore.config import Config, Pool
from lbcore.daemons.observe import log_observer
from lbcore.intents import ReportConfig

POOL = Pool.parse("six", "2001:db8::/64")


def test_advertisements_that_are_not_served_yet_are_noted_once() -> None:
    with capture_logs() as lines:
        observe = log_observer(structlog.get_logger())
        observe(None, [ReportConfig(config=Config(pools=(POOL,)))])
        assert [] == [line for line in lines if "BGP" in line["event"]]
        for names in (["a", "b"], ["a", "b", "c"]):
            adverts = tuple(BGPAdvertisement(name=name) for name in names)
            observe(None, [ReportConfig(config=Config(pools=(POOL,), bgp_advertisements=adverts))])
    (note,) = [line for line in lines if "BGP" in line["event"]]
    assert ("info", "a,b") == (note["log_level"], note["names"])
