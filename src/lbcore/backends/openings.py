"""Which ports of streams cannot be opened here, and why: asked of the kernel before nginx is.

nginx itself says nothing when it tests a configuration with a port that somebody else has, and then takes no reload at
all, or does not start: one port would keep everything else from being served.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack

from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.general import Places
from lbcore.proxy import Stream, Transport

__all__ = ["NO_MODULE", "unopenable"]

NO_MODULE = "nginx has no module for TCP and UDP here; install it (Debian: apt-get install libnginx-mod-stream)"


def unopenable(
    streams: Iterable[Stream], held: frozenset[str], places: Places, capabilities: Capabilities
) -> dict[str, str]:
    """By name, why a stream cannot be served now. `held` are the names of those that our own nginx has open."""
    if not capabilities.stream:
        return {each.name: NO_MODULE for each in streams}
    found = {each.name: _why_not(each, places.listen) for each in streams if each.name not in held}
    return {name: why for name, why in found.items() if why}


def _why_not(stream: Stream, addresses: tuple[str, ...]) -> str:
    """Empty where all of its sockets can be had, at once as nginx has them."""
    is_tcp = stream.transport is Transport.TCP
    with ExitStack() as sockets:
        for address in addresses:
            family = socket.AF_INET6 if address.startswith("[") else socket.AF_INET
            where = (address.strip("[]"), stream.port)
            try:
                made = socket.socket(family, socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM)
                sockets.enter_context(made)
                if is_tcp:  # as nginx does: connections that have ended do not count
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family is socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind(where)
                if is_tcp:  # two may be bound to one port, but only one listens
                    made.listen(1)
            except OSError as error:
                name = f"{address or '0.0.0.0'}:{stream.port}"  # noqa: S104 - only said
                if error.errno == errno.EADDRINUSE:
                    return f"{name} is in use by somebody else on this machine; free it, or take another port"
                return f"cannot listen at {name}: {os.strerror(error.errno or 0)}"
    return ""
