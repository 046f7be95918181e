"""Sessions with BIRD, FRR and GoBGP: what each of them has of us, and what happens when either side fails.

One cable for the whole file; only the speaker's BGP backend stands at our end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path as Folder
from typing import Any

import pytest

from bgp_link import COMMUNITIES, FAR_NODE, FAR_ROUTER, NODE, ROUTER, Cable, Speaking, prefixes, session, texts
from lbcore.addresses import Address
from lbcore.routes import Path, PeerState
from routers import KINDS, Router, bird, frr

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns")]

BIRD = pytest.param("bird", marks=pytest.mark.needs("bird"))
FRR = pytest.param("frr", marks=pytest.mark.needs("frr"))
GOBGP = pytest.param("gobgp", marks=pytest.mark.needs("gobgp"))
EVERY = pytest.mark.parametrize("kind", [BIRD, FRR, GOBGP])
FOUR, SIX = prefixes(2, 4), prefixes(2, 6)


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    cable = Cable()
    yield cable
    cable.close()


@contextmanager
def routing(router: Router) -> Iterator[Router]:
    try:
        yield router.start()
    finally:
        router.stop()
        # What a router that was killed leaves in the kernel would keep the next one's routes out.
        for version, protocol in product(("-4", "-6"), ("bird", "bgp")):
            router.space.run(["ip", version, "route", "flush", "proto", protocol])


def neighbours(asn: int, *addresses: str) -> dict[str, int]:
    return dict.fromkeys(addresses or NODE.values(), asn)


def wait_routes(speaking: Speaking, router: Router, wanted: dict[str, list[str]]) -> None:
    found: dict[str, list[str]] = {}

    def there() -> bool:
        found.clear()
        found.update(router.routes())
        return wanted == found

    try:
        speaking.wait(there, "the routes")
    except AssertionError:
        assert wanted == found
        raise


def via(wanted: list[Any], hop: str) -> dict[str, list[str]]:
    return {text: [hop] for text in texts(wanted)}


def shown(kind: str, router: Router) -> str:
    """All that a router knows of our first routes."""
    questions: dict[str, Callable[[], str]] = {
        "bird": lambda: router.ask("show", "route", "all"),
        "frr": lambda: "".join(
            router.ask(f"show bgp ipv{each.version} unicast {each} json") for each in (FOUR[0], SIX[0])
        ),
        "gobgp": lambda: "".join(router.ask("global", "rib", "-a", family) for family in ("ipv4", "ipv6")),
    }
    return questions[kind]()


@EVERY
@pytest.mark.parametrize("internal", [False, True])
def test_both_families_arrive_with_their_attributes_and_change_alone(
    cable: Cable, tmp_path: Folder, kind: str, internal: bool
) -> None:
    own = 4_200_000_001  # no number of two octets
    asn = own if internal else 64512
    router = KINDS[kind](cable.router, tmp_path, neighbours(own), asn=asn)
    peers = [session(f"tor{n}", ROUTER[n], my_asn=own, peer_asn=asn) for n in (4, 6)]
    path = Path(local_pref=333, communities=COMMUNITIES)
    with routing(router), cable.speaking(*peers) as speaking:
        speaking.advertise(FOUR, "tor4", path=path)
        speaking.advertise(SIX, "tor6", path=path)
        wait_routes(speaking, router, via(FOUR, NODE[4]) | via(SIX, NODE[6]))
        text = shown(kind, router)
        assert "64513:7" in text.replace("(64513,7)", "64513:7").replace("(64513, 7)", "64513:7")
        assert "64513:1:2" in text.replace("(64513, 1, 2)", "64513:1:2")
        assert internal == ("333" in text)  # LOCAL_PREF is for our own AS
        assert internal or str(own) in text
        speaking.withdraw([FOUR[0], SIX[1]])
        wait_routes(speaking, router, via(FOUR[1:], NODE[4]) | via(SIX[:1], NODE[6]))
        assert [0, 0] == [each.flaps for each in speaking.sessions.values()]
        # Stopped in order, nothing is left behind.
        speaking.stop()
        wait_routes(speaking, router, {})


RESET = {"bird": ["restart", "all"], "frr": ["clear bgp *"]}  # GoBGP refuses those whom it has reset for half a minute


@EVERY
def test_a_session_that_the_router_resets_or_that_dies_with_it_comes_back_with_all_routes(
    cable: Cable, tmp_path: Folder, kind: str
) -> None:
    router = KINDS[kind](cable.router, tmp_path, neighbours(64513))
    with routing(router), cable.speaking(session("tor4", ROUTER[4]), session("tor6", ROUTER[6])) as speaking:
        speaking.advertise(FOUR, "tor4")
        speaking.advertise(SIX, "tor6")
        wanted = via(FOUR, NODE[4]) | via(SIX, NODE[6])
        wait_routes(speaking, router, wanted)
        if kind in RESET:
            router.ask(*RESET[kind])
            speaking.wait(lambda: all(each.flaps == 1 for each in speaking.sessions.values()), "both to be reset")
            speaking.wait_up("tor4", "tor6")
            wait_routes(speaking, router, wanted)
        router.stop()
        speaking.wait(lambda: all(each.error for each in speaking.sessions.values()), "both to be lost")
        router.start()
        speaking.wait_up("tor4", "tor6")
        wait_routes(speaking, router, wanted)


@EVERY
def test_both_families_over_one_signed_session(cable: Cable, tmp_path: Folder, kind: str) -> None:
    router = KINDS[kind](cable.router, tmp_path, neighbours(64513), password="s3cret")
    six = session("tor6", ROUTER[6], dual_stack=True, password="s3cret")
    with routing(router), cable.speaking(six, session("tor4", ROUTER[4], password="s3cret")) as speaking:
        speaking.advertise(FOUR + SIX, "tor6")
        speaking.wait_up("tor6", "tor4")
        wait_routes(speaking, router, via(FOUR + SIX, NODE[6]))  # RFC 8950
        speaking.advertise(SIX, "tor4")  # no family of that session
        speaking.withdraw(FOUR + SIX)
        wait_routes(speaking, router, {})
        # The other way round, each with its own family's next hop.
        before = speaking.sessions["tor6"].since
        speaking.set_peers(six, session("tor4", ROUTER[4], dual_stack=True, password="s3cret"))
        speaking.advertise(FOUR + SIX, "tor4")
        wait_routes(speaking, router, via(FOUR, NODE[4]) | via(SIX, NODE[6]))
        # Another session than that which was changed goes on.
        assert (before, 0) == (speaking.sessions["tor6"].since, speaking.sessions["tor6"].flaps)


@pytest.mark.parametrize("kind", [BIRD, FRR])
def test_a_router_that_is_no_neighbour_on_the_link_and_one_that_wants_ttl_255(
    cable: Cable, tmp_path: Folder, kind: str
) -> None:
    far = f"protocol static {{ ipv4; route {FAR_NODE}/32 via {NODE[4]}; }}"
    for hops in (2, 1):
        address, source = (FAR_NODE, Address.parse(FAR_NODE)) if hops == 2 else (NODE[4], None)
        there = FAR_ROUTER if hops == 2 else ROUTER[4]
        peers = neighbours(64513, address)
        if kind == "bird":
            gtsm = "ttl security on;"
            router = bird(cable.router, tmp_path, peers, hops="multihop 3;" if hops == 2 else "direct;", more=far,
                          extra="" if hops == 2 else gtsm)  # fmt: skip
        else:
            router = frr(cable.router, peers, extra=["ebgp-multihop 3"] if hops == 2 else ["ttl-security hops 1"])
        tor = session("tor", there, source_address=source, ebgp_multihop=hops == 2)
        with routing(router), cable.speaking(tor) as speaking:
            speaking.advertise(FOUR, "tor")
            own = {f"{FAR_NODE}/32": [NODE[4]]} if kind == "bird" else {}  # BIRD writes its static route, too
            wait_routes(speaking, router, via(FOUR, NODE[4]) | own)


@EVERY
def test_a_router_keeps_routes_over_a_restart_and_drops_what_does_not_come_again(
    cable: Cable, tmp_path: Folder, kind: str
) -> None:
    router = KINDS[kind](cable.router, tmp_path, neighbours(64513))
    tor = session("tor", ROUTER[6], graceful_restart=True, dual_stack=True)
    kept, fewer = via(FOUR + SIX, NODE[6]), via(FOUR[:1] + SIX[:1], NODE[6])
    with routing(router):
        with cable.speaking(tor) as speaking:
            speaking.advertise(FOUR + SIX, "tor")
            wait_routes(speaking, router, kept)
        # It went without a word, and the routes stay though nobody is there.
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            assert kept == router.routes()
            time.sleep(0.05)
        with cable.speaking() as speaking:
            speaking.advertise(FOUR[:1] + SIX[:1], "tor")
            speaking.set_peers(tor)
            seen: list[dict[str, list[str]]] = []

            def only() -> bool:
                seen.append(router.routes())
                return seen[-1] == fewer

            speaking.wait(only, "the end of the routes to be taken as such")
            assert all(fewer.items() <= each.items() for each in seen)  # none was ever missing


# GoBGP takes a minute to print them: each with all those that came in the same message.
@pytest.mark.parametrize("kind", [BIRD, FRR])
def test_ten_thousand_prefixes_of_both_families_come_and_go(cable: Cable, tmp_path: Folder, kind: str) -> None:
    router = KINDS[kind](cable.router, tmp_path, neighbours(64513))
    many = {4: prefixes(5_000, 4), 6: prefixes(5_000, 6)}
    with routing(router), cable.speaking(session("tor4", ROUTER[4]), session("tor6", ROUTER[6])) as speaking:
        for version, wanted in many.items():
            speaking.advertise(wanted, f"tor{version}")
        told = speaking.sessions
        speaking.wait(
            lambda: [5_000] * 2 == [told[f"tor{n}"].advertised for n in many if f"tor{n}" in told], "all told"
        )
        speaking.wait(lambda: 10_000 == len(router.routes()), "10,000 routes")
        assert texts(many[4]) | texts(many[6]) == set(router.routes())
        speaking.withdraw(many[4][1:] + many[6][1:])
        wait_routes(speaking, router, via(many[4][:1], NODE[4]) | via(many[6][:1], NODE[6]))
        assert [0, 0] == [each.flaps for each in speaking.sessions.values()]


@pytest.mark.needs("frr")
def test_a_frozen_router_is_noticed_by_its_silence(cable: Cable) -> None:
    router = frr(cable.router, neighbours(64513))
    with routing(router), cable.speaking(session("tor", ROUTER[6], hold_time=3)) as speaking:
        speaking.advertise(SIX, "tor")
        wait_routes(speaking, router, via(SIX, NODE[6]))
        router.signal(signal.SIGSTOP)
        speaking.wait_error("tor", "hold timer expired")
        router.signal(signal.SIGCONT)
        speaking.wait_up("tor")
        wait_routes(speaking, router, via(SIX, NODE[6]))


@pytest.mark.needs("bird", "frr")
def test_one_router_that_comes_and_goes_does_not_touch_the_other(cable: Cable, tmp_path: Folder) -> None:
    steady = frr(cable.router, neighbours(64513, NODE[4]))
    # Both are on one host here, so the second has another port.
    flapping = bird(cable.router, tmp_path, neighbours(64513, NODE[6]), extra=f"local {ROUTER[6]} port 1790;")
    peers = session("steady", ROUTER[4]), session("flapping", ROUTER[6], port=1790)
    with routing(steady), cable.speaking(*peers) as speaking:
        speaking.advertise(FOUR, "steady")
        speaking.advertise(SIX, "flapping")
        for times in range(1, 4):
            with routing(flapping):
                speaking.wait_up("steady", "flapping")
            lost = times
            speaking.wait(lambda lost=lost: speaking.sessions["flapping"].flaps == lost, "a flap")  # type: ignore[misc]
        assert PeerState.ESTABLISHED is speaking.sessions["steady"].state
        assert 0 == speaking.sessions["steady"].flaps
        assert via(FOUR, NODE[4]) == steady.routes()
