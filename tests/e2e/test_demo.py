"""`lbcore demo` and `lbcore lab` as a user starts them: what they promise, read off what they print."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
LBCORE = (sys.executable, "-m", "lbcore.cli.main")
PATIENCE = 120.0  # seconds; a busy machine with two cores takes a quarter of it
POWERLESS = ("setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all", "--no-new-privs", "--")
ROW = re.compile(r"^    (\S.*?)   +(n\d)   +(n\d)   +(\d+) ms$", re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "nft", "curl", "ping")]


def environment(**more: str) -> Mapping[str, str]:
    """As a script has it: no terminal, and no colour wanted."""
    return os.environ | {"NO_COLOR": "1"} | more


def run(*argv: str, env: Mapping[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, env=env, input=text, capture_output=True, encoding="utf-8", timeout=PATIENCE * 2, check=False
    )


def folded(text: str) -> str:
    """A text without its line breaks and columns, to look for sentences in."""
    return " ".join(text.split())


# The demo


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """The whole demo, shown once."""
    return run(*LBCORE, "demo", env=environment())


def section(demo: subprocess.CompletedProcess[str], heading: str) -> str:
    """What the demo printed under a heading."""
    parts = re.split(r"^── (?:\d/8  )?(.*?) ─+$", demo.stdout, flags=re.MULTILINE)
    return parts[parts.index(heading) + 1]


def test_the_demo_ends_well_and_says_so(demo: subprocess.CompletedProcess[str]) -> None:
    assert (0, "") == (demo.returncode, demo.stderr)
    assert "✗" not in demo.stdout
    assert re.search(r"All of it happened as shown, in \d+ seconds", demo.stdout)


def test_without_a_terminal_it_is_plain_text_of_100_columns(demo: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in demo.stdout
    assert 100 >= max(len(line) for line in demo.stdout.splitlines())


def test_the_first_service_has_the_first_address_of_the_pool(demo: subprocess.CompletedProcess[str]) -> None:
    assert "- 192.168.20.20-192.168.20.255\n  │   autoAssign: true\n" in section(demo, "The files of a user")
    shown = section(demo, "An address that answers")
    assert re.search(r"^ +default +nginx-service +LoadBalancer +\S+ +192\.168\.20\.20 +80/TCP", shown, re.MULTILINE)


@pytest.mark.needs("nginx")
def test_the_welcome_page_comes_from_real_nginx_on_a_node(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo, "An address that answers")
    assert re.search(r"HTTP/1.1 200 OK\n +Server: nginx/", shown)
    assert "<h1>Welcome to nginx!</h1>" in shown
    assert re.search(r"X-Served-By: nginx-metallb-test-\d/n[123]\n", shown)


def test_the_client_has_the_mac_of_the_node_that_it_is_said_to_have(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo, "An address that answers")
    found = re.search(r"192\.168\.20\.20 dev eth0 lladdr (02:00:00:00:00:0(\d)) ", shown)
    assert found is not None
    assert f"That is the MAC of n{found[2]} itself ({found[1]})" in folded(shown)


def test_ping_is_tried_and_stays_without_an_answer(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo, "An address that answers")
    assert "1 packets transmitted, 0 received" in shown
    assert "✓ no interface of any host has the address" in shown


def test_a_static_address_is_given_and_impossible_wishes_are_refused(demo: subprocess.CompletedProcess[str]) -> None:
    shown = folded(section(demo, "Asking for an address, and being refused"))
    assert "Service static gets an address: 192.168.20.50" in shown
    assert "AddressInUse: 192.168.20.50 is in use by default/static" in shown
    assert "AddressNotInPool: 192.168.99.1 is in no address pool" in shown
    assert re.search(r"192.168.20.20 n\d announces .* NotElected .* NotElected", shown)


def test_ipv6_is_reached_through_neighbor_discovery(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo, "IPv6")
    assert "Service dual-stack gets an address: 192.168.20.21, fd00:20::100" in shown
    assert re.search(r"curl --include 'http://\[fd00:20::100\]/'\n +HTTP/1\.\d 200", shown)
    assert re.search(r"fd00:20::100 dev eth0 lladdr 02:00:00:00:00:0\d ", shown)


def test_every_fault_hands_the_address_to_another_node_within_two_seconds(
    demo: subprocess.CompletedProcess[str],
) -> None:
    rows = ROW.findall(section(demo, "Nodes fail"))
    assert 5 == len(rows)
    assert ["is stopped cleanly", "is pulled", "are back", "loses its power", "has power again"] == [
        next(what for what in ("is stopped cleanly", "is pulled", "are back", "loses its power", "has power again")
             if row[0].endswith(what)) for row in rows
    ]  # fmt: skip
    for (_, before, after, silence), following in zip(rows, [*rows[1:], None], strict=True):
        assert before != after
        assert 0 < int(silence) < 2000
        assert following is None or following[1] == after


def test_power_lost_is_noticed_later_than_a_clean_stop(demo: subprocess.CompletedProcess[str]) -> None:
    silences = {what: int(silence) for what, _, _, silence in ROW.findall(section(demo, "Nodes fail"))}
    stopped = next(silence for what, silence in silences.items() if what.endswith("stopped cleanly"))
    lost = next(silence for what, silence in silences.items() if what.endswith("loses its power"))
    assert stopped < lost


def test_an_old_config_map_serves_four_addresses_and_refuses_a_fifth(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo, "MetalLB's old configuration")
    for number in range(4):
        assert f"✓ Service web-{number + 1} gets an address: 192.168.3.{251 + number} " in shown
    assert "the client fetches a page from 192.168.3.251" in shown
    assert re.search(r"PoolExhausted: pool 'default'", shown)


def test_pools_that_are_whole_networks_answer_from_their_first_address(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo, "Whole networks as pools")
    for address in ("192.168.12.0", "192.168.144.0"):
        assert f"✓ the client fetches a page from {address}: answered by " in shown


@pytest.mark.needs("bird")
def test_a_router_has_a_way_by_each_node_and_spreads_connections_over_them(
    demo: subprocess.CompletedProcess[str],
) -> None:
    shown = section(demo, "BGP: all nodes at once")
    route = shown[shown.index("203.0.113.0 ") :]
    assert [f"192.168.20.{number}" for number in (11, 12, 13)] == sorted(
        set(re.findall(r"nexthop via (\S+) dev eth0", route.partition("lbcore get peers")[0]))
    )
    counts = dict(re.findall(r"^ +(n\d) +(\d+)$", shown, flags=re.MULTILINE))
    assert ({"n1", "n2", "n3"}, 60) == (set(counts), sum(map(int, counts.values())))
    assert re.search(r"60 connections later: \d+ by n2, \d+ by n3\.", folded(shown))


def test_the_files_that_it_names_are_there(demo: subprocess.CompletedProcess[str]) -> None:
    named = re.findall(r"(?:src|docs)/[\w./]+", demo.stdout)
    assert {"docs/architecture.md", "src/lbcore/assignment/", "src/lbcore/lab/"} <= set(named)
    assert [] == [name for name in named if not (PROJECT / name).exists()]


# Where it cannot


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder that is all of PATH, with every tool of the demo but nginx."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("unshare", "nsenter", "nft", "curl", "ip", "ping", "sh", "true"):
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return folder


def test_without_nginx_it_says_so_and_shows_the_rest(tools: Path) -> None:
    done = run(*LBCORE, "demo", "--quick", env=environment(PATH=str(tools)))
    assert (0, "") == (done.returncode, done.stderr)
    assert "Note: nginx is not installed" in done.stdout
    assert "Welcome to nginx!" not in done.stdout
    assert 5 == len(ROW.findall(done.stdout))


def test_a_missing_tool_is_one_line_with_its_package(tools: Path) -> None:
    (tools / "ping").unlink()
    done = run(*LBCORE, "demo", env=environment(PATH=str(tools)))
    assert (1, "") == (done.returncode, done.stdout)
    assert "lbcore: the demo needs ping in PATH; install the packages iputils-ping\n" == done.stderr


def test_a_step_that_fails_ends_the_demo_with_the_daemons_last_words(tools: Path) -> None:
    (tools / "curl").unlink()
    (tools / "curl").write_text("#!/bin/sh\necho 'curl: no luck today' >&2\nexit 7\n", encoding="utf-8")
    (tools / "curl").chmod(0o755)
    done = run(*LBCORE, "demo", env=environment(PATH=str(tools)))
    assert 1 == done.returncode
    assert "✗ the client fetches a page from 192.168.20.20" in done.stdout
    for name in ("controller", "speaker-n1", "speaker-n2", "speaker-n3"):
        assert f"{name} (runs), its last lines:" in done.stdout
    assert "configuration in force" in done.stdout
    assert done.stderr.startswith("lbcore: ") and "curl: no luck today" in done.stderr
    assert 1 == len(done.stderr.splitlines())


# The lab


class Session:
    """A lab that runs, its terminal or pipe in our hands."""

    def __init__(self, process: subprocess.Popen[bytes], given: int, shown: int) -> None:
        self.process = process
        self._given = given
        self._shown = shown
        self._text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._shown, 65536):
                self._text += part.decode(errors="replace").replace("\r\n", "\n")
        except OSError:  # a terminal whose other end is closed
            return

    def write(self, text: str) -> None:
        os.write(self._given, text.encode())

    def until(self, pattern: str, after: int = 0) -> re.Match[str]:
        """Wait for something to be printed."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.compile(pattern, re.MULTILINE).search(self._text, after)):
            assert time.monotonic() < deadline, f"waited for {pattern!r} in vain:\n{self._text}"
            assert self.process.poll() is None or self._thread.is_alive(), f"it ended before {pattern!r}:\n{self._text}"
            time.sleep(0.02)
        return found

    def ask(self, command: str, pattern: str) -> re.Match[str]:
        """Give a command, and wait for what it prints."""
        asked = len(self._text)
        self.write(f"{command}\n")
        return self.until(pattern, asked)

    def ask_until(self, command: str, pattern: str) -> None:
        """Give a command again and again until it prints something: what it shows takes its time."""
        deadline = time.monotonic() + PATIENCE
        marker = 0
        while True:
            marker += 1
            asked = len(self._text)
            self.write(f"{command}\nclient echo marker-$(({marker} + 0))\n")
            self.until(rf"^marker-{marker}$", asked)
            if re.search(pattern, self._text[asked:], re.MULTILINE):
                return
            assert time.monotonic() < deadline, f"{command!r} never printed {pattern!r}:\n{self._text[asked:]}"

    def end(self) -> int:
        return self.process.wait(PATIENCE)


