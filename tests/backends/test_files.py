"""The folder of manifests: what real folders, editors and disks do to it.

The reader is looked at directly, with a time that the test makes up; what needs the watch and the
sink goes through `FilesCluster`. What every cluster does is in `test_cluster_contract`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from lbcore.adapters.kubernetes.changes import OBJECT_KINDS
from lbcore.adapters.kubernetes.documents import Ignored
from lbcore.addresses import Address
from lbcore.backends.files import FilesCluster, SessionSink
from lbcore.backends.folder import GRACE_EMPTIED, GRACE_VANISHED, FolderReader
from lbcore.backends.lock import hold, is_let_go
from lbcore.backends.manifests import MOST_BYTES, Manifest, signature_of
from lbcore.backends.statuses import MOST_EVENT_BYTES, StatusWriter, UnsafeNameError, read_peers
from lbcore.backends.watch import FolderWatch
from lbcore.config import Config, L2Advertisement, Pool
from lbcore.errors import Problem
from lbcore.events import (
    Applied,
    ConfigGone,
    ConfigSeen,
    DrainsSeen,
    Event,
    Failed,
    Kind,
    Listed,
    ManifestRefused,
    ServiceGone,
    ServiceSeen,
)
from lbcore.intents import EventType, Intent, RecordEvent, ReportConfig, ReportPeer, SetAddresses, SetPoolUsage
from lbcore.model import ServiceKey
from lbcore.routes import PeerState, PeerStatus

PATIENCE = 8.0  # seconds; less than the ten after which everything is looked at anyway
WEB = ServiceKey("default", "web")
V6, V4 = Address.parse("2001:db8::20"), Address.parse("192.0.2.20")


def service(name: str = "web", port: int = 80, uid: str = "") -> str:
    metadata = f"{{name: {name}, uid: '{uid}'}}"
    return f"apiVersion: v1\nkind: Service\nmetadata: {metadata}\nspec: {{ports: [{{port: {port}}}]}}\n"


def pool(name: str, *addresses: str) -> str:
    return (
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n"
        f"metadata: {{name: {name}, namespace: metallb-system}}\nspec: {{addresses: {list(addresses)}}}\n"
    )


class Looker:
    """A reader of a folder, and a clock that goes only where the test puts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[Ignored] = []
        self.reader = FolderReader(folder, frozenset(OBJECT_KINDS), self.notes.append)
        self.now = 1000.0

    def look(self, *changed: Path, after: float = 0.0) -> list[Event]:
        self.now += after
        names = [str(path) for path in changed] or None
        return [event for event in self.reader.look(self.now, names) if event is not None]

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def looker(tmp_path: Path) -> Looker:
    return Looker(tmp_path)


def names(events: list[Event]) -> list[str]:
    return [event.service.key.name for event in events if isinstance(event, ServiceSeen)]


def problems(events: list[Event]) -> list[Problem]:
    found: list[Problem] = []
    for event in events:
        if isinstance(event, ManifestRefused):
            found.append(event.problem)
        elif isinstance(event, ConfigSeen):
            found += event.document.problems
    return found


def test_folders_inside_are_read_and_hidden_ones_are_not(looker: Looker) -> None:
    for name in ("a.yaml", "b.yml", "sub/deep/c.json"):
        text = service(name.rpartition("/")[2][0])
        looker.write(name, text if not name.endswith("json") else json.dumps({"apiVersion": "v1", "kind": "Service"}))
    looker.write("sub/deep/c.json", '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {}}')
    for name in (".hidden.yaml", ".git/x.yaml", "#a.yaml#", "a.yaml~", ".a.yaml.swp", "a.yaml.bak", "notes.txt"):
        looker.write(name, service("hidden"))
    assert ["a", "b", "c"] == names(looker.look())


def test_a_folder_named_as_changed_is_looked_into(looker: Looker) -> None:
    looker.look()
    looker.write("sub/web.yaml", service())
    assert ["web"] == names(looker.look(looker.folder / "sub"))
    (looker.folder / "sub").rename(looker.folder / ".away")
    assert [ServiceGone(WEB)] == looker.look(looker.folder / "sub") + looker.look(after=1)


