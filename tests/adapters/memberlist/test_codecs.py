"""memberlist's bytes: what Go wrote is read and written again byte for byte, and no bytes do harm."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.adapters.memberlist.envelope import Envelope, Sealer, deflate, inflate
from lbcore.adapters.memberlist.keys import metallb_key
from lbcore.adapters.memberlist.lzw import compress, decompress
from lbcore.adapters.memberlist.messages import (
    Ack,
    Alive,
    Dead,
    Endpoint,
    Fault,
    IndirectPing,
    Message,
    Nack,
    NodeState,
    Ping,
    PushPull,
    Status,
    Suspect,
    User,
    decode,
    encode,
)
from lbcore.adapters.memberlist.msgpack import Value, unpack
from lbcore.adapters.memberlist.streams import MAX_STREAM, StreamReader, frame_stream
from lbcore.addresses import Address
from lbcore.errors import RemoteProtocolError

HERE = Endpoint(Address.parse("10.0.0.1"), 7946)
THERE = Endpoint(Address.parse("10.0.0.2"), 7946)
SIXTH = Endpoint(Address.parse("fd00::6"), 7946)

# Written by hashicorp/memberlist v0.5.1.
VECTORS: list[tuple[Message, str]] = [
    (
        Ping(seq=1, node="n2", source=HERE, source_node="n1"),
        "0085a44e6f6465a26e32a55365714e6f01aa536f7572636541646472a40a000001aa536f757263654e6f6465a26e31"
        "aa536f75726365506f7274cd1f0a",
    ),
    (Ack(1), "0282a75061796c6f6164c0a55365714e6f01"),
    (Nack(200), "0b81a55365714e6fccc8"),
    (
        IndirectPing(seq=1, target=THERE, node="n2", nack=True, source=HERE, source_node="n1"),
        "0188a44e61636bc3a44e6f6465a26e32a4506f7274cd1f0aa55365714e6f01aa536f7572636541646472a40a000001"
        "aa536f757263654e6f6465a26e31aa536f75726365506f7274cd1f0aa6546172676574a40a000002",
    ),
    (
        Suspect(incarnation=5, node="n2", origin="n1"),
        "0383a446726f6da26e31ab496e6361726e6174696f6e05a44e6f6465a26e32",
    ),
    (
        Dead(incarnation=5, node="n2", origin="n2"),
        "0583a446726f6da26e32ab496e6361726e6174696f6e05a44e6f6465a26e32",
    ),
    (
        Alive(incarnation=1, node="n1", endpoint=HERE),
        "0486a441646472a40a000001ab496e6361726e6174696f6e01a44d657461c0a44e6f6465a26e31a4506f7274cd1f0a"
        "a356736ea6010502000000",
    ),
    (
        PushPull(
            join=True,
            nodes=(NodeState(node="n1", endpoint=HERE, meta=b"", incarnation=1, status=Status.DEAD),),
        ),
        "0683a44a6f696ec3a54e6f64657301ac5573657253746174654c656e00"
        "87a441646472a40a000001ab496e6361726e6174696f6e01a44d657461c0a44e616d65a26e31a4506f7274cd1f0a"
        "a5537461746502a356736ea6010502000000",
    ),
    (Fault("boom"), "0d81a54572726f72a4626f6f6d"),
]

addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
endpoints = st.builds(lambda packed, port: Endpoint(Address.from_bytes(packed), port), addresses, st.integers(1, 65535))
names = st.text("abc-.0123456789", min_size=1, max_size=60)
numbers = st.integers(0, (1 << 32) - 1)
metas = st.binary(max_size=512)
sources = st.none() | endpoints
alives = st.builds(Alive, incarnation=numbers, node=names, endpoint=endpoints, meta=metas)
states = st.builds(
    NodeState,
    node=names,
    endpoint=endpoints,
    meta=metas,
    incarnation=numbers,
    status=st.sampled_from(Status),
)
exchanges = st.builds(
    PushPull,
    join=st.booleans(),
    nodes=st.lists(states, max_size=40).map(tuple),
    user_state=st.binary(max_size=200),
)
messages = st.one_of(
    st.builds(Ping, seq=numbers, node=names, source=sources, source_node=names | st.just("")),
    st.builds(
        IndirectPing,
        seq=numbers,
        target=endpoints,
        node=names,
        nack=st.booleans(),
        source=sources,
        source_node=names | st.just(""),
    ),
    st.builds(Ack, numbers, st.none() | st.binary(max_size=300)),
    st.builds(Nack, numbers),
    st.builds(Suspect, incarnation=numbers, node=names, origin=names),
    st.builds(Dead, incarnation=numbers, node=names, origin=names),
    alives,
    exchanges,
    st.builds(Fault, st.text(max_size=100)),
)


@pytest.mark.parametrize(("message", "written"), VECTORS, ids=lambda each: type(each).__name__)
def test_messages_are_byte_for_byte_those_of_go(message: Message, written: str) -> None:
    assert written == encode(message).hex()
    assert message == decode(bytes.fromhex(written))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("d100c8", 200),
        ("d200009c40", 40000),
        ("d90161", b"a"),
        ("c40161", b"a"),
        ("ff", -1),
        ("930102cc80", [1, 2, 128]),
    ],
)
def test_what_go_reads_beyond_what_it_writes_is_read(written: str, value: Value) -> None:
    assert (value, len(written) // 2) == unpack(bytes.fromhex(written))


@given(messages)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert message == decode(encode(message))


@given(st.integers(0, 13), st.binary(max_size=200))
@example(6, bytes.fromhex("83a44a6f696ec3a54e6f646573d2000fffff"))
def test_no_bytes_raise_anything_but_a_protocol_error(code: int, data: bytes) -> None:
    for read in (decode, Envelope().unwrap, lambda each: StreamReader(Envelope(), opening=True).feed(each)):
        with contextlib.suppress(RemoteProtocolError):
            read(bytes((code,)) + data)


@given(messages, st.data())
def test_a_damaged_message_is_read_or_refused(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for each in (bytes(damaged), cut):
        with contextlib.suppress(RemoteProtocolError):
            decode(each)


# LZW


@pytest.mark.parametrize(
    ("plain", "written"),
    [(b"a" * 16, "0982a4416c676f00a3427566a900c3081c48b0609880"), (b"", "0982a4416c676f00a3427566a3000302")],
)
def test_compression_is_byte_for_byte_that_of_go(plain: bytes, written: str) -> None:
    assert written == deflate(plain).hex()
    assert plain == inflate(bytes.fromhex(written), 100)


@given(st.binary(max_size=3000) | st.text("ab", max_size=5000).map(str.encode))
def test_what_was_compressed_is_got_back(plain: bytes) -> None:
    assert plain == decompress(compress(plain), len(plain))


def test_a_full_table_begins_anew() -> None:
    plain = Random(1).randbytes(30_000)
    assert plain == decompress(compress(plain), len(plain))


@given(st.binary(max_size=400))
def test_any_bytes_are_decompressed_within_the_limit_or_refused(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert len(decompress(data, 1000)) <= 1000


def test_a_bomb_is_refused_before_it_is_large() -> None:
    bomb = deflate(bytes(MAX_STREAM + 1))
    assert len(bomb) < 20_000
    with pytest.raises(RemoteProtocolError, match="more than"):
        Envelope().unwrap(bomb)
    with pytest.raises(RemoteProtocolError, match="more than"):
        StreamReader(Envelope(), opening=True).feed(bomb)


# Envelopes

SECRET = b"short"


def sealer(version: int = 1, secret: bytes = SECRET) -> Sealer:
    key = metallb_key(secret)
    assert key is not None
    return Sealer((key,), Random(7), version=version)


envelopes = st.builds(
    Envelope,
    sealer=st.sampled_from([None, sealer(0), sealer(1)]),
    label=st.sampled_from([b"", b"blue"]),
    compressed=st.booleans(),
    checked=st.booleans(),
)


def test_the_key_is_made_as_metallb_makes_it() -> None:
    assert "73686f7274e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca49599" == (metallb_key(b"short") or b"").hex()
    assert b"0123456789abcdef" * 2 == metallb_key(b"0123456789abcdef" * 8)
    assert metallb_key(b"") is None


@given(envelopes, st.lists(messages.filter(lambda each: len(encode(each)) < 1400), min_size=1, max_size=20))
def test_datagrams_are_unwrapped_as_they_were_wrapped(envelope: Envelope, sent: list[Message]) -> None:
    assert sent == envelope.unwrap(envelope.wrap([encode(each) for each in sent]))


@given(envelopes, messages.filter(lambda each: not isinstance(each, User)), st.data())
def test_streams_are_read_whole_however_they_are_cut(envelope: Envelope, sent: Message, data: st.DataObject) -> None:
    opening = data.draw(st.booleans())
    stream = frame_stream(envelope, encode(sent), opening=opening)
    reader = StreamReader(envelope, opening=opening)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=5)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    for piece in pieces[:-1]:
        assert reader.feed(piece) is None
    assert sent == reader.feed(pieces[-1])


@given(envelopes, envelopes, messages.filter(lambda each: len(encode(each)) < 1400))
def test_nobody_reads_what_is_sealed_or_labelled_for_another(ours: Envelope, theirs: Envelope, sent: Message) -> None:
    other = Envelope(sealer=sealer(secret=b"another") if theirs.sealer else None, label=theirs.label)
    if (other.sealer is None, other.label) == (ours.sealer is None, ours.label) and other.sealer is None:
        return
    datagram = ours.wrap([encode(sent)])
    try:
        found = other.unwrap(datagram)
    except RemoteProtocolError:
        return
    assert sent not in found


def test_a_changed_checksum_is_noticed() -> None:
    datagram = bytearray(Envelope(checked=True, compressed=False).wrap([encode(Ack(1))]))
    datagram[-1] ^= 1
    with pytest.raises(RemoteProtocolError, match="checksum"):
        Envelope().unwrap(bytes(datagram))


def test_compounds_within_compounds_cost_no_more_than_a_bounded_number_of_messages() -> None:
    body = encode(Nack(1))
    for _ in range(4):
        body = (
            b"\x07\xff" + len(body).to_bytes(2) * 255 + body * 255
            if len(body) < 200
            else b"\x07\x01" + len(body).to_bytes(2) + body
        )
    assert len(Envelope().unwrap(body)) <= 1024


def test_an_exchange_of_a_thousand_members_is_followed_in_plain_text_without_looking_twice() -> None:
    nodes = tuple(
        NodeState(node=f"node-{index}", endpoint=SIXTH, meta=b"", incarnation=index, status=Status.ALIVE)
        for index in range(1000)
    )
    sent = PushPull(join=False, nodes=nodes)
    stream = frame_stream(Envelope(compressed=False), encode(sent), opening=True)
    reader = StreamReader(Envelope(), opening=True)
    found = [reader.feed(stream[begin : begin + 1460]) for begin in range(0, len(stream), 1460)]
    assert sent == found[-1]
