"""The options by which a speaker is told how it knows the others: `--membership` and what gossip needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from lbcore.adapters.memberlist.messages import Endpoint
from lbcore.addresses import Address
from lbcore.backends.gossip_settings import DEFAULT_PORT, SECRET_VARIABLE, GossipSettings
from lbcore.cli.metallb import note_ignored
from lbcore.cli.options import SWITCH
from lbcore.errors import AddressError

__all__ = ["membership_options", "secret_options"]


def secret_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--ml-secret-name` and `--deployment`: the Secret that a controller makes for speakers who gossip."""
    name = click.option(
        "--ml-secret-name",
        "secret_name",
        envvar="METALLB_ML_SECRET_NAME",
        show_envvar=True,
        default="",
        metavar="NAME",
        help="Make this Secret for speakers who gossip, where it is missing [default: make none].",
    )
    deployment = click.option(
        "--deployment",
        envvar="METALLB_DEPLOYMENT",
        show_envvar=True,
        default="",
        metavar="NAME",
        help="The Deployment that owns it [default: none].",
    )
    return name(deployment(command))


def membership_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the command `gossip`: the settings, or None when members are known by their records in the folder."""

    @wraps(command)
    def inner(
        *,
        membership: str | None,
        bind_address: str | None,
        bind_port: int,
        peers: tuple[str, ...],
        labels: str,
        secret: Path | None,
        wan: bool,
        detector: str,
        witnesses: tuple[str, ...],
        **others: Any,
    ) -> Any:
        gossip = None
        if membership == "gossip" or (membership is None and bind_address):
            gossip = _settings(bind_address, bind_port, peers, secret)
            gossip = evolve(gossip, wan=wan, fast=detector == "fast", witnesses=tuple(map(_witness, witnesses)))
            gossip = evolve(gossip, labels=labels)
        elif bind_address:
            note_ignored("--bind-address (METALLB_ML_BIND_ADDR) has no effect with --membership folder")
        return command(gossip=gossip, **others)

    options = (
        click.option(
            "--membership",
            type=click.Choice(["folder", "gossip"]),
            help="How speakers know of each other: by gossip over UDP and TCP as MetalLB's speakers do, with which "
            "they may be mixed, or by records in the cluster (files or Leases) [default: gossip where --bind-address "
            "is given, else records].",
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
            "--ml-labels",
            "labels",
            envvar="METALLB_ML_LABELS",
            show_envvar=True,
            default="",
            metavar="SELECTOR",
            help="Ask at the addresses of Pods with these labels, too, in the namespace of lbcore's own objects.",
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
        click.option(
            "--detector",
            type=click.Choice(["fast", "memberlist"]),
            default="fast",
            show_default=True,
            help="Who finds out that a speaker is gone: lbcore's own detector, in a third of a second, as long as all "
            "speakers are lbcore's; or memberlist alone, in 5 to 10.",
        ),
        click.option(
            "--witness",
            "witnesses",
            multiple=True,
            metavar="ADDRESS[:PORT]",
            help="Who can tell a speaker that hears no other one that it is not cut off itself: answers to ping, or "
            "at a TCP port. Asked beside the default gateways; may be given several times.",
        ),
    )
    for option in reversed(options):
        inner = option(inner)
    return inner


def _settings(address: str | None, port: int, peers: tuple[str, ...], secret: Path | None) -> GossipSettings:
    if not address:
        raise click.UsageError("--membership gossip needs --bind-address, the address of this node to gossip at")
    return GossipSettings(
        endpoint=Endpoint(_address(address, "--bind-address"), port),
        peers=tuple(_address(each, "--peer") for each in peers),
        secret=None if secret is None else secret.absolute(),
    )


def _witness(text: str) -> Endpoint:
    """`192.0.2.1`, `192.0.2.1:443`, `fd00::1`, `[fd00::1]:443`."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (port.isascii() and port.isdigit() and len(port) < 6) or not (bracketed or host.count(":") == 0) or not host:
        return Endpoint(_address(text.strip("[]"), "--witness"), 0)
    if not 0 < int(port) < 65536:
        raise click.BadParameter(f"{text!r} has no TCP port from 1 to 65535", param_hint="--witness")
    return Endpoint(_address(host.strip("[]"), "--witness"), int(port))


def _address(text: str, option: str) -> Address:
    try:
        return Address.parse(text)
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