def test_marks_of_drained_nodes_are_told_before_the_folder_counts_as_listed_and_when_they_change(
    looker: Looker,
) -> None:
    writer = StatusWriter(looker.folder)
    assert (True, False) == (writer.drain("n1"), writer.drain("n1"))
    looker.write(".lbcore/drained/.n2.tmp", "")
    assert [DrainsSeen(frozenset({"n1"}))] == looker.look()
    assert [] == looker.look()
    mark = looker.folder / ".lbcore" / "drained" / "n3"
    assert writer.drain("n3")
    assert [DrainsSeen(frozenset({"n1", "n3"}))] == looker.look(mark)
    assert (True, False) == (writer.undrain("n3"), writer.undrain("n3"))
    assert [DrainsSeen(frozenset({"n1"}))] == looker.look(mark)
    with pytest.raises(UnsafeNameError):
        writer.drain("../n4")


def test_who_wants_no_nodes_hears_of_no_marks(tmp_path: Path) -> None:
    StatusWriter(tmp_path).drain("n1")
    reader = FolderReader(tmp_path, frozenset({Kind.SERVICES}), lambda _: None)
    assert [] == list(reader.look(0.0))


def test_a_look_without_a_change_tells_nothing(looker: Looker) -> None:
    looker.write("web.yaml", service())
    assert ["web"] == names(looker.look())
    assert [] == looker.look()


def test_a_file_with_the_same_time_size_and_inode_is_not_read_again(looker: Looker) -> None:
    path = looker.write("web.yaml", service(port=80))
    looker.look()
    before = path.stat()
    path.write_text(service(port=81))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [] == looker.look()
    assert ["web"] == names(looker.look(path))  # but one that is known to have changed is


def read_again(path: Path, before: Manifest | None) -> Manifest:
    signature = signature_of(str(path))
    assert signature is not None
    manifest = Manifest(str(path), path.name, signature)
    assert [] == [*manifest.read(before.by_digest if before else {})]
    return manifest


