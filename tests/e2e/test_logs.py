"""Log lines as a machine reads them: what they are about in fields of their own, and a level that changes meanwhile."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import structlog
from structlog.testing import capture_logs

from fleet import pool, running, service, wait_for
from lbcore.addresses import Address
from lbcore.daemons.observe import log_observer
from lbcore.intents import Announce, EventType, RecordEvent, Withdraw


def lines(log: Path) -> list[dict[str, Any]]:
    """Every whole line so far; each of them has to be JSON."""
    return [json.loads(line) for line in log.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]


def about(log: Path, name: str) -> list[dict[str, Any]]:
    return [line for line in lines(log) if line.get("service") == f"default/{name}"]


def test_lines_in_json_have_service_ip_and_reason_and_the_level_changes_while_it_runs(tmp_path: Path) -> None:
    folder, log = tmp_path / "cluster", tmp_path / "log"
    folder.mkdir()
    (folder / "pool.yaml").write_text(pool("six", "2001:db8::/127"), encoding="utf-8")

    def add(name: str) -> None:
        (folder / f"{name}.yaml").write_text(service(name, ipFamilies=["IPv6"]), encoding="utf-8")
        wait_for((folder / f".lbcore/services/default/{name}.json").exists, f"a status of {name}")

    flags = ("controller", "--cluster", str(folder), "--log-format", "json", "--log-level", "warn")
    with running(*flags, log=log) as process:
        wait_for((folder / ".lbcore/config.json").exists, "the configuration")
        add("quiet")
        assert [] == lines(log)
        process.send_signal(signal.SIGUSR1)
        add("told")
        wait_for(lambda: about(log, "told"), "a line about told")
        (line,) = [each for each in about(log, "told") if each["level"] == "info"]
        assert {"service": "default/told", "ip": "2001:db8::1", "pool": "six", "component": "controller"}.items() <= (
            line.items()
        )
        process.send_signal(signal.SIGUSR2)
        add("waits")
        wait_for(lambda: about(log, "waits"), "a line about waits")
        (line,) = about(log, "waits")
        assert ("warning", "service waits", "PoolExhausted") == (line["level"], line["event"], line["reason"])
        assert "six" in line["why"]
        process.terminate()
        assert 0 == process.wait(10)


def test_lines_about_announcing_name_service_ip_and_node() -> None:
    address = Address.parse("2001:db8::1")
    record = RecordEvent(
        about="Service shop/web", type=EventType.NORMAL, reason="nodeAssigned", message=f"announcing {address} from n1"
    )
    with capture_logs() as said:
        observe = log_observer(structlog.get_logger(component="speaker", node="n1"))
        observe(None, [Announce(address=address), record])
        observe(None, [Withdraw(address=address)])
    told = [line for line in said if line["event"] in ("announcing", "withdrawing")]
    assert 2 == len(told)
    for line in told:
        assert ("shop/web", "2001:db8::1", "n1") == (line["service"], line["ip"], line["node"])
