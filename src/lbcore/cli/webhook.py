"""The options of the validating webhook, by MetalLB's names where MetalLB has them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from lbcore.daemons.assembly import WebhookSettings

__all__ = ["webhook_options"]

_CERT_DIR = Path("/tmp/k8s-webhook-server/serving-certs")  # noqa: S108 - MetalLB's, where its manifests mount a Secret
_LEAST = {"VersionTLS12": ssl.TLSVersion.TLSv1_2, "VersionTLS13": ssl.TLSVersion.TLSv1_3}


def webhook_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the command `webhook`: the settings, or None where there shall be none."""

    @wraps(command)
    def inner(
        *,
        webhook_mode: str,
        webhook_host: str | None,
        webhook_port: int,
        cert_dir: Path,
        tls_min_version: str,
        **others: Any,
    ) -> Any:
        webhook = None
        if webhook_mode != "disabled":
            webhook = WebhookSettings(
                host=webhook_host,
                port=webhook_port,
                certificate=cert_dir,
                least_tls=_LEAST[tls_min_version or "VersionTLS13"],
                alone=webhook_mode == "onlywebhook",
            )
        return command(webhook=webhook, **others)

    options = (
        click.option(
            "--webhook-mode",
            type=click.Choice(["disabled", "enabled", "onlywebhook"]),
            default="disabled",
            show_default=True,
            help="Answer the API server's question whether an object of metallb.io may be stored; onlywebhook: "
            "do nothing else.",
        ),
        click.option(
            "--webhook-host", metavar="ADDRESS", help="The address to answer at, by HTTPS [default: every one]."
        ),
        click.option(
            "--webhook-port",
            type=click.IntRange(0, 65535),
            default=9443,
            show_default=True,
            help="The port to answer at; 0: any free one.",
        ),
        click.option(
            "--cert-dir",
            type=click.Path(path_type=Path, file_okay=False),
            default=_CERT_DIR,
            show_default=True,
            metavar="DIR",
            help="The folder with tls.crt and tls.key for that, read again when they change.",
        ),
        click.option(
            "--tls-min-version",
            type=click.Choice(["", *_LEAST]),
            default="",
            help="The oldest TLS to speak there [default: VersionTLS13].",
        ),
    )
    for option in reversed(options):
        inner = option(inner)
    return inner
