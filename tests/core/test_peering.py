"""Which peers are watched by BFD, and what a lost path means for the session over it."""

from __future__ import annotations

from attrs import evolve

from lbcore.addresses import Address
from lbcore.announcement import AnnouncementSettings, AnnouncementState, step
from lbcore.bfd import BfdDiagnostic, BfdState, Watch, WatchStatus, watch_of
from lbcore.bgp import BFDProfile, BGPPeer, DynamicASN
from lbcore.events import PeerSeen, WatchSeen
from lbcore.intents import LoseSession, RecordEvent, ReportPeer
from lbcore.peering import watches_of
from lbcore.routes import PeerState, PeerStatus

TOR = BGPPeer(name="tor", my_asn=64513, peer_asn=64512, address=Address.parse("2001:db8::1"), bfd_profile="fast")
FAST = BFDProfile(name="fast", transmit_interval=100, receive_interval=150, detect_multiplier=5, passive_mode=True)


def test_a_watch_is_what_the_profile_says_and_frrs_defaults_where_it_is_silent() -> None:
    expected = Watch(
        peer="tor",
        address=TOR.address,
        transmit_interval=100,
        receive_interval=150,
        detect_multiplier=5,
        minimum_ttl=254,
        passive=True,
    )
    assert expected == watch_of(TOR, FAST)
    plain = watch_of(TOR, BFDProfile(name="fast"))
    assert (300, 300, 3, False) == (
        plain.transmit_interval,
        plain.receive_interval,
        plain.detect_multiplier,
        plain.passive,
    )


def test_over_how_many_hops_a_peer_is_watched_follows_its_session() -> None:
    assert watch_of(TOR, FAST).multihop is False
    assert watch_of(evolve(TOR, ebgp_multihop=True), FAST).multihop is True
    assert watch_of(evolve(TOR, peer_asn=64513), FAST).multihop is None
    assert watch_of(evolve(TOR, peer_asn=None, dynamic_asn=DynamicASN.INTERNAL), FAST).multihop is None
    assert watch_of(evolve(TOR, address=None, interface="eth1", peer_asn=64513), FAST).multihop is False


def test_a_peer_without_a_profile_is_not_watched() -> None:
    assert ((), []) == watches_of([evolve(TOR, bfd_profile="")], [FAST])


def test_echo_mode_is_refused_in_words_and_the_peer_is_watched_all_the_same() -> None:
    watches, problems = watches_of([TOR], [evolve(FAST, echo_mode=True)])
    assert ["tor"] == [watch.peer for watch in watches]
    (problem,) = problems
    assert isinstance(problem, RecordEvent)
    assert "echoModeRefused" == problem.reason
    assert "BFDProfile 'fast' has echoMode" in problem.message


UP = WatchStatus(state=BfdState.UP, ups=1)
LOST = WatchStatus(state=BfdState.DOWN, failed=True, diagnostic=BfdDiagnostic.DETECTION_EXPIRED, ups=1, downs=1)
OFF = WatchStatus(state=BfdState.DOWN, remote=BfdState.ADMIN_DOWN, ups=1, downs=1)
HELD = PeerStatus(state=PeerState.ESTABLISHED, since=1.0)


def _told(*seen: WatchStatus | None) -> list[list[str]]:
    """What follows from each of these, where a session is established."""
    state = AnnouncementState(settings=AnnouncementSettings(node="n1"))
    state = step(state, PeerSeen("tor", HELD), 1.0).state
    told = []
    for status in seen:
        turn = step(state, WatchSeen("tor", status), 2.0)
        state = turn.state
        told.append([_line(each) for each in turn.intents])
    return told


def _line(intent: object) -> str:
    match intent:
        case LoseSession(peer, why):
            return f"lose {peer}: {why}"
        case ReportPeer(watch=watch):
            return f"report {watch.word if watch is not None else '-'}"
    raise AssertionError(intent)


def test_a_session_is_ended_once_when_its_path_is_lost() -> None:
    lose = "lose tor: BFD: nothing was heard for the detection time"
    assert [["report Up"], [lose, "report Down"], [], ["report Up"], [lose, "report Down"]] == _told(
        UP, LOST, evolve(LOST, sent=9), UP, LOST
    )


def test_a_session_stays_where_bfd_was_switched_off_or_was_never_up() -> None:
    down = WatchStatus(state=BfdState.DOWN)
    assert [["report Down"], ["report Up"], ["report Down"], ["report -"]] == _told(down, UP, OFF, None)


def test_an_old_failure_that_is_heard_of_again_ends_no_new_session() -> None:
    assert [["report Down"]] == _told(LOST)
