"""The wire between speaker and reflex process: what is said is heard, and noise is never more than noise."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from attrs import fields
from hypothesis import example, given
from hypothesis import strategies as st

from lbcore.adapters.base import Report
from lbcore.adapters.counts import AddressCount
from lbcore.adapters.reflex import (
    Ack,
    Bye,
    Command,
    Hello,
    Lines,
    Message,
    Nack,
    Ping,
    Pong,
    Replaced,
    Seen,
    Statistics,
    decode,
    encode,
)
from lbcore.addresses import Address
from lbcore.bfd import BfdDiagnostic, BfdState, Watch, WatchStatus
from lbcore.errors import AddressError, LocalProtocolError, RemoteProtocolError
from lbcore.events import AddressHeard, LinksSeen, MembersSeen, WatchSeen
from lbcore.intents import Announce, AnnounceAnew, SetLinks, SetPeers, SetPresence, SetWatches, StandBy, Withdraw
from lbcore.model import Link
from strategies import addresses
from views import some_views


def _has_a_text(address: Address) -> bool:
    try:
        return Address.parse(str(address)) == address
    except AddressError:  # an IPv4 address in the clothes of IPv6, which nobody can ask for
        return False


vips = addresses().filter(_has_a_text)
texts = st.text(max_size=10)
names = st.lists(texts, max_size=3).map(tuple)
counts = st.integers(0, 2**63)
macs = st.binary(min_size=6, max_size=6)
links = st.builds(
    Link,
    index=st.integers(1, 2**31),
    name=texts,
    mac=st.binary(max_size=20),
    up=st.booleans(),
    carrier=st.booleans(),
    broadcast=st.booleans(),
    arp=st.booleans(),
    loopback=st.booleans(),
    enslaved=st.booleans(),
    addresses=st.lists(vips, max_size=3).map(tuple),
    link_local=st.none() | vips,
)
watches = st.builds(
    Watch,
    peer=texts,
    address=st.none() | vips,
    interface=texts,
    source=st.none() | vips,
    multihop=st.none() | st.booleans(),
    passive=st.booleans(),
    **dict.fromkeys(("transmit_interval", "receive_interval", "detect_multiplier", "minimum_ttl"), counts),
)
watch_statuses = st.builds(
    WatchStatus,
    state=st.sampled_from(BfdState),
    remote=st.sampled_from(BfdState),
    diagnostic=st.sampled_from(BfdDiagnostic),
    failed=st.booleans(),
    **dict.fromkeys(("refused_ttl", "detection", "ups", "downs", "received", "sent"), counts),
)
intents = st.one_of(
    st.builds(SetLinks, links=st.lists(links, max_size=3).map(tuple)),
    st.builds(Announce, address=vips, interfaces=names, yielding=st.booleans()),
    st.builds(StandBy, address=vips, member=st.text(max_size=9), interfaces=names),
    st.builds(Withdraw, address=vips),
    st.builds(AnnounceAnew, counts),
    st.builds(SetPeers, st.lists(vips, max_size=3).map(tuple)),
    st.builds(SetWatches, st.lists(watches, max_size=3).map(tuple)),
    st.builds(SetPresence, present=st.booleans(), why=texts),
)
events = st.one_of(
    st.builds(MembersSeen, st.frozensets(texts, max_size=4), st.frozensets(texts, max_size=2), counts),
    st.builds(AddressHeard, address=vips, mac=macs, link=texts),
    st.builds(WatchSeen, texts, st.none() | watch_statuses),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Command, counts, intents),
    st.builds(
        Hello,
        version=texts,
        arguments=names,
        answering=st.lists(st.tuples(vips, names), max_size=3).map(tuple),
        present=st.booleans(),
    ),
    st.builds(Ack, counts),
    st.builds(Nack, seq=counts, message=texts, retry=st.booleans()),
    st.builds(Report, events),
    st.builds(
        Pong,
        st.builds(Statistics, **{each.name: counts for each in fields(Statistics)}),
        st.lists(
            st.builds(AddressCount, address=vips, requests=counts, responses=counts, gratuitous=counts), max_size=3
        ).map(tuple),
    ),
    st.builds(Seen, some_views),
    st.sampled_from([Ping(), Bye(), Replaced()]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(messages)
@example(Command(1, Announce(address=Address.parse("2001:db8::1"), interfaces=("eth0",))))
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    line = encode(message)
    assert b"\n" == line[-1:]
    assert 1 == line.count(b"\n")
    assert message == decode(line)


@given(st.lists(messages, max_size=8), st.lists(st.integers(1, 40), max_size=60))
def test_messages_survive_any_cutting_of_the_stream(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(encode(message) for message in sent)
    lines, heard = Lines(), []
    for size in (*cuts, len(stream)):
        heard += [decode(line) for line in lines.feed(stream[:size])]
        stream = stream[size:]
    assert sent == heard


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b"9" * 5000)
@example(b'{"type":["ack"]}')
@example(b'{"type":"ack","seq":true}')
@example(b'{"type":"ack","seq":-1}')
@example(b'{"type":"command","seq":1,"intent":"announce","address":"192.0.2","interfaces":[]}')
@example(b'{"type":"command","seq":1,"intent":"announce","address":"::1","interfaces":"eth0"}')
@example(b'{"type":"hello","version":"1","arguments":[],"answering":[["::1"]]}')
@example(b'{"type":"report","event":"heard","address":"::1","mac":"00","link":"eth0"}')
@example("\ufeff{}".encode("utf-16"))
def test_noise_is_refused_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(data)


@given(messages, st.data())
def test_a_damaged_message_is_refused_or_read_and_nothing_worse(message: Message, data: st.DataObject) -> None:
    line = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    with suppress(RemoteProtocolError):
        decode(bytes(line))


@given(messages, st.data())
def test_a_field_of_a_wrong_kind_is_refused_or_read_and_nothing_worse(message: Message, data: st.DataObject) -> None:
    body = json.loads(encode(message))
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(json_values)
    with suppress(RemoteProtocolError):
        decode(json.dumps(body).encode())


def test_what_has_no_form_on_the_wire_is_a_fault_of_ours() -> None:
    with pytest.raises(LocalProtocolError, match="LinksSeen"):
        encode(Report(LinksSeen(())))


def test_a_line_that_does_not_end_is_cut_off() -> None:
    lines = Lines(limit=100)
    assert [] == lines.feed(b"x" * 100)
    with pytest.raises(RemoteProtocolError, match="101 bytes"):
        lines.feed(b"x")


def test_a_long_line_between_short_ones_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="101 bytes"):
        Lines(limit=100).feed(b"short\n" + b"x" * 101 + b"\nshort\n")


def test_a_bye_looks_the_same_in_every_release() -> None:
    assert b'{"type":"bye"}\n' == encode(Bye())


def test_of_another_releases_greeting_version_and_arguments_are_understood() -> None:
    line = b'{"type":"hello","version":"9.9.9","arguments":["--node","a"],"mood":"good"}\n'
    assert Hello(version="9.9.9", arguments=("--node", "a")) == decode(line)
