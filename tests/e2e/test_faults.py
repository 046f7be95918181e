"""What breaks and must not break more: documents, daemons, permissions, and the operator's own mistakes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet, advertisement, lbcore, pool, running, service, wait_for

pytestmark = pytest.mark.slow

CONFIG = pool("first", "192.168.20.0-192.168.20.255", "fd00:20::/120") + advertisement()
in_the_lab = pytest.mark.needs("netns", "packet", "nft", "nginx", "curl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "cluster"
    path.mkdir()
    return path


def statuses(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What lies in the status of Services and of the configuration, and when it was written."""
    places = [*folder.glob(".lbcore/services/*/*.json"), folder / ".lbcore" / "config.json"]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in places if path.exists()}


def addresses(folder: Path) -> dict[str, list[str]]:
    """The addresses of each Service that has any."""
    found = {
        path.stem: json.loads(path.read_bytes())["addresses"] for path in folder.glob(".lbcore/services/default/*.json")
    }
    return {name: each for name, each in found.items() if each}


def written_by_users(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.yaml")}


def has_addresses(folder: Path, count: int) -> Callable[[], bool]:
    return lambda: len(addresses(folder)) >= count


def is_in(words: str, log: Path) -> bool:
    return words in log.read_text(encoding="utf-8")


def write(path: Path, text: str) -> None:
    """Replace a file as a careful program does, so that nobody reads half of it."""
    aside = path.with_name("." + path.name)
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


# Broken documents


def test_one_broken_document_takes_no_other_down(folder: Path, tmp_path: Path) -> None:
    broken = service("broken", ports=[{"port": "x"}])
    nonsense = "---\napiVersion: v1\nkind: Service\nmetadata: {name: [\n"
    write(folder / "all.yaml", CONFIG + service("one") + broken + nonsense + service("two"))
    write(folder / "later.yaml", service("three", ipFamilies=["IPv6"]))
    log = tmp_path / "log"
    with running("controller", "--cluster", str(folder), log=log):
        wait_for(has_addresses(folder, 3), "three addresses")
        wait_for(partial(is_in, "spec.ports[0].port", log), "a line about the field")
    assert {"one", "two", "three"} == set(addresses(folder))
    (line,) = [line for line in log.read_text().splitlines() if "spec.ports[0].port" in line]
    assert "Service default/broken" in line
    assert "all.yaml#4" in line
    done = lbcore("get", "services", "--cluster", str(folder))
    assert 0 == done.returncode
    assert "Service default/broken" in done.stderr
    assert "broken" not in done.stdout


@in_the_lab
def test_a_broken_pool_leaves_the_last_good_configuration_in_force(fleet: Fleet) -> None:
    served = fleet.serve("steady", ipFamilyPolicy="RequireDualStack")
    # Into the very file of the pool: the lab checks what it applies only for its own needs.
    good = {path: path.read_text(encoding="utf-8") for path in fleet.lab.folder.glob("ipaddresspool_*first*")}
    (path,) = good
    write(path, good[path].replace("fd00:20::1ff", "fd00:20::1xyz"))
    for program in ("controller", "speaker-n1", "speaker-n2", "speaker-n3"):
        line = fleet.wait_for_log(program, "configuration refused, the last good one stays in force")
        for part in (path.name, "IPAddressPool metallb-system/first", "spec.addresses[1]", "fd00:20::1xyz"):
            assert part in line
    fleet.lab.wait_until(lambda: "Invalid" == config_status(fleet)["result"], "the status to say so", 30)
    assert ["first", "reserved"] == [each["name"] for each in config_status(fleet)["pools"]]
    for address in served:
        fleet.wait_for_one_answerer(address)
    fleet.serve("newcomer", ipFamilies=["IPv6"])  # the old pools go on giving
    write(path, good[path])
    fleet.lab.wait_until(lambda: "Valid" == config_status(fleet)["result"], "a sound configuration", 30)
    assert [str(address) for address in served] == fleet.status("steady")["addresses"]


def config_status(fleet: Fleet) -> Any:
    return json.loads((fleet.lab.folder / ".lbcore" / "config.json").read_bytes())


def test_a_folder_whose_first_configuration_is_broken_assigns_nothing_and_says_so(folder: Path, tmp_path: Path) -> None:
    write(folder / "pool.yaml", pool("first", "192.168.20.9-192.168.20.1") + service())
    log = tmp_path / "log"
    with running("controller", "--cluster", str(folder), log=log):
        wait_for(partial(is_in, "no configuration in force", log), "the news")
        assert "swap the two addresses" in log.read_text()
        assert "the last good one" not in log.read_text()
        write(folder / "pool.yaml", pool("first", "192.168.20.1-192.168.20.9") + service())
        wait_for(has_addresses(folder, 1), "an address after the correction")


# A controller that ends


def test_a_controller_that_starts_again_changes_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    write(folder / "config.yaml", CONFIG)
    write(
        folder / "services.yaml",
        "".join(service(f"s{number}", ipFamilyPolicy="RequireDualStack") for number in range(20)),
    )
    write(folder / "refused.yaml", service("refused", loadBalancerIP="10.0.0.1"))
    with running("controller", "--cluster", str(folder), log=tmp_path / "log"):
        wait_for(has_addresses(folder, 20), "all addresses")
        wait_for(lambda: len(statuses(folder)) == 22, "the refusal, too")
    before, events = statuses(folder), (folder / ".lbcore" / "events.jsonl").read_bytes()
    # Now the order of names would give other addresses to a controller that did not look at what is held.
    write(folder / "first.yaml", service("a-newcomer"))
    with running("controller", "--cluster", str(folder), log=tmp_path / "log"):
        wait_for(has_addresses(folder, 21), "the newcomer's address")  # so it has looked at all the others
        told = folder / ".lbcore" / "events.jsonl"
        wait_for(lambda: b"a-newcomer" in told.read_bytes(), "the event that goes with it")
    after = statuses(folder)
    assert before == {path: after[path] for path in before}
    assert {path for path in after if "newcomer" in path} == set(after) - set(before)
    added = (folder / ".lbcore" / "events.jsonl").read_bytes().removeprefix(events).decode().splitlines()
    assert [True] == ["a-newcomer" in line for line in added if "IPAllocated" in line]


def test_a_controller_killed_amid_its_work_loses_and_doubles_no_address(folder: Path, tmp_path: Path) -> None:
    write(folder / "config.yaml", pool("first", "192.168.20.0-192.168.20.199"))  # exactly enough
    with running("controller", "--cluster", str(folder), log=tmp_path / "log") as process:
        wait_for((folder / ".lbcore" / "config.json").exists, "the controller to be at work")
        write(folder / "services.yaml", "".join(service(f"s{number:03}") for number in range(200)))
        wait_for(has_addresses(folder, 5), "the first addresses")
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = addresses(folder)
    with running("controller", "--cluster", str(folder), log=tmp_path / "log"):
        wait_for(has_addresses(folder, 200), "all addresses")
    after = addresses(folder)
    assert 200 == len({address for (address,) in after.values()})
    assert before == {name: after[name] for name in before}
    assert [] == list(folder.glob(".lbcore/services/*/.*"))  # nothing half-written stays behind


def test_the_users_files_are_never_written(folder: Path, tmp_path: Path) -> None:
    write(folder / "config.yaml", CONFIG)
    write(folder / "good.yaml", service("good") + service("refused", loadBalancerIP="10.0.0.1"))
    write(folder / "bad.yaml", "kind: Service\nmetadata: {name: bad\n")
    before = written_by_users(folder)
    for number in ("1", "2"):
        log = tmp_path / number
        with running("controller", "--cluster", str(folder), log=log) as process:
            wait_for(partial(is_in, "manifest refused", log), "the bad one to be read")
            wait_for(lambda: len(statuses(folder)) == 3, "the statuses")
            process.terminate()
            assert 0 == process.wait(10)
    lbcore("explain", "good", "--cluster", str(folder))
    assert before == written_by_users(folder)
    assert {"config.yaml", "good.yaml", "bad.yaml", ".lbcore"} == {path.name for path in folder.iterdir()}


def test_a_second_controller_on_a_folder_refuses_in_one_line_and_the_first_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    write(folder / "config.yaml", CONFIG)
    with running("controller", "--cluster", str(folder), log=tmp_path / "log") as first:
        wait_for((folder / ".lbcore" / "config.json").exists, "the first to be at work")
        done = lbcore("controller", "--cluster", str(folder))
        assert (1, "") == (done.returncode, done.stdout)
        assert_one_line(done.stderr, "another controller serves this folder")
        write(folder / "service.yaml", service())
        wait_for(has_addresses(folder, 1), "the first to go on")
        assert first.poll() is None


# An end in order


@in_the_lab
def test_sigterm_ends_every_daemon_with_status_0_and_leaves_neither_process_nor_record(fresh: Fleet) -> None:
    fresh.serve("web", ipFamilyPolicy="RequireDualStack")
    fresh.wait_for_members("n1", "n2", "n3")
    programs = list(fresh.lab.programs)
    for program in programs:
        program.process.terminate()
    assert {program.name: 0 for program in programs} == {program.name: program.process.wait(10) for program in programs}
    assert [[], [], []] == [fresh.reflex(node) for node in fresh.lab.nodes]
    assert set() == fresh.members()
    assert [] == list((fresh.lab.directory / "run").glob("*/*.sock"))
    assert all("Traceback" not in fresh.log(program.name) for program in programs)


# An operator's mistakes: one line that says what to do


def assert_one_line(text: str, *words: str) -> None:
    assert 1 == len(text.splitlines()), text
    assert [] == [word for word in words if word not in text], text


@pytest.mark.parametrize("daemon", ["controller", "speaker", "run"])
def test_a_folder_that_is_not_there_is_one_line_and_is_not_made(daemon: str, tmp_path: Path) -> None:
    done = lbcore(daemon, "--cluster", str(tmp_path / "absent"))
    assert 1 == done.returncode
    assert_one_line(done.stderr, f"there is no folder {tmp_path / 'absent'}")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("daemon", ["speaker", "run"])
def test_a_name_that_no_node_can_have_is_one_line(daemon: str, folder: Path) -> None:
    done = lbcore(daemon, "--cluster", str(folder), "--node", "Node_1")
    assert 1 == done.returncode
    assert_one_line(done.stderr, "'Node_1' is no node's name", "lower-case")
    assert [] == list(folder.iterdir())


@pytest.mark.needs("packet", "netns")  # setpriv comes with unshare, in util-linux
@pytest.mark.parametrize("daemon", ["speaker", "run"])
def test_a_missing_capability_is_one_line(daemon: str, folder: Path, tmp_path: Path) -> None:
    arguments = ("--cluster", str(folder), "--node", "n1", "--runtime-dir", str(tmp_path / "run"))
    done = lbcore(daemon, *arguments, before=("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"))
    assert 1 == done.returncode
    assert_one_line(done.stderr, "CAP_NET_RAW")


def test_a_folder_that_must_not_be_written_is_one_line(folder: Path) -> None:
    (folder / ".lbcore").write_text("somebody's file", encoding="utf-8")
    done = lbcore("controller", "--cluster", str(folder))
    assert 1 == done.returncode
    assert_one_line(done.stderr, str(folder / ".lbcore"))


@in_the_lab
def test_of_two_speakers_on_a_node_the_later_one_stays_and_nobody_notices(fleet: Fleet) -> None:
    (address,) = fleet.serve("twice", ipFamilies=["IPv6"])
    fleet.wait_for_members("n1", "n2", "n3")
    node = fleet.wait_for_one_answerer(address)
    first, (child,) = fleet.speakers[node], fleet.reflex(node)

    def start_another() -> None:
        fleet.start_speaker(node)
        fleet.lab.wait_until(lambda: not first.running, "the first speaker to give way", 30)

    assert fleet.lab.outage(address, start_another) < 0.5
    assert 1 == first.process.returncode
    fleet.wait_for_log(f"speaker-{node}", "lbcore: another speaker has taken over this node")
    assert ([child], node) == (fleet.reflex(node), fleet.wait_for_one_answerer(address))
