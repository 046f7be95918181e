"""Any interleaving of two sessions ends established, or refused with the right code; none is ever stuck."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bgp_pair import Pair, heard
from lbcore.adapters.bgp.connection import SessionSettings
from lbcore.adapters.bgp.messages import Kind, decode_notification
from lbcore.adapters.bgp.session import Side
from lbcore.addresses import Family
from lbcore.bgp import Community
from lbcore.routes import Path, PeerState, Prefix

POOL = [Prefix(4, (10 << 24) + n, 32) for n in range(6)] + [Prefix(6, (0xFD << 120) + n, 128) for n in range(6)]
PATHS = [None, Path(), Path(local_pref=200), Path(communities=(Community((1, 2)), Community((1, 2, 3))))]
BOTH = frozenset(Family)


def of(asn: int, peer_asn: int, hold_time: int) -> SessionSettings:
    return SessionSettings(asn=asn, peer_asn=peer_asn, families=BOTH, hold_time=hold_time)


actions = st.one_of(
    st.tuples(st.just("deliver"), st.integers(0, 1), st.sampled_from(Side), st.integers(1, 60)),
    st.tuples(st.just("dial"), st.integers(0, 1)),
    st.tuples(st.just("cut"), st.integers(0, 1), st.sampled_from(Side)),
    st.tuples(st.just("time"), st.sampled_from([0.001, 0.02, 0.5, 2.0, 11.0, 31.0])),
    st.tuples(st.just("offer"), st.integers(0, 1), st.sampled_from(POOL), st.sampled_from(PATHS)),
)


def play(pair: Pair, script: list[tuple[object, ...]], wishes: list[dict[Prefix, Path]]) -> None:
    for action in script:
        match action:
            case ("deliver", int(end), Side() as side, int(most)):
                pair.deliver(pair.ends[end], side, most)
            case ("dial", int(end)):
                pair.answer_dial(pair.ends[end])
            case ("cut", int(end), Side() as side):
                pair.cut(pair.ends[end], side)
            case ("time", float(seconds)):
                pair.pass_time(seconds)
            case ("offer", int(end), Prefix() as prefix, path):
                assert path is None or isinstance(path, Path)
                pair.ends[end].session.offer(prefix, path, pair.now)
                if path is None:
                    wishes[end].pop(prefix, None)
                else:
                    wishes[end][prefix] = path


@settings(max_examples=150)
@given(
    script=st.lists(actions, max_size=60),
    ids=st.sampled_from([(1, 2), (2, 1), (5, 5)]),
    listens=st.sampled_from([(True, True), (True, False), (False, True)]),
    hold_times=st.tuples(st.sampled_from([0, 3, 9, 90]), st.sampled_from([0, 3, 9, 90])),
)
def test_two_that_fit_are_established_and_tell_what_is_wanted(
    script: list[tuple[object, ...]], ids: tuple[int, int], listens: tuple[bool, bool], hold_times: tuple[int, int]
) -> None:
    pair = Pair(of(64513, 64512, hold_times[0]), of(64512, 64513, hold_times[1]), ids)
    pair.a.listens, pair.b.listens = listens
    wishes: list[dict[Prefix, Path]] = [{}, {}]
    pair.start()
    play(pair, script, wishes)
    # However bad it was: with a network that works again they find each other, at the latest after the
    # longest wait for an OPEN and the longest pause.
    pair.run(100)
    assert pair.up()
    assert 1 == len(pair.a.wires) == len(pair.b.wires)
    for end, wanted in zip(pair.ends, wishes, strict=True):
        assert len(wanted) == end.session.status.advertised
        assert set(wanted) == heard(end)[0]
        assert 0 == end.session.outbox.pending


@settings(max_examples=50)
@given(
    script=st.lists(actions, max_size=40),
    numbers=st.sampled_from([(64513, 64512, 64512, 9), (64513, 64999, 64512, 64513), (64513, 64513, 64512, 64513)]),
)
def test_two_that_do_not_fit_are_never_established_and_say_why(
    script: list[tuple[object, ...]], numbers: tuple[int, int, int, int]
) -> None:
    pair = Pair(of(numbers[0], numbers[1], 9), of(numbers[2], numbers[3], 9))
    pair.start()
    play(pair, script, [{}, {}])
    pair.run(100)
    assert not pair.up()
    said = {decode_notification(body).code for end in pair.ends for kind, body in end.sent if kind == Kind.NOTIFICATION}
    codes = {
        (words.code, words.subcode)
        for end in pair.ends
        for kind, body in end.sent
        if kind == Kind.NOTIFICATION
        for words in [decode_notification(body)]
    }
    assert (2, 2) in codes
    # Beside it: those that a cut or the script's waits bring, and collisions.
    assert said <= {2, 4, 5, 6}
    for end in pair.ends:
        assert end.state is not PeerState.ESTABLISHED
        assert end.session.deadline is not None  # it will be tried again
        assert "AS" in end.session.status.error or "closed" in end.session.status.error
        assert end.dials < 40
