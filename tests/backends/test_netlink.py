"""Interfaces as the kernel tells them, in a namespace of the test's own: no polling, nothing missed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lbcore.addresses import Address
from lbcore.backends.netlink import NetlinkLinks
from lbcore.events import Event, Kind, LinksSeen, Listed
from lbcore.model import Link
from wire import Namespace, isolated

pytestmark = pytest.mark.needs("netns")

PATIENCE = 5.0  # seconds; much less than until a rescan, so that only a notification can be in time


class Watch:
    """A netlink source that runs in a namespace, in a thread with an event loop of its own."""

    def __init__(self, namespace: Namespace, rescan: float) -> None:
        self.told: list[Event] = []
        self.said: list[str] = []
        self.held = threading.Event()  # not set: the source stands still
        self.held.set()
        self.stands = threading.Event()
        self._source = NetlinkLinks(say=self.said.append, rescan=rescan)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        namespace.run(self._thread.start)  # a thread is born where its parent is

    def _run(self) -> None:
        async def follow() -> None:
            async for event in self._source.events():
                self.told.append(event)
                if not self.held.is_set():
                    self.stands.set()
                    self.held.wait(12 * PATIENCE)  # a busy machine takes a while for a flood

        self._task = self._loop.create_task(follow())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    @property
    def links(self) -> dict[str, Link]:
        """The newest picture, by name."""
        pictures = [event.links for event in self.told if isinstance(event, LinksSeen)]
        return {link.name: link for link in pictures[-1]} if pictures else {}

    def until(self, condition: Callable[[dict[str, Link]], bool]) -> None:
        """Wait until the newest picture is as it should be."""
        end = time.monotonic() + PATIENCE
        while not condition(self.links):
            assert time.monotonic() < end, self.told[-1:]
            time.sleep(0.005)

    def close(self) -> None:
        """End the source."""
        self.held.set()
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextmanager
def watched(rescan: float = 60.0) -> Iterator[tuple[Namespace, Watch]]:
    """A namespace with a pair of interfaces, `one` and `two`, both down, and a source that has listed them."""
    namespace = Namespace()
    namespace.netlink(lambda ip: ip.link("add", ifname="one", kind="veth", peer="two"))
    watch = Watch(namespace, rescan)
    try:
        watch.until(lambda links: "one" in links)
        yield namespace, watch
    finally:
        watch.close()
        namespace.close()


@isolated
def test_everything_that_is_there_is_told_first_sorted_and_then_that_this_was_all() -> None:
    with watched() as (namespace, watch):
        watch.until(lambda _: len(watch.told) > 1)
        first, second = watch.told[:2]
        assert isinstance(first, LinksSeen)
        assert Listed(Kind.LINKS) == second
        assert sorted(link.index for link in first.links) == [link.index for link in first.links]
        assert {"lo", "one", "two"} == {link.name for link in first.links}
        assert watch.links["lo"].loopback and not watch.links["lo"].broadcast
        assert Address.parse("::1") in watch.links["lo"].addresses
        one = watch.links["one"]
        assert namespace.index("one") == one.index
        assert (6, False, False, True, True) == (len(one.mac), one.up, one.carrier, one.broadcast, one.arp)


@isolated
def test_a_cable_that_is_plugged_and_pulled_is_told() -> None:
    with watched() as (namespace, watch):
        namespace.set_link("one", "up")
        watch.until(lambda links: links["one"].up and not links["one"].carrier)
        namespace.set_link("two", "up")
        watch.until(lambda links: links["one"].carrier)
        namespace.set_link("two", "down")
        watch.until(lambda links: links["one"].up and not links["one"].carrier)
        namespace.set_link("one", "down")
        watch.until(lambda links: not links["one"].up)


@isolated
def test_addresses_that_come_and_go_are_told() -> None:
    with watched() as (namespace, watch):
        six, four = Address.parse("2001:db8::7"), Address.parse("192.0.2.7")
        namespace.set_link("one", "up")
        namespace.set_link("two", "up")
        namespace.add_address("one", "2001:db8::7", 64)
        namespace.add_address("one", "192.0.2.7", 24)
        watch.until(lambda links: {six, four} <= set(links["one"].addresses))
        watch.until(lambda links: links["one"].link_local is not None)
        local = watch.links["one"].link_local
        assert local is not None
        assert str(local).startswith("fe80::")
        index = namespace.index("one")
        namespace.netlink(lambda ip: ip.addr("del", index=index, address="192.0.2.7", prefixlen=24))
        watch.until(lambda links: four not in links["one"].addresses)
        assert six in watch.links["one"].addresses


@isolated
def test_an_address_held_twice_stays_until_it_is_taken_away_twice() -> None:
    with watched() as (namespace, watch):
        four, index = Address.parse("192.0.2.7"), namespace.index("one")
        namespace.add_address("one", "192.0.2.7", 24)
        namespace.add_address("one", "192.0.2.7", 32)
        watch.until(lambda links: four in links["one"].addresses)
        namespace.netlink(lambda ip: ip.addr("del", index=index, address="192.0.2.7", prefixlen=32))
        namespace.add_address("one", "192.0.2.8", 24)
        watch.until(lambda links: Address.parse("192.0.2.8") in links["one"].addresses)
        assert four in watch.links["one"].addresses


@isolated
def test_of_a_point_to_point_address_ours_is_told_and_not_the_other_ends() -> None:
    with watched() as (namespace, watch):
        index = namespace.index("one")
        ends = {"local": "192.0.2.7", "address": "192.0.2.99", "prefixlen": 32}
        namespace.netlink(lambda ip: ip.addr("add", index=index, **ends))
        watch.until(lambda links: (Address.parse("192.0.2.7"),) == links["one"].addresses)


@isolated
def test_a_port_of_a_bridge_is_enslaved_and_leaving_the_bridge_is_no_deletion() -> None:
    with watched() as (namespace, watch):
        namespace.netlink(lambda ip: ip.link("add", ifname="bridge", kind="bridge"))
        one, bridge = namespace.index("one"), namespace.index("bridge")
        namespace.add_address("one", "192.0.2.7", 24)
        namespace.netlink(lambda ip: ip.link("set", index=one, master=bridge))
        watch.until(lambda links: links["one"].enslaved)
        assert not watch.links["bridge"].enslaved
        namespace.netlink(lambda ip: ip.link("set", index=one, master=0))
        watch.until(lambda links: "one" in links and not links["one"].enslaved)
        assert (Address.parse("192.0.2.7"),) == watch.links["one"].addresses
        assert all("one" in {link.name for link in event.links} for event in watch.told if isinstance(event, LinksSeen))


@isolated
def test_a_deleted_interface_is_gone_and_one_of_its_name_is_another() -> None:
    with watched() as (namespace, watch):
        old = watch.links["one"].index
        namespace.add_address("one", "192.0.2.7", 24)
        namespace.netlink(lambda ip: ip.link("del", index=old))
        watch.until(lambda links: "one" not in links and "two" not in links)
        namespace.netlink(lambda ip: ip.link("add", ifname="one", kind="veth", peer="two"))
        watch.until(lambda links: "one" in links)
        assert old != watch.links["one"].index
        assert () == watch.links["one"].addresses


@isolated
def test_a_new_mac_is_told_and_noarp_is_seen() -> None:
    with watched() as (namespace, watch):
        index = namespace.index("one")
        namespace.netlink(lambda ip: ip.link("set", index=index, address="02:00:00:00:00:07", arp=False))
        watch.until(lambda links: links["one"].mac == bytes.fromhex("020000000007"))
        watch.until(lambda links: not links["one"].arp)


@isolated
def test_what_changes_nothing_that_we_read_is_not_told_and_neither_is_a_rescan() -> None:
    with watched(rescan=0.05) as (namespace, watch):
        watch.until(lambda _: len(watch.told) == 2)
        index = namespace.index("one")
        namespace.netlink(lambda ip: [ip.link("set", index=index, mtu=mtu) for mtu in (1400, 1300, 1500)])
        time.sleep(0.3)
        assert 2 == len(watch.told)


@isolated
def test_notices_that_the_kernel_had_to_drop_lead_to_a_new_list() -> None:
    with watched() as (namespace, watch):
        watch.until(lambda _: len(watch.told) == 2)
        index = namespace.index("one")
        watch.held.clear()
        namespace.add_address("one", "192.0.2.7", 24)  # wakes the source, which then stands still
        assert watch.stands.wait(PATIENCE)
        namespace.netlink(lambda ip: [ip.link("set", index=index, mtu=1400 + turn % 2) for turn in range(1400)])
        namespace.add_address("one", "2001:db8::7", 64)
        watch.held.set()
        watch.until(lambda links: Address.parse("2001:db8::7") in links["one"].addresses)
        assert ["the kernel dropped notices of network interfaces: listing them anew"] == watch.said