def test_of_a_file_that_changed_only_the_changed_documents_are_parsed_again(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text("---\n".join([service("a"), service("b"), pool("prod", "2001:db8::/120")]))
    first = read_again(path, None)
    path.write_text("---\n".join([service("new"), service("b"), service("a", port=81), pool("prod", "2001:db8::/120")]))
    second = read_again(path, first)
    assert second.seen[1] is first.seen[1]
    assert second.seen[2] != first.seen[0]
    old, new = first.seen[-1], second.seen[-1]
    assert isinstance(old, ConfigSeen)
    assert isinstance(new, ConfigSeen)
    assert ("all.yaml#3", "all.yaml#4") == (old.document.origin.source, new.document.origin.source)


def test_a_vanished_file_is_believed_only_after_a_moment(looker: Looker) -> None:
    path = looker.write("web.yaml", service())
    looker.look()
    path.unlink()
    assert [] == looker.look()
    assert looker.now + GRACE_VANISHED == looker.reader.look_again_at
    assert [] == looker.look(after=GRACE_VANISHED / 2)
    assert [ServiceGone(WEB)] == looker.look(after=GRACE_VANISHED / 2)
    assert looker.reader.look_again_at is None


def test_an_editor_that_saves_by_renaming_loses_nothing(looker: Looker) -> None:
    path = looker.write("web.yaml", service())
    looker.look()
    path.rename(path.with_name("web.yaml~"))
    assert [] == looker.look(path)
    looker.write("web.yaml", service(port=443))
    (seen,) = looker.look(path, after=GRACE_VANISHED / 2)
    assert isinstance(seen, ServiceSeen)
    assert [] == looker.look(after=10)


def test_a_file_emptied_before_it_is_written_loses_nothing(looker: Looker) -> None:
    path = looker.write("web.yaml", service())
    looker.look()
    path.write_text("")
    assert [] == looker.look(path)
    path.write_text(service())
    assert [] == looker.look(path, after=GRACE_EMPTIED / 2)
    assert [] == looker.look(after=10)


def test_a_file_that_stays_empty_is_believed(looker: Looker) -> None:
    path = looker.write("web.yaml", service())
    looker.look()
    path.write_text("# nothing\n")
    assert [ServiceGone(WEB)] == looker.look(path)  # a comment is something that somebody wrote
    path.write_text(service())
    looker.look(path)
    path.write_text("\n")
    assert [] == looker.look(path, after=1)
    assert [ServiceGone(WEB)] == looker.look(after=GRACE_EMPTIED)


def test_a_renamed_file_changes_nothing(looker: Looker) -> None:
    path = looker.write("pool.yaml", pool("prod", "2001:db8::/120"))
    looker.look()
    path.rename(path.with_name("pools.yaml"))
    assert [] == looker.look()
    assert [] == looker.look(after=10)


def test_a_document_that_moves_to_another_file_is_at_no_moment_gone(looker: Looker) -> None:
    both = looker.write("all.yaml", service("a") + "---\n" + service("b"))
    looker.look()
    looker.write("b.yaml", service("b"))
    both.write_text(service("a"))
    assert [] == looker.look()


def test_a_document_taken_out_of_a_file_is_gone_at_once(looker: Looker) -> None:
    both = looker.write("all.yaml", service("a") + "---\n" + service("b"))
    looker.look()
    both.write_text(service("a"))
    assert [ServiceGone(ServiceKey("default", "b"))] == looker.look()


def test_what_is_new_in_the_configuration_is_told_before_what_is_gone(looker: Looker) -> None:
    path = looker.write("pool.yaml", pool("old", "2001:db8::/120"))
    looker.look()
    path.write_text(pool("new", "2001:db8::/120"))
    assert [ConfigSeen, ConfigGone] == [type(event) for event in looker.look()]


def test_of_a_service_defined_twice_the_first_file_counts_and_the_other_is_told(looker: Looker) -> None:
    looker.write("a.yaml", service(port=80))
    second = looker.write("b.yaml", service(port=443))
    told = looker.look()
    (problem,) = problems(told)
    assert ("b.yaml", "Service default/web") == (problem.source, problem.object)
    assert "a.yaml, which counts" in problem.message
    assert [80] == [event.service.ports[0].number for event in told if isinstance(event, ServiceSeen)]
    second.write_text(service(port=8443))
    assert [] == looker.look(second)  # said once
    second.unlink()
    assert [] == looker.look(after=1) + looker.look(after=1)


def test_a_pool_defined_twice_holds_the_configuration_back_until_one_is_taken_out(looker: Looker) -> None:
    looker.write("a.yaml", pool("prod", "2001:db8::/120"))
    second = looker.write("b.yaml", pool("prod", "2001:db8:1::/120"))
    assert ["b.yaml"] == [problem.source for problem in problems(looker.look())]
    second.unlink()
    (mended,) = looker.look() + looker.look(after=1)
    assert isinstance(mended, ConfigSeen)
    assert () == mended.document.problems


def test_a_document_given_twice_in_one_file_is_told(looker: Looker) -> None:
    looker.write("a.yaml", service() + "---\n" + service())
    (problem,) = problems(looker.look())
    assert "twice in this file" in problem.message


def test_a_file_that_cannot_be_parsed_keeps_all_that_it_told(looker: Looker) -> None:
    path = looker.write("all.yaml", service("a") + "---\n" + pool("prod", "2001:db8::/120"))
    looker.look()
    path.write_bytes(b"\xff\xfe\x00")
    (broken,) = looker.look(path)
    assert isinstance(broken, ConfigSeen)
    assert "UTF-8" in broken.document.problems[0].message
    path.write_text(service("a"))
    assert [ConfigGone, ConfigGone] == [type(event) for event in looker.look(path)]  # the pool, and the complaint


def test_a_file_that_breaks_and_is_then_removed_takes_its_objects_along(looker: Looker) -> None:
    path = looker.write("web.yaml", service())
    looker.look()
    path.write_text("kind: Service\nspec: [")
    assert [ManifestRefused] == [type(event) for event in looker.look(path)]
    path.unlink()
    assert [] == looker.look()
    assert [ServiceGone(WEB)] == looker.look(after=1)


def test_a_problem_is_told_once_until_it_changes(looker: Looker) -> None:
    path = looker.write("web.yaml", service(port=0))
    assert 1 == len(problems(looker.look()))
    path.write_text(service(port=0) + "# try again\n")
    assert [] == looker.look(path)
    path.write_text(service(port=65536))
    assert 1 == len(problems(looker.look(path)))


def test_what_has_no_effect_is_noted_once(looker: Looker) -> None:
    text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
    path = looker.write("web.yaml", text)
    assert [] == looker.look()
    path.write_text(text + "spec: {replicas: 2}\n")
    assert [] == looker.look(path)
    assert ["Deployment default/web"] == [note.about for note in looker.notes]


def test_a_file_too_large_is_refused_unread(looker: Looker) -> None:
    path = looker.write("huge.yaml", "")
    os.truncate(path, MOST_BYTES + 1)
    (problem,) = problems(looker.look())
    assert "64 MiB" in problem.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_folders_and_dangling_links_with_a_manifests_name_are_passed_over(looker: Looker) -> None:
    os.mkfifo(looker.folder / "pipe.yaml")
    (looker.folder / "folder.yaml").mkdir()
    (looker.folder / "dangling.yaml").symlink_to("nowhere")
    (looker.folder / "circle").symlink_to(looker.folder)
    looker.write("folder.yaml/web.yaml", service())
    assert ["web"] == names(looker.look())
    assert [] == looker.look(looker.folder / "pipe.yaml")


def test_a_file_name_that_is_no_text_can_still_be_shown(looker: Looker) -> None:
    looker.write(os.fsdecode(b"\xff.yaml"), service(port=0))
    (problem,) = problems(looker.look())
    assert "\\xff.yaml" == problem.source
    str(problem).encode()


def test_a_folder_that_vanishes_keeps_all_that_it_told(looker: Looker) -> None:
    looker.write("web.yaml", service())
    looker.look()
    away = looker.folder.with_name("away")
    looker.folder.rename(away)
    assert ["what was read before stays" in problem.message for problem in problems(looker.look())] == [True]
    assert [] == looker.look(after=100)
    away.rename(looker.folder)
    assert [] == looker.look()
    (looker.folder / "web.yaml").unlink()
    assert [ServiceGone(WEB)] == looker.look() + looker.look(after=1)


def test_a_folder_that_is_not_there_is_not_listed(tmp_path: Path) -> None:
    looker = Looker(tmp_path / "later")
    assert 1 == len(problems(looker.look()))
    assert not looker.reader.listed
    looker.write("web.yaml", service())
    assert ["web"] == names(looker.look())
    assert looker.reader.listed


def status_of(folder: Path, name: str = "web") -> Path:
    return folder / ".lbcore" / "services" / "default" / f"{name}.json"


def write_status(folder: Path, text: str) -> Path:
    path = status_of(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_status_for_another_incarnation_of_a_service_is_not_its_own(looker: Looker) -> None:
    looker.write("web.yaml", service(uid="2"))
    write_status(looker.folder, '{"uid": "1", "addresses": ["2001:db8::20"]}')
    (seen,) = looker.look()
    assert isinstance(seen, ServiceSeen)
    assert () == seen.service.held


def test_a_status_that_is_none_is_told_and_counts_as_none(looker: Looker) -> None:
    looker.write("web.yaml", service())
    path = write_status(looker.folder, "nonsense")
    told = looker.look()
    assert [".lbcore/services/default/web.json"] == [problem.source for problem in problems(told)]
    assert [()] == [event.service.held for event in told if isinstance(event, ServiceSeen)]
    path.write_text('{"addresses": ["2001:db8::20"]}')
    (seen,) = looker.look(path)
    assert isinstance(seen, ServiceSeen)
    assert (V6,) == seen.service.held


def test_a_status_without_a_manifest_is_an_orphan_unless_a_manifest_cannot_be_read(looker: Looker) -> None:
    write_status(looker.folder, "{}")
    broken = looker.write("broken.yaml", "kind: Service\nmetadata: [")
    looker.look()
    assert [] == looker.reader.orphans()
    broken.write_text(service("other"))
    looker.look()
    assert ["default/web"] == looker.reader.orphans()


# Through the cluster: the watch and the sink.

Result = TypeVar("Result")


def run(scene: Callable[[], Awaitable[Result]]) -> Result:
    async def bounded() -> Result:
        async with asyncio.timeout(4 * PATIENCE):
            return await scene()

    return asyncio.run(bounded())


class Follower:
    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE):
            return await anext(self._events)

    async def until(self, kind: type[Event]) -> Event:
        while not isinstance(event := await self.next(), kind):
            pass
        return event


@asynccontextmanager
async def following(cluster: FilesCluster, *kinds: Kind) -> AsyncIterator[Follower]:
    async with aclosing(cluster.source(kinds or [Kind.SERVICES]).events()) as events:
        yield Follower(events)


def seen_ports(event: Event) -> list[int]:
    assert isinstance(event, ServiceSeen), event
    return [port.number for port in event.service.ports]


def test_a_mounted_configmap_that_turns_is_followed(tmp_path: Path) -> None:
    """As the kubelet does it: `web.yaml` -> `..data/web.yaml`, `..data` -> a folder, replaced by renaming."""
    for version, port in (("..1", 80), ("..2", 443)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "web.yaml").write_text(service(port=port))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "web.yaml").symlink_to("..data/web.yaml")

    async def scene() -> list[list[int]]:
        async with following(FilesCluster(tmp_path)) as source:
            ports = [seen_ports(await source.until(ServiceSeen))]
            await source.until(Listed)
            (tmp_path / "fence.yaml").write_text(service("fence"))
            await source.until(ServiceSeen)  # the watch stands
            (tmp_path / "..aside").symlink_to("..2")
            (tmp_path / "..aside").rename(tmp_path / "..data")
            return [*ports, seen_ports(await source.next())]

    assert [[80], [443]] == run(scene)


