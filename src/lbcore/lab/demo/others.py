"""The demo's chapters with clusters of their own: MetalLB's old configuration, and whole networks as pools."""

from __future__ import annotations

from lbcore.lab.demo.chapters import refused
from lbcore.lab.demo.screen import Screen
from lbcore.lab.demo.stage import Findings, Stage, on_stage

__all__ = ["old_configuration", "whole_networks"]

_FOUR = ("web-1", "web-2", "web-3", "web-4")


def old_configuration(screen: Screen, findings: Findings) -> None:
    """A cluster that is configured as MetalLB was before version 0.13."""
    screen.say(
        'Clusters that were set up years ago have their pools in a ConfigMap "config". It is taken as it is, here with '
        "a pool of four addresses and five Services that want one. It needs no L2Advertisement: its protocol says so."
    )
    with on_stage(screen, findings, 2, "192.168.3.0/24") as stage:
        stage.apply("old/config.yaml")
        _services(stage, "old/services.yaml")
        for service in _FOUR:
            stage.addresses(service)
        (first,) = stage.lab.addresses(_FOUR[0])
        stage.page(first)
        (last,) = stage.lab.addresses(_FOUR[-1])
        stage.page(last)
        _services(stage, "old/fifth.yaml")
        refused(stage, "web-5", "PoolExhausted")
        stage.lbcore("get", "services")
        stage.found("MetalLB's old ConfigMap", f"{first} to {last}; a fifth Service is refused: PoolExhausted")


def whole_networks(screen: Screen, findings: Findings) -> None:
    """A cluster with pools that are whole networks."""
    screen.say("Pools may be whole networks, on a segment that is 192.168.0.0/16:")
    with on_stage(screen, findings, 2, "192.168.0.0/16") as stage:
        stage.apply("ranges/pools.yaml")
        _services(stage, "ranges/services.yaml")
        (small,) = stage.addresses("from-small")
        (large,) = stage.addresses("from-large")
        stage.page(small)
        stage.page(large)
        stage.lbcore("get", "pools")
        screen.say(
            f"The first address of a pool is given out first, also {small} that ends in .0. Some old routers and "
            "clients drop packets for such addresses; a pool with avoidBuggyIPs: true leaves out .0 and .255."
        )
        stage.found("whole networks as pools", f"{small} of 192.168.12.0/24, {large} of 192.168.144.0/20")


def _services(stage: Stage, name: str) -> None:
    """Apply manifests that show nothing new, without printing them."""
    with stage.screen.step(f"apply {name.rpartition('/')[2]}") as results:
        results.extend(line.removesuffix(" created") for line in stage.apply(name, show=False))