@contextmanager
def lab(*options: str, before: tuple[str, ...] = ()) -> Iterator[Session]:
    """`lbcore lab` with pipes; killed if it has not ended by then."""
    process = subprocess.Popen(
        [*before, *LBCORE, "lab", *options],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Session(process, process.stdin.fileno(), process.stdout.fileno())
        process.stdin.close()
        assert 0 == process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()


def prompt(session: Session) -> None:
    session.until(r"^ +quit +end the lab$")


def test_the_lab_takes_commands_from_a_pipe_and_explains_wrong_ones() -> None:
    commands = "curl nginx-service\n\n# a comment\nbogus\ncut n9\ncurl\nclient hostname\nnode n2 exit 3\nquit\nstatus\n"
    done = run(*LBCORE, "lab", "--nodes", "2", env=environment(), text=commands)
    assert (0, "") == (done.returncode, done.stderr)
    shown = folded(done.stdout.partition("lab> curl nginx-service")[2])
    assert re.search(r"192\.168\.20\.20 \(announced by n[12]\): 200, answered by nginx-metallb-test-\d/n[12]", shown)
    assert "there is no command 'bogus'" in shown
    assert "there is no node 'n9', only n1, n2" in shown
    assert "usage: curl ADDRESS|SERVICE" in shown
    assert "lab> client hostname client " in shown
    assert "it ended with status 3" in shown
    assert shown.endswith("lab> quit The lab ends.")


def test_in_the_lab_another_node_takes_over_and_gives_back() -> None:
    with lab() as session:
        prompt(session)
        session.ask_until("curl nginx-service", r"\): 200, answered by")
        first = session.ask("curl nginx-service", r"announced by (n\d)\)")[1]
        for fault in ("cut", "stop", "kill"):
            session.write(f"{fault} {first}\n")
            session.ask_until("curl nginx-service", rf"announced by (?!{first})n\d\): 200")
            session.ask("status", rf"^ +{first} .* (pulled|ended) ")
            session.write(f"restart {first}\n")
            session.ask_until("curl nginx-service", rf"announced by {first}\): 200")
        session.ask("ping 192.168.20.20", "192.168.20.20 does not answer a ping")
        session.ask("ping 192.168.20.11", "192.168.20.11 answers a ping")
        session.ask("explain nginx-service", "announces it")
        session.ask("log controller", r"controller \(runs\), its last lines:")
        session.ask("client cat", "lab> client cat")
        session.ask("client echo the next line is ours", "^the next line is ours$")


@pytest.mark.parametrize(
    "before", [(), pytest.param(POWERLESS, marks=pytest.mark.needs("userns"))], ids=["root", "rootless"]
)
def test_the_commands_that_the_lab_prints_work_in_another_terminal(before: tuple[str, ...]) -> None:
    with lab("--nodes", "1", "--network", "fd00:33::/64", before=before) as session:
        prompt(session)
        shell = session.until(r"a shell on n1 +(nsenter .*) sh$")[1].split()
        look = session.until(r"its Services +(\S*lbcore get services .*)$")[1].split()
        folder = Path(session.until(r"the folder +cd (\S+)$")[1])
        assert "n1\n" == run(*before, *shell, "hostname", env=environment()).stdout
        assert "fd00:33::20" in run(*LBCORE, *look[1:], env=environment()).stdout
        assert "service_default_nginx-service.yaml" in {path.name for path in folder.iterdir()}
    assert not folder.exists()
    assert not Path("/proc", shell[2]).exists()


def test_a_folder_is_kept_and_its_edits_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    with lab("--nodes", "1", "--network", "192.168.7.0/26", "--folder", str(folder)) as session:
        prompt(session)
        first = (folder / "service_default_nginx-service.yaml").read_text(encoding="utf-8")
        second = first.replace("nginx-service", "second").replace("spec:", "spec:\n  loadBalancerIP: 192.168.7.62")
        (folder / "second.yaml").write_text(second, encoding="utf-8")
        session.ask_until("curl second", r"192.168.7.62 \(announced by n1\): 200")
    kept = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert {
        "deployment_default_nginx-metallb-test.yaml",
        "ipaddresspool_metallb-system_first-pool.yaml",
        "l2advertisement_metallb-system_first-pool.yaml",
        "second.yaml",
        "service_default_nginx-service.yaml",
    } == kept
    (folder / "service_default_nginx-service.yaml").unlink()
    with lab("--nodes", "1", "--network", "192.168.7.0/26", "--folder", str(folder)) as session:
        prompt(session)
        session.ask_until("get services", r"default +second +LoadBalancer +\S+ +192.168.7.62")
    assert not (folder / "service_default_nginx-service.yaml").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--nodes", "0"), "0 is not in the range 1<=x<=100"),
        (("--network", "192.168.7.0/24", "--network", "192.168.8.0/24"), "one of each family"),
        (("--network", "10.0.0.0/8", "--network", "fd00::/64", "--network", "fd01::/64"), "one network of each family"),
        (("--network", "nonsense"), "nonsense"),
    ],
)
def test_a_lab_that_cannot_be_is_refused_in_words(options: tuple[str, ...], said: str) -> None:
    done = run(*LBCORE, "lab", *options, env=environment())
    assert 0 != done.returncode
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("end", ["interrupt", "end of file"])
def test_at_a_terminal_it_prompts_and_ends_cleanly(end: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*LBCORE, "lab", "--nodes", "1"],
        env=environment(TERM="dumb"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    session = Session(process, ours, ours)
    try:
        session.until(r"^lab> ")
        session.ask("node n1 hostname", r"^n1$")
        # A command is interrupted alone; the lab goes on.
        session.ask("node n1 echo begun; sleep 600", r"^begun$")
        os.killpg(process.pid, signal.SIGINT)
        session.until(r"it ended with status -2")
        session.ask("node n1 echo still $((6 * 7))", r"^still 42$")
        if end == "interrupt":
            session.until(r"still 42\n(.*\n)*lab> ")
            os.killpg(process.pid, signal.SIGINT)
        else:
            session.write("\x04")
        session.until("The lab ends")
        assert 0 == session.end()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