def test_a_link_to_the_folder_that_is_turned_elsewhere_is_followed(tmp_path: Path) -> None:
    for version, port in (("blue", 80), ("green", 443)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "web.yaml").write_text(service(port=port))
    (tmp_path / "current").symlink_to("blue")

    async def scene() -> list[list[int]]:
        async with following(FilesCluster(tmp_path / "current")) as source:
            ports = [seen_ports(await source.until(ServiceSeen))]
            await source.until(Listed)
            (tmp_path / "aside").symlink_to("green")
            (tmp_path / "aside").rename(tmp_path / "current")
            ports.append(seen_ports(await source.next()))
            (tmp_path / "green" / "web.yaml").write_text(service(port=8443))
            return [*ports, seen_ports(await source.next())]

    assert [[80], [443], [8443]] == run(scene)


def test_a_folder_that_goes_and_returns_is_followed_again(tmp_path: Path) -> None:
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()
    (folder / "web.yaml").write_text(service(port=80))

    async def scene() -> list[Event]:
        async with following(FilesCluster(folder)) as source:
            await source.until(Listed)
            folder.rename(away)
            told = [await source.next()]
            (away / "web.yaml").write_text(service(port=443))
            away.rename(folder)
            told.append(await source.next())
            (folder / "web.yaml").write_text(service(port=8443))
            return [*told, await source.next()]

    refused, first, second = run(scene)
    assert isinstance(refused, ManifestRefused)
    assert [[443], [8443]] == [seen_ports(first), seen_ports(second)]


