"""The options by which a speaker is told how it knows the others: `--membership` and what gossip needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from lbcore.adapters.memberlist.messages import Endpoint
from lbcore.addresses import Address
from lbcore.backends.gossip_settings import DEFAULT_PORT, SECRET_VARIABLE, GossipSettings
from lbcore.cli.metallb import note_ignored
from lbcore.cli.options import SWITCH
from lbcore.errors import AddressError

__all__ = ["membership_options"]


def membership_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the command `gossip`: the settings, or None when members are known by their records in the folder."""

    @wraps(command)
    def inner(
        *,
        membership: str,
        bind_address: str | None,
        bind_port: int,
        peers: tuple[str, ...],
        secret: Path | None,
        wan: bool,
        **others: Any,
    ) -> Any:
        gossip = None
        if membership == "gossip":
            gossip = _settings(bind_address, bind_port, peers, secret, wan)
        elif bind_address:
            note_ignored("--bind-address (METALLB_ML_BIND_ADDR) has no effect without --membership gossip")
        return command(gossip=gossip, **others)

    options = (
        click.option(
            "--membership",
            type=click.Choice(["folder", "gossip"]),
            default="folder",
            show_default=True,
            help="How speakers know of each other: records in the cluster's folder, or gossip by UDP and TCP as "
            "MetalLB's speakers do, with which they may be mixed.",
        ),
        click.option(
            "--bind-address",
            "--ml-bindaddr",
            "bind_address",
            envvar=["LBCORE_BIND_ADDRESS", "METALLB_ML_BIND_ADDR"],
            show_envvar=True,
            metavar="ADDRESS",
            help="The address of this node to gossip at; needed for gossip.",
        ),
        click.option(
            "--bind-port",
            "--ml-bindport",
            "bind_port",
            envvar=["LBCORE_BIND_PORT", "METALLB_ML_BIND_PORT"],
            show_envvar=True,
            type=click.IntRange(1, 65535),
            default=DEFAULT_PORT,
            show_default=True,
            help="The port to gossip at, by UDP and TCP; the same on every node.",
        ),
        click.option(
            "--peer",
            "peers",
            multiple=True,
            metavar="ADDRESS",
            help="Where another speaker gossips; may be given several times. The addresses of Node objects are "
            "asked, too.",
        ),
        click.option(
            "--secret",
            "--ml-secret-key-path",
            "secret",
            envvar=["LBCORE_SECRET", "METALLB_ML_SECRET_KEY_PATH"],
            show_envvar=True,
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="The file with the secret that all speakers share, or the folder with a file secretkey "
            f"[default: what {SECRET_VARIABLE} holds; without any, gossip is plain text].",
        ),
        click.option(
            "--wan",
            "--ml-wan-config",
            "wan",
            **SWITCH,
            help="Gossip at the slow times that memberlist has for wide networks.",
        ),
    )
    for option in reversed(options):
        inner = option(inner)
    return inner


def _settings(address: str | None, port: int, peers: tuple[str, ...], secret: Path | None, wan: bool) -> GossipSettings:
    if not address:
        raise click.UsageError("--membership gossip needs --bind-address, the address of this node to gossip at")
    return GossipSettings(
        endpoint=Endpoint(_address(address, "--bind-address"), port),
        peers=tuple(_address(each, "--peer") for each in peers),
        secret=None if secret is None else secret.absolute(),
        wan=wan,
    )


def _address(text: str, option: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
