"""`lbcore lab` as a user starts it: commands from a terminal or a pipe, and what it does, read off what it prints."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shown import LBCORE, PATIENCE, environment, folded, run

POWERLESS = ("setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all", "--no-new-privs", "--")

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "nft", "curl", "ping")]


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