def test_a_folder_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    async def scene() -> list[type[Event]]:
        async with following(FilesCluster(tmp_path / "later")) as source:
            told = [type(await source.next())]
            (tmp_path / "aside").mkdir()
            (tmp_path / "aside" / "web.yaml").write_text(service())
            (tmp_path / "aside").rename(tmp_path / "later")
            return [*told, type(await source.next()), type(await source.next())]

    assert [ManifestRefused, ServiceSeen, Listed] == run(scene)


def test_a_folder_made_inside_with_files_in_it_is_seen(tmp_path: Path) -> None:
    async def scene() -> list[str]:
        async with following(FilesCluster(tmp_path)) as source:
            await source.until(Listed)
            (tmp_path / "a" / "b").mkdir(parents=True)
            (tmp_path / "a" / "b" / "web.yaml").write_text(service())
            return names([await source.next()])

    assert ["web"] == run(scene)


INTENTS: list[Intent] = [
    SetAddresses(key=WEB, addresses=(V6, V4), pool="prod"),
    RecordEvent(about="Service default/web", type=EventType.NORMAL, reason="IPAllocated", message="got 2001:db8::20"),
    SetPoolUsage(pool="prod", assigned_ipv4=1, assigned_ipv6=1, available_ipv4=255, available_ipv6=2**64 - 1),
    ReportConfig(
        config=Config(
            pools=(Pool.parse("prod", "2001:db8::/64", "192.0.2.0/24"),),
            l2_advertisements=(L2Advertisement(name="all"),),
        ),
        problems=(Problem(source="b.yaml", object="IPAddressPool a/b", field="spec", message="is missing"),),
    ),
]


