"""Faults of a real API server, of the way to it and of controllers, while Services are created.

Afterwards no address was ever given twice, none was lost or moved without cause, every Service is served, and a new
one is. The simulation's judge says so of every write that etcd has kept.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

import records
from fleet import pool
from tlsrelay import relayed
from trouble import MANY, Troubled, troubled

pytestmark = [pytest.mark.slow, pytest.mark.needs("envtest", "kubectl", "openssl")]


@pytest.fixture
def cluster() -> Iterator[Troubled]:
    with troubled() as running:
        yield running


# The API server


def test_the_server_is_killed_and_restarted_during_500_creations(cluster: Troubled) -> None:
    cluster.controller()
    kills = iter(range(2 * MANY))

    def kill() -> None:
        if next(kills, None) is None:
            time.sleep(0.1)
            return
        time.sleep(1.0)
        cluster.api.server.kill()
        time.sleep(0.5)
        cluster.api.restart()

    with cluster.meanwhile(kill):
        cluster.create(500)
    cluster.require_order()


def test_watches_are_cut_in_the_middle_of_a_line(cluster: Troubled) -> None:
    dice = random.Random(7)
    with relayed(cluster.api) as relay:
        relay.cut_watches(lambda: dice.randrange(500, 20_000))
        cluster.controller(kubeconfig=cluster.kubeconfig_by_way_of(relay.url))
        cluster.create(200 * MANY)
        cluster.wait(lambda: relay.cuts >= 5, "watches to be cut")
        cluster.require_order()


def test_what_was_missed_is_forgotten_by_the_server(cluster: Troubled) -> None:
    """410 Gone: between two connections everything is compacted, Services come, go and change."""
    with relayed(cluster.api) as relay:
        controller = cluster.controller(kubeconfig=cluster.kubeconfig_by_way_of(relay.url))
        before = cluster.create(40)
        cluster.wait_for_served()
        held = cluster.addresses()
        relay.shut = True
        relay.hang_up()
        cluster.delete(before[:10])
        cluster.create(20)
        # The judge needs the history that etcd is about to forget.
        written = records.history(cluster.api)
        records.compact(cluster.api, written[-1].revision)
        cluster.api.server.kill()  # its memory of the last changes would serve who comes back
        cluster.api.restart()
        relay.shut = False
        cluster.wait_for_served()
        now = cluster.addresses()
        assert {name: held[name] for name in before[10:]} == {name: now[name] for name in before[10:]}
        assert controller.running
        cluster.require_order(written)


def test_a_slow_server(cluster: Troubled) -> None:
    with relayed(cluster.api) as relay:
        relay.delay = 0.3
        cluster.controller(kubeconfig=cluster.kubeconfig_by_way_of(relay.url))
        cluster.create(50 * MANY)
        cluster.require_order()


def test_somebody_else_writes_to_the_same_services_all_the_time(cluster: Troubled) -> None:
    cluster.controller()
    turn = iter(range(10**9))
    with closing(cluster.api.caller()) as caller:

        def disturb() -> None:
            number = next(turn)
            for name in list(cluster.addresses())[-40:]:
                body = {"metadata": {"annotations": {"example.org/turn": str(number)}}}
                caller.request("PATCH", f"/api/v1/namespaces/shop/services/{name}", body)

        with cluster.meanwhile(disturb):
            for _ in range(4):
                cluster.create(50 * MANY)
            cluster.wait_for_served()
    cluster.require_order()


# The controller


def test_the_controller_is_killed_in_the_middle_of_a_batch_again_and_again(cluster: Troubled) -> None:
    dice = random.Random(5)
    for _ in range(5 * MANY):
        controller = cluster.controller()
        already = cluster.served()
        cluster.create(20)
        cluster.wait(lambda already=already: cluster.served() > already, "the first of a batch")  # type: ignore[misc]
        time.sleep(dice.random() * 0.2)
        controller.kill()
        # The dead hold the Lease for 15 s more; that it is followed then is looked at elsewhere, and once is enough.
        cluster.forget_lease()
    cluster.controller()
    cluster.require_order()


def test_of_three_controllers_the_one_that_leads_is_stopped_or_killed_while_services_come_and_go(
    cluster: Troubled,
) -> None:
    for _ in range(3):
        cluster.controller()
    cluster.wait_for_served(cluster.create(10))

    def churn() -> None:
        names = cluster.create(4)
        cluster.delete([*cluster.made[:1], *names[:2]])

    with cluster.meanwhile(churn):
        for _ in range(MANY):
            frozen = cluster.leader()
            frozen.signal(signal.SIGSTOP)
            follower = cluster.leader(but=frozen)
            frozen.signal(signal.SIGCONT)
            cluster.wait(lambda frozen=frozen: "not leading" in frozen.said(10**7), "it to see that")  # type: ignore[misc]
            follower.kill()
            cluster.leader()
            cluster.controller()
    cluster.require_order()


@pytest.mark.needs("faketime")
def test_clocks_that_jump_change_nothing(cluster: Troubled) -> None:
    when = cluster.api.folder / "time"
    when.write_text("+0", encoding="ascii")
    environment = {"FAKETIME_TIMESTAMP_FILE": str(when), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    for _ in range(2):
        cluster.controller(before=["faketime", "-f", "+0"], environment=environment)
    for jump in ("+3600", "-86400", "+0"):
        cluster.create(30)
        when.write_text(jump, encoding="ascii")
        cluster.wait_for_served()
    cluster.require_order()


# What is not as it should be


def test_garbage_past_validation_is_named_and_the_rest_is_served(cluster: Troubled) -> None:
    cluster.controller()
    cluster.wait_for_served(cluster.create(5))
    sound = cluster.api.ask("GET", "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools/first")
    for number, spec in enumerate(({"addresses": ["nonsense"]}, {"addresses": 5}, "text", {"addresses": [None]})):
        metadata = {
            **sound["metadata"],
            "name": f"garbage-{number}",
            "uid": f"00000000-0000-0000-0000-00000000000{number}",
        }
        metadata.pop("managedFields", None)
        key = f"metallb.io/ipaddresspools/metallb-system/garbage-{number}"
        records.put(cluster.api, key, {**sound, "metadata": metadata, "spec": spec})
    cluster.wait_for_served(cluster.create(5))
    cluster.wait(lambda: "garbage-0" in cluster.controllers[0].said(10**6), "a line about it")
    for number in range(4):
        cluster.api.ask("DELETE", f"/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools/garbage-{number}")
    cluster.api.apply(pool("second", "172.17.0.0/24", autoAssign=False))
    cluster.require_order()
