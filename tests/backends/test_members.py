"""The folder of member records: what one node writes the others read, whatever else lies there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.base import Report
from lbcore.adapters.heartbeat import Heartbeat, RemoveRecord, WriteRecord
from lbcore.backends.members import (
    MAX_RECORD,
    BackgroundRecords,
    MemberFolder,
    MemoryRecords,
    NodeNameError,
    Records,
    check_node_name,
)
from lbcore.events import MembersSeen
from lbcore.intents import SetPresence


@pytest.fixture(params=["memory", "folder"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Records:
    return MemoryRecords() if request.param == "memory" else MemberFolder(tmp_path / "a" / "members")


def test_a_record_is_read_as_it_was_written(records: Records) -> None:
    records.write("node-1", b"one")
    records.write("node-2.example", b"two")
    records.write("node-1", b"uno")
    assert {"node-1": b"uno", "node-2.example": b"two"} == records.read()


def test_a_removed_record_is_gone_and_removing_it_twice_does_no_harm(records: Records) -> None:
    records.write("node-1", b"one")
    records.remove("node-1")
    records.remove("node-1")
    assert {} == records.read()


def test_two_speakers_see_each_other_through_a_folder(tmp_path: Path) -> None:
    folders = {name: MemberFolder(tmp_path) for name in ("a", "b")}
    engines = {name: Heartbeat(name, 1, rng=Random(1)) for name in folders}
    seen: dict[str, frozenset[str]] = {}

    def carry_out(name: str, outputs: list[WriteRecord | RemoveRecord | Report]) -> None:
        for output in outputs:
            match output:
                case WriteRecord(data):
                    folders[name].write(name, data)
                case RemoveRecord():
                    folders[name].remove(name)
                case Report(MembersSeen(names)):
                    seen[name] = names

    for name, engine in engines.items():
        carry_out(name, engine.command(SetPresence(present=True, why="test"), 0.0))
    for turn in range(12):
        now = turn * 0.1
        for name, engine in engines.items():
            carry_out(name, engine.observe(folders[name].read(), now))
            carry_out(name, engine.tick(now))
    assert {"a": frozenset("ab"), "b": frozenset("ab")} == seen


def found_by(records: BackgroundRecords, wanted: Mapping[str, bytes]) -> bool:
    """Whether the thread finds what is wanted within a while."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if records.read() == wanted:
            return True
        time.sleep(0.005)
    return False


def test_a_thread_writes_reads_and_removes_what_it_is_asked_to(tmp_path: Path) -> None:
    folder, records = MemberFolder(tmp_path), BackgroundRecords(MemberFolder(tmp_path))
    folder.write("other", b"x")
    records.write("node", b"1")
    records.write("node", b"2")
    assert found_by(records, {"node": b"2", "other": b"x"})
    records.remove("node")
    records.close()
    assert {"other": b"x"} == folder.read()


class Hanging(MemoryRecords):
    """Records on a file system that does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def read(self) -> Mapping[str, bytes]:
        self.answers.wait(10)
        return super().read()


def test_a_file_system_that_hangs_makes_nobody_wait_and_is_not_read_as_empty() -> None:
    hanging = Hanging()
    records = BackgroundRecords(hanging)
    began = time.monotonic()
    for turn in range(100):
        assert records.read() is None
        records.write("node", b"%d" % turn)
    assert time.monotonic() - began < 5  # of the 10 that one answer takes
    hanging.answers.set()
    assert found_by(records, {"node": b"99"})
    records.close()


def test_what_the_thread_could_not_do_is_raised_by_the_next_call(tmp_path: Path) -> None:
    records = BackgroundRecords(MemberFolder(tmp_path))
    (tmp_path / "node").mkdir()
    with pytest.raises(IsADirectoryError):
        for _ in range(500):
            records.write("node", b"1")
            time.sleep(0.01)
    records.close()  # so that no write is left that would make the folder anew
    (tmp_path / "node").rmdir()
    records = BackgroundRecords(MemberFolder(tmp_path))
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError):
        for _ in range(500):
            records.read()
            time.sleep(0.01)
    records.close()


names = st.text(st.sampled_from("ab9-._/\\\x00A é"), max_size=6) | st.sampled_from(["..", ".", "", "a/../b", "a" * 254])


@given(names)
def test_a_name_that_is_taken_cannot_leave_the_folder(name: str) -> None:
    try:
        check_node_name(name)
    except NodeNameError:
        return
    assert name == os.path.basename(os.path.normpath(name))  # noqa: PTH119 - judged by other code than ours
    assert not name.startswith(".")
    assert len(f".{name}".encode()) <= 255


@pytest.mark.parametrize("name", ["../passwd", ".hidden", "a/b", "Node", "-a", "a-", "a..b", "", "a\n", "a" * 254])
def test_a_name_that_kubernetes_would_refuse_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NodeNameError, match="lower-case letters"):
        MemberFolder(tmp_path).write(name, b"x")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "node-1", "ip-10-0-0-1.eu-central-1.compute.internal", "0", "a" * 253])
def test_a_name_that_kubernetes_would_take_is_taken(tmp_path: Path, name: str) -> None:
    folder = MemberFolder(tmp_path)
    folder.write(name, b"x")
    assert {name: b"x"} == folder.read()


def test_what_is_no_record_is_stepped_over_and_counted(tmp_path: Path) -> None:
    folder = MemberFolder(tmp_path)
    folder.write("good", b"x")
    (tmp_path / "big").write_bytes(b"x" * (MAX_RECORD + 1))
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / ".node-on-its-way").write_bytes(b"half")
    assert {"good": b"x"} == folder.read()
    assert 5 == folder.ignored


def test_a_folder_that_someone_removed_comes_back_with_the_next_record(tmp_path: Path) -> None:
    folder = MemberFolder(tmp_path / "members")
    (tmp_path / "members").rmdir()
    with pytest.raises(FileNotFoundError):
        folder.read()
    folder.write("a", b"x")
    assert {"a": b"x"} == folder.read()


def test_a_reader_never_sees_half_a_record(tmp_path: Path) -> None:
    writer, reader = MemberFolder(tmp_path), MemberFolder(tmp_path)
    whole = {bytes([letter]) * 900 for letter in b"abcdef"}
    writer.write("node", b"a" * 900)
    ended = threading.Event()

    def write() -> None:
        for _ in range(200):
            for data in sorted(whole):
                writer.write("node", data)
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not ended.is_set():
        seen.add(reader.read()["node"])
    thread.join()
    assert seen <= whole
    assert ["node"] == [path.name for path in tmp_path.iterdir()]
