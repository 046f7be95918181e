"""How a member gossips, from the speaker's options to the command line of the reflex process and back.

The secret is never on a command line: a path is, or the child finds it in the environment that it inherits.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from lbcore.adapters.memberlist.envelope import Envelope, Sealer
from lbcore.adapters.memberlist.keys import metallb_key
from lbcore.adapters.memberlist.messages import Endpoint
from lbcore.adapters.memberlist.settings import LAN, WAN, Settings
from lbcore.addresses import Address
from lbcore.errors import LbcoreError

__all__ = ["DEFAULT_PORT", "SECRET_FILE", "SECRET_VARIABLE", "GossipSettings", "SecretError", "add_gossip_arguments"]

DEFAULT_PORT = 7946
SECRET_FILE = "secretkey"  # noqa: S105 - the key of MetalLB's Secret `memberlist`, and so the file's name
SECRET_VARIABLE = "METALLB_ML_SECRET_KEY"  # noqa: S105 - MetalLB before 0.13.9 took it from there


class SecretError(LbcoreError):
    """The secret that the members share was named, and cannot be read."""


@frozen(kw_only=True)
class GossipSettings:
    """`peers` are addresses with the same port. `secret` is a file, or a folder with a file `secretkey` in it
    as a mounted Secret is; None: the environment's, if there is one. `wan` takes the slow times of memberlist, and
    so does without `fast`, the detector among members that are all ours. `witnesses` are asked, beside
    the default gateways, whether we are cut off: by TCP, or by ping where the port is 0. `labels` select the Pods that
    are speakers; they are the parent's to follow, and no argument of the child.
    """

    endpoint: Endpoint
    peers: tuple[Address, ...] = ()
    secret: Path | None = None
    wan: bool = False
    fast: bool = True
    witnesses: tuple[Endpoint, ...] = ()
    labels: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The child's command line."""
        secret = () if self.secret is None else ("--gossip-secret", str(self.secret))
        return (
            *("--gossip-address", str(self.endpoint.address), "--gossip-port", str(self.endpoint.port)),
            *(part for peer in self.peers for part in ("--gossip-peer", str(peer))),
            *secret,
            *(("--gossip-wan",) if self.wan else ()),
            *(() if self.fast else ("--gossip-plain",)),
            *(part for each in self.witnesses for part in ("--gossip-witness", f"{each.address}", f"{each.port}")),
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> GossipSettings | None:
        """What the child was told; None when it is not to gossip. Raises `AddressError`."""
        if arguments.gossip_address is None:
            return None
        return cls(
            endpoint=Endpoint(Address.parse(arguments.gossip_address), arguments.gossip_port),
            peers=tuple(Address.parse(each) for each in arguments.gossip_peer),
            secret=arguments.gossip_secret,
            wan=arguments.gossip_wan,
            fast=not arguments.gossip_plain,
            witnesses=tuple(Endpoint(Address.parse(host), int(port)) for host, port in arguments.gossip_witness),
        )

    @property
    def detects(self) -> bool:
        """Whether the fast detector is wanted: its times are for one site."""
        return self.fast and not self.wan

    @property
    def times(self) -> Settings:
        """The times of memberlist."""
        return WAN if self.wan else LAN

    def envelope(self, environment: Mapping[str, str]) -> Envelope:
        """How datagrams are wrapped, with the key that MetalLB makes of the secret. Raises `SecretError`."""
        key = metallb_key(self._read_secret(environment))
        sealer = None if key is None else Sealer((key,), random.SystemRandom())
        return Envelope(sealer=sealer)

    def _read_secret(self, environment: Mapping[str, str]) -> bytes:
        if self.secret is None:
            return os.fsencode(environment.get(SECRET_VARIABLE, ""))
        path = self.secret / SECRET_FILE if self.secret.is_dir() else self.secret
        try:
            return path.read_bytes()
        except OSError as error:
            raise SecretError(
                f"{path}: {error.strerror}; it should hold the secret that all speakers share "
                f"(Secret memberlist, key {SECRET_FILE})"
            ) from None


def add_gossip_arguments(parser: argparse.ArgumentParser) -> None:
    """The child's options for all this."""
    parser.add_argument("--gossip-address", help="the address to gossip at (default: not at all)")
    parser.add_argument("--gossip-port", type=int, default=DEFAULT_PORT, help="the port, by UDP and TCP")
    parser.add_argument("--gossip-peer", action="append", default=[], help="where another member may be found")
    parser.add_argument("--gossip-secret", type=Path, help="the file with the secret, or its folder")
    parser.add_argument("--gossip-wan", action="store_true", help="take memberlist's slow times")
    parser.add_argument("--gossip-plain", action="store_true", help="do without the fast detector")
    parser.add_argument(
        "--gossip-witness", nargs=2, action="append", default=[], help="address and port to ask in doubt"
    )