def write_all(folder: Path) -> list[Applied | Failed]:
    async def scene() -> list[Applied | Failed]:
        sink = FilesCluster(folder).sink
        return [await sink.apply(intent) for intent in INTENTS]

    return run(scene)


def test_the_users_own_files_are_never_written(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(service() + "---\n" + pool("prod", "2001:db8::/64"))
    before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
    assert [Applied(intent) for intent in INTENTS] == write_all(tmp_path)
    assert before == (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
    assert {".lbcore", "all.yaml"} == {entry.name for entry in tmp_path.iterdir()}


def test_what_lies_beside_the_manifests_can_be_read_by_people_and_programs(tmp_path: Path) -> None:
    write_all(tmp_path)
    beside = tmp_path / ".lbcore"
    web = json.loads(status_of(tmp_path).read_text())
    assert (["2001:db8::20", "192.0.2.20"], "prod", None) == (web["addresses"], web["pool"], web["refusal"])
    usage = json.loads((beside / "pools" / "prod.json").read_text())
    assert (1, 255, str(2**64 - 1)) == (usage["assignedIPv6"], usage["availableIPv4"], usage["availableIPv6"])
    config = json.loads((beside / "config.json").read_text())
    assert ("Invalid", ["all"]) == (config["result"], config["l2Advertisements"])
    assert [{"name": "prod", "addresses": ["2001:db8::/64", "192.0.2.0/24"], "autoAssign": True}] == config["pools"]
    assert "is missing" == config["problems"][0]["message"]
    (event,) = [json.loads(line) for line in (beside / "events.jsonl").read_text().splitlines()]
    assert ("IPAllocated", "Normal") == (event["reason"], event["type"])
    assert not [path for path in beside.rglob("*") if path.name.endswith(".tmp")]


def test_a_status_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    write_all(tmp_path)
    before = status_of(tmp_path).stat()
    write_all(tmp_path)
    assert (before.st_ino, before.st_mtime_ns) == (
        status_of(tmp_path).stat().st_ino,
        status_of(tmp_path).stat().st_mtime_ns,
    )


@pytest.mark.parametrize(
    "intent",
    [
        SetAddresses(key=ServiceKey("..", "x")),
        SetAddresses(key=ServiceKey("default", "../../../x")),
        SetAddresses(key=ServiceKey("default", "/etc/x")),
        SetAddresses(key=ServiceKey("", "x")),
        SetPoolUsage(pool="../x", assigned_ipv4=0, assigned_ipv6=0, available_ipv4=0, available_ipv6=0),
        SetPoolUsage(pool="a" * 253, assigned_ipv4=0, assigned_ipv6=0, available_ipv4=0, available_ipv6=0),
    ],
    ids=["namespace", "name", "absolute", "empty", "pool", "long"],
)
def test_a_name_cannot_lead_out_of_the_status_folder(tmp_path: Path, intent: Intent) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    outcome = run(lambda: FilesCluster(folder).sink.apply(intent))
    assert isinstance(outcome, Failed)
    assert not outcome.retry
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / ".lbcore").write_text("in the way")
    for outcome in write_all(tmp_path):
        assert isinstance(outcome, Failed)
        assert outcome.retry
    (tmp_path / ".lbcore").unlink()
    assert [Applied(intent) for intent in INTENTS] == write_all(tmp_path)


def test_the_event_log_is_bounded(tmp_path: Path) -> None:
    long = RecordEvent(about="Service default/web", type=EventType.WARNING, reason="Full", message="x" * 100_000)

    async def scene() -> None:
        sink = FilesCluster(tmp_path).sink
        for _ in range(25):
            await sink.apply(long)

    run(scene)
    logs = sorted((tmp_path / ".lbcore").iterdir())
    assert ["events.jsonl", "events.jsonl.1"] == [path.name for path in logs]
    assert all(path.stat().st_size <= MOST_EVENT_BYTES for path in logs)
    assert all(json.loads(line) for path in logs for line in path.read_text().splitlines())


def test_the_status_of_a_pool_goes_with_the_pool(tmp_path: Path) -> None:
    write_all(tmp_path)
    statuses = tmp_path / ".lbcore" / "pools"
    run(lambda: FilesCluster(tmp_path).sink.apply(ReportConfig(config=None)))
    assert ["prod.json"] == [path.name for path in statuses.iterdir()]  # nothing in force yet says nothing of pools
    run(lambda: FilesCluster(tmp_path).sink.apply(ReportConfig(config=Config())))
    assert [] == list(statuses.iterdir())


def test_the_writer_takes_away_the_status_of_a_service_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(service())

    async def scene() -> bool:
        cluster = FilesCluster(tmp_path)
        async with following(cluster) as source:
            await source.until(Listed)
            await cluster.sink.apply(SetAddresses(key=WEB, addresses=(V6,)))
            await source.until(ServiceSeen)
            (tmp_path / "web.yaml").unlink()
            await source.until(ServiceGone)
            return status_of(tmp_path).exists()

    assert not run(scene)


@pytest.mark.parametrize("writes", [True, False], ids=["the writer", "a reader"])
def test_only_the_writer_takes_away_orphans_at_the_start(tmp_path: Path, writes: bool) -> None:
    (tmp_path / "other.yaml").write_text(service("other"))
    write_status(tmp_path, "{}")

    async def scene() -> None:
        cluster = FilesCluster(tmp_path)
        if writes:
            assert cluster.sink.handles
        async with following(cluster) as source:
            await source.until(Listed)
            (tmp_path / "later.yaml").write_text(service("later"))
            await source.until(ServiceSeen)  # by then the orphans have been seen to

    run(scene)
    assert writes is not status_of(tmp_path).exists()


def test_a_reader_never_sees_half_a_status(tmp_path: Path) -> None:
    addresses = tuple(Address(6, V6.value + number) for number in range(60))

    async def scene() -> set[int]:
        sink = FilesCluster(tmp_path).sink
        lengths: set[int] = set()
        done = asyncio.Event()

        def read() -> int:
            return len(json.loads(status_of(tmp_path).read_bytes())["addresses"])

        async def write() -> None:
            for round_ in range(150):
                await sink.apply(SetAddresses(key=WEB, addresses=addresses[: 1 + 59 * (round_ % 2)]))
            done.set()

        await sink.apply(SetAddresses(key=WEB, addresses=addresses))
        writing = asyncio.create_task(write())
        while not done.is_set():
            lengths.add(await asyncio.to_thread(read))
        await writing
        return lengths

    assert {1, 60} == run(scene)


def test_the_loop_goes_on_while_a_large_folder_is_read(tmp_path: Path) -> None:
    text = "---\n".join(service(f"web-{number}") for number in range(2000))
    (tmp_path / "all.yaml").write_text(text)

    async def scene() -> int:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        turning = asyncio.create_task(turn())
        async with following(FilesCluster(tmp_path)) as source:
            await source.until(ServiceSeen)  # everything has been parsed by now
        turning.cancel()
        return turns

    assert run(scene) > 10


def test_closing_a_source_releases_its_watch(tmp_path: Path) -> None:
    async def scene() -> set[str]:
        async with following(FilesCluster(tmp_path)) as source:
            await source.until(Listed)
        return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    assert set() == run(scene)


@pytest.mark.parametrize("new", [".lbcore", ".lbcore/services", ".lbcore/services/default"])
def test_statuses_in_a_folder_that_comes_as_a_whole_are_told_at_once(tmp_path: Path, new: str) -> None:
    """As the first status of a cluster does: it is written before anybody can watch the folder that was made for it."""
    folder, aside = tmp_path / "folder", tmp_path / "aside"
    for each in (folder, aside):
        each.mkdir()
    (folder / "web.yaml").write_text(service())
    StatusWriter(aside).set_addresses(SetAddresses(key=WEB, addresses=(V6, V4), pool="p"))
    (folder / new).parent.mkdir(parents=True, exist_ok=True)

    async def scene() -> Event:
        async with following(FilesCluster(folder)) as source:
            await source.until(Listed)
            (folder / "fence.yaml").write_text(service("fence"))
            await source.until(ServiceSeen)  # the watch stands
            (aside / new).rename(folder / new)
            return await source.next()

    told = run(scene)
    assert isinstance(told, ServiceSeen)
    assert (V6, V4) == told.service.held


def test_a_folder_in_which_something_changes_all_the_time_is_looked_at_as_a_whole_all_the_same(tmp_path: Path) -> None:
    async def scene() -> list[bool]:
        named = list[bool]()
        async with FolderWatch(tmp_path, lambda _: True, every=0.5) as watch:
            while len(named) < 3 or named[-1]:
                (tmp_path / "web.yaml").write_text(service(port=len(named) + 1))
                named.append(await watch.wait() is not None)
        return named

    assert True in run(scene), "and not only as a whole"


SPEAKER = """
import sys, pathlib
from lbcore.backends.files import SessionSink
sink = SessionSink(pathlib.Path(sys.argv[1]), "n1")
sink.begin()
print("begun", flush=True)
sys.stdin.read()
"""


def test_what_a_speaker_that_was_killed_told_of_its_sessions_is_unknown_until_the_next_one_begins(
    tmp_path: Path,
) -> None:
    def seen() -> list[tuple[str, str, str]]:
        return [(each["node"], each["state"], each["error"]) for each in read_peers(tmp_path)]

    up = PeerStatus(state=PeerState.ESTABLISHED, since=0.0)
    there = [("n1", "Established", ""), ("n2", "Established", "")]
    command = [sys.executable, "-c", SPEAKER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as speaker:
        assert speaker.stdout is not None
        assert "begun\n" == speaker.stdout.readline()
        for node in ("n1", "n2"):  # the second is of a release that does not show whether it lives
            told = ReportPeer(node=node, peer="tor", router="2001:db8::1", status=up)
            assert isinstance(asyncio.run(SessionSink(tmp_path, node).apply(told)), Applied)
        assert there == seen()
        speaker.kill()
    why = "its speaker is gone, without a word; the last was Established"
    assert [("n1", "Unknown", why), there[1]] == seen()
    SessionSink(tmp_path, "n1").begin()
    assert there[1:] == seen()


def test_two_speakers_of_one_node_may_both_show_that_they_live(tmp_path: Path) -> None:
    path = tmp_path / "speakers" / "n1"
    assert not is_let_go(path)
    one, other = hold(path), hold(path)
    os.close(one)
    assert not is_let_go(path)
    os.close(other)
    assert is_let_go(path)
    os.close(hold(path))
