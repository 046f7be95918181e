"""`lbcore demo` and `lbcore lab`."""

from __future__ import annotations

import click

__all__ = ["demo_command", "lab_command"]


@click.command("demo")
def demo_command() -> None:
    """Show it."""


@click.command("lab")
def lab_command() -> None:
    """Play."""
