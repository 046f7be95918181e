"""A cable for tests: two network namespaces with a veth pair between them.

A namespace here has no name: one thread lives in it, and it is gone when the thread is. The test
that uses it runs in a forked child (`isolated`), so that whatever happens, pytest stays where it
was; a child of an ordinary user becomes root of a user namespace of its own first.
"""

from __future__ import annotations

import ctypes
import functools
import os
import selectors
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest
from attrs import frozen
from pyroute2 import IPRoute

from lbcore.adapters.base import Output, Report, Send
from lbcore.adapters.responder import Responder
from lbcore.addresses import Address
from lbcore.backends.base import FrameLink, LinkFault
from lbcore.events import Event
from lbcore.model import Link

__all__ = ["Cable", "Namespace", "Served", "cable", "isolated"]

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_PATIENCE = 10.0  # seconds: far more than anything here takes, less than anybody would wait
_RESOLVED = 0x02 | 0x04 | 0x08 | 0x10  # NUD_REACHABLE, STALE, DELAY, PROBE
_IFA_F_DADFAILED, _IFA_F_NODAD, _IFA_F_TENTATIVE = 0x08, 0x02, 0x40


def isolated(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test in a forked child that may make network namespaces."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _run_and_exit(writing, functools.partial(test, *args, **kwargs))
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        if status != 0:
            pytest.fail(said or f"the child ended with status {status}", pytrace=False)

    return run


def _run_and_exit(pipe: int, body: Callable[[], None]) -> None:
    status = 1
    try:
        _become_root()
        body()
        status = 0
    except BaseException:
        os.write(pipe, traceback.format_exc().encode()[-60_000:])
    finally:
        os._exit(status)


def _become_root() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return
    _unshare(_CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


class Namespace:
    """A network namespace, and the one thread in it that does what `run` is given."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, initializer=_unshare, initargs=(_CLONE_NEWNET,))
        self.descriptor = self.run(os.open, "/proc/thread-self/ns/net", os.O_RDONLY)
        self.set_link("lo", "up")

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something inside; sockets that it opens stay inside."""
        return self._thread.submit(work, *args, **kwargs).result(_PATIENCE)

    def netlink(self, work: Callable[[Any], T]) -> T:
        """Call something with a pyroute2 `IPRoute` of the inside."""

        def with_route() -> T:
            with IPRoute() as route:
                return work(route)

        return self.run(with_route)

    def index(self, name: str) -> int:
        """The index of an interface."""
        return self.run(socket.if_nametoindex, name)

    def set_link(self, name: str, state: str) -> None:
        """Take an interface `up` or `down`."""
        index = self.index(name)
        self.netlink(lambda ip: ip.link("set", index=index, state=state))

    def add_address(self, name: str, text: str, length: int, *, check: bool = False) -> None:
        """Give an interface an address; with `check`, an IPv6 one goes through duplicate address detection."""
        flags = {} if check or ":" not in text else {"IFA_FLAGS": _IFA_F_NODAD, "flags": _IFA_F_NODAD}
        index = self.index(name)
        self.netlink(lambda ip: ip.addr("add", index=index, address=text, prefixlen=length, **flags))

    def address_flags(self, text: str) -> int:
        """The IFA_F flags of an address."""
        return int(self.netlink(lambda ip: next(iter(ip.get_addr(address=text))))["flags"])

    def is_duplicate(self, text: str) -> bool:
        """Whether the kernel found that somebody else has this address."""
        return bool(self.address_flags(text) & _IFA_F_DADFAILED)

    def neighbour(self, address: Address) -> bytes | None:
        """The MAC that the kernel believes an address to be at."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6

        def look(ip: Any) -> bytes | None:
            for entry in ip.get_neighbours(family=family, dst=str(address)):
                mac = entry.get("lladdr")
                if mac and entry["state"] & _RESOLVED:
                    return bytes.fromhex(mac.replace(":", ""))
            return None

        return self.netlink(look)

    def say_something_to(self, address: Address) -> None:
        """Send a datagram, for which the kernel must first ask who has the address."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6

        def speak() -> None:
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"anybody?", (str(address), 9))

        self.run(speak)

    def close(self) -> None:
        """Let the namespace go."""
        os.close(self.descriptor)
        self._thread.shutdown(wait=False)  # work that hangs would hang the test


@frozen(kw_only=True)
class Cable:
    """Two hosts: `node` with the interface `wire`, on which nothing is configured, and `client` with `eth0`."""

    node: Namespace
    client: Namespace
    link: Link
    client_mac: bytes

    def set_node(self, state: str) -> None:
        """Take the node's interface `up` or `down`."""
        self.node.set_link(self.link.name, state)

    def set_mtu(self, size: int) -> None:
        """Set the longest packet of the node's interface; IPv6 leaves it below 1280 bytes (RFC 8200 section 5)."""
        self.node.netlink(lambda ip: ip.link("set", index=self.link.index, mtu=size))

    def wait_for_carrier(self) -> None:
        """Return when the node's kernel has noticed the carrier, which it looks for about once a second."""
        end = time.monotonic() + _PATIENCE
        while self.node.netlink(lambda ip: ip.get_links(self.link.index)[0].get("operstate")) != "UP":
            if time.monotonic() > end:
                raise TimeoutError(f"no carrier in {_PATIENCE} s")
            time.sleep(0.01)

    def cut(self) -> None:
        """Delete the cable."""
        self.node.netlink(lambda ip: ip.link("del", index=self.link.index))


@contextmanager
def cable() -> Iterator[Cable]:
    """A cable with both ends up, and the client at 192.0.2.2/24 and 2001:db8::2/64."""
    node, client = Namespace(), Namespace()
    try:
        peer = {"ifname": "eth0", "net_ns_fd": client.descriptor}
        node.netlink(lambda ip: ip.link("add", ifname="wire", kind="veth", peer=peer))
        for namespace, name in ((node, "wire"), (client, "eth0")):
            namespace.run(Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text, "1")
            namespace.set_link(name, "up")
        client.add_address("eth0", "192.0.2.2", 24)
        client.add_address("eth0", "2001:db8::2", 64)
        link = Link(index=node.index("wire"), name="wire", mac=_mac(node, "wire"))
        yield Cable(node=node, client=client, link=link, client_mac=_mac(client, "eth0"))
    finally:
        node.close()
        client.close()


def _mac(namespace: Namespace, name: str) -> bytes:
    index = namespace.index(name)
    text = namespace.netlink(lambda ip: ip.get_links(index)[0].get("address"))
    return bytes.fromhex(text.replace(":", ""))


class Served:
    """A responder on the node's end of a cable, driven as a daemon would, until something becomes true."""

    def __init__(self, responder: Responder, link: FrameLink, on: Cable) -> None:
        self.responder = responder
        self.link = link
        self.events: list[Event] = []
        self.faults: list[LinkFault] = []
        self._on = on

    def carry_out(self, outputs: list[Output[int]]) -> None:
        """Send what is to be sent; keep what is reported."""
        for output in outputs:
            match output:
                case Send(data=frame):
                    fault = self.link.send(frame)
                    self.faults += [fault] if fault else []
                case Report(event=event):
                    self.events.append(event)

    def until(self, condition: Callable[[], bool]) -> None:
        """Serve until the condition holds; raises `TimeoutError` when it does not come to hold."""
        end = time.monotonic() + _PATIENCE
        with selectors.DefaultSelector() as selector:
            for descriptor in self.link.readers:
                selector.register(descriptor, selectors.EVENT_READ)
            while not condition():
                if time.monotonic() > end:
                    raise TimeoutError(f"not in {_PATIENCE} s")
                selector.select(0.02)
                self.step()

    def step(self) -> None:
        """Take in what has arrived, and what time has brought."""
        got = self._on.node.run(self.link.receive)
        if isinstance(got, LinkFault):
            self.faults.append(got)
            got = []
        for frame in got:
            self.carry_out(self.responder.receive(frame, self._on.link.index, time.monotonic()))
        self.carry_out(self.responder.tick(time.monotonic()))
