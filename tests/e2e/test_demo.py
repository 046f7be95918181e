"""`lbcore demo` as a user starts it: what it promises, read off what it prints."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbcore.lab.demo.bgp import all_nodes_at_once as bgp_chapter
from lbcore.lab.demo.ingress import web_sites as web_sites_chapter
from lbcore.lab.demo.screen import Screen
from shown import LBCORE, PATIENCE, curls, environment, folded, run, section

PROJECT = Path(__file__).parent.parent.parent
ROW = re.compile(r"^    (\S.*?)   +(n\d)   +(n\d)   +(\d+) ms$", re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.needs("netns", "nft", "curl", "ping")]


# The demo


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """The whole demo, shown once."""
    return run(*LBCORE, "demo", env=environment())


def test_the_demo_ends_well_and_says_so(demo: subprocess.CompletedProcess[str]) -> None:
    assert (0, "") == (demo.returncode, demo.stderr)
    assert "✗" not in demo.stdout
    assert re.search(r"All of it happened as shown, in \d+ seconds", demo.stdout)


def test_without_a_terminal_it_is_plain_text_of_100_columns(demo: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in demo.stdout
    assert 100 >= max(len(line) for line in demo.stdout.splitlines())


def test_the_first_service_has_the_first_address_of_the_pool(demo: subprocess.CompletedProcess[str]) -> None:
    assert "- 192.168.20.20-192.168.20.255\n  │   autoAssign: true\n" in section(demo.stdout, "The files of a user")
    shown = section(demo.stdout, "An address that answers")
    assert re.search(r"^ +default +nginx-service +LoadBalancer +\S+ +192\.168\.20\.20 +80/TCP", shown, re.MULTILINE)


@pytest.mark.needs("nginx")
def test_the_welcome_page_comes_from_real_nginx_on_a_node(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo.stdout, "An address that answers")
    assert re.search(r"HTTP/1.1 200 OK\n +Server: nginx/", shown)
    assert "<h1>Welcome to nginx!</h1>" in shown
    assert re.search(r"X-Served-By: nginx-metallb-test-\d/n[123]\n", shown)


def test_the_client_has_the_mac_of_the_node_that_it_is_said_to_have(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo.stdout, "An address that answers")
    found = re.search(r"192\.168\.20\.20 dev eth0 lladdr (02:00:00:00:00:0(\d)) ", shown)
    assert found is not None
    assert f"That is the MAC of n{found[2]} itself ({found[1]})" in folded(shown)


def test_ping_is_tried_and_stays_without_an_answer(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo.stdout, "An address that answers")
    assert "1 packets transmitted, 0 received" in shown
    assert "✓ no interface of any host has the address" in shown


def test_a_static_address_is_given_and_impossible_wishes_are_refused(demo: subprocess.CompletedProcess[str]) -> None:
    shown = folded(section(demo.stdout, "Asking for an address, and being refused"))
    assert "Service static gets an address: 192.168.20.50" in shown
    assert "AddressInUse: 192.168.20.50 is in use by default/static" in shown
    assert "AddressNotInPool: 192.168.99.1 is in no address pool" in shown
    assert re.search(r"192.168.20.20 n\d announces .* NotElected .* NotElected", shown)


def test_ipv6_is_reached_through_neighbor_discovery(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo.stdout, "IPv6")
    assert "Service dual-stack gets an address: 192.168.20.21, fd00:20::100" in shown
    assert re.search(r"curl --include 'http://\[fd00:20::100\]/'\n +HTTP/1\.\d 200", shown)
    assert re.search(r"fd00:20::100 dev eth0 lladdr 02:00:00:00:00:0\d ", shown)


def test_every_fault_hands_the_address_to_another_node_and_gives_it_back(
    demo: subprocess.CompletedProcess[str],
) -> None:
    rows = ROW.findall(section(demo.stdout, "Nodes fail"))
    faults = ["is stopped", "is started again", "is cut off", "is reached again", "loses its power", "has power again"]
    assert faults == [fault for row, fault in zip(rows, faults, strict=True) if row[0].endswith(fault)]
    first = rows[0][1]
    assert [first] * 3 == [before for _, before, _, _ in rows[::2]]
    assert [first] * 3 == [after for _, _, after, _ in rows[1::2]]
    for (_, before, after, silence), following in zip(rows, [*rows[1:], None], strict=True):
        assert before != after
        assert 0 < int(silence) < 2000
        assert following is None or following[1] == after


def test_of_a_node_that_is_cut_off_is_told_who_noticed_and_that_it_noticed_itself(
    demo: subprocess.CompletedProcess[str],
) -> None:
    shown = section(demo.stdout, "Nodes fail")
    (cut, after), *_ = [(row[1], row[2]) for row in ROW.findall(shown) if row[0].endswith("is cut off")]
    told = re.findall(r"^ +\+(\d+) ms +(n\d) +(members|announcing|withdrawing) (\S+)$", shown, re.MULTILINE)
    others = ",".join(sorted({"n1", "n2", "n3"} - {cut}))
    assert {(node, "members", others) for node in others.split(",")} <= {row[1:] for row in told}
    assert [(after, "192.168.20.20")] == [(node, what) for _, node, said, what in told if said == "announcing"]
    assert (cut, "withdrawing", "192.168.20.20") in {row[1:] for row in told}
    assert re.search(rf"{after} ranks first: `lbcore explain` had it as number 2 of 3", folded(shown))


def test_power_lost_is_noticed_later_than_a_clean_stop(demo: subprocess.CompletedProcess[str]) -> None:
    silences = {what: int(silence) for what, _, _, silence in ROW.findall(section(demo.stdout, "Nodes fail"))}
    stopped = next(silence for what, silence in silences.items() if what.endswith("is stopped"))
    lost = next(silence for what, silence in silences.items() if what.endswith("loses its power"))
    assert stopped < lost


def test_an_old_config_map_serves_four_addresses_and_refuses_a_fifth(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo.stdout, "MetalLB's old configuration")
    for number in range(4):
        assert f"✓ Service web-{number + 1} gets an address: 192.168.3.{251 + number} " in shown
    assert "the client fetches a page from 192.168.3.251" in shown
    assert re.search(r"PoolExhausted: pool 'default'", shown)


def test_pools_that_are_whole_networks_answer_from_their_first_address(demo: subprocess.CompletedProcess[str]) -> None:
    shown = section(demo.stdout, "Whole networks as pools")
    for address in ("192.168.12.0", "192.168.144.0"):
        assert f"✓ the client fetches a page from {address}: answered by " in shown


@pytest.fixture
def bgp(demo: subprocess.CompletedProcess[str]) -> str:
    return section(demo.stdout, "BGP: all nodes at once")


def next_hops(shown: str) -> list[set[str]]:
    """Those of each time that the router's routes were listed."""
    lists = re.findall(r"^  client \$ ip route .*\n((?:    .*\n)+)", shown, re.MULTILINE)
    return [set(re.findall(r"nexthop via 192\.168\.20\.(\d+) dev eth0", each)) for each in lists]


@pytest.mark.needs("bird")
def test_a_router_has_a_way_by_each_node_and_spreads_connections_over_them(bgp: str) -> None:
    assert {"11", "12", "13"} == next_hops(bgp)[0]
    counts = dict(re.findall(r"^ +(n\d) +(\d+)$", bgp, flags=re.MULTILINE))
    assert ({"n1", "n2", "n3"}, 60) == (set(counts), sum(map(int, counts.values())))
    assert 3 == len(re.findall(r"^ +n\d +tor +192\.168\.20\.10 +Established +\S+ +Up +1 ", bgp, re.MULTILINE))


@pytest.mark.needs("bird")
def test_a_drained_node_is_no_way_before_its_route_goes_and_no_new_connection_fails(bgp: str) -> None:
    steps = re.findall(r"^ +\d+\.\d\d s +(.*)$", bgp, re.MULTILINE)
    assert ["n1's route has 65535:0", "the router uses n2 and n3", "n1 withdraws the route"] == steps
    found = re.search(r"lbcore drain n1: (\d+) of (\d+) new connections failed", bgp)
    assert found is not None
    assert "0" == found[1]
    assert int(found[2]) > 100
    assert re.search(r"^ +n1 +yes +yes +0 +0$", bgp, re.MULTILINE)


@pytest.mark.needs("bird")
def test_a_node_that_dies_is_noticed_by_bfd_long_before_the_hold_time(bgp: str) -> None:
    found = re.search(r"n2 loses its power: connections by n2 were lost for (\d+) ms", folded(bgp))
    assert found is not None
    assert 0 < int(found[1]) < 3000  # the hold time is 9 s
    assert {"11", "13"} == next_hops(bgp)[-1]


@pytest.fixture
def web_sites(demo: subprocess.CompletedProcess[str]) -> str:
    return section(demo.stdout, "Ingress: web sites behind one address")


@pytest.mark.needs("nginx")
def test_two_hosts_are_served_at_an_address_that_a_speaker_announces(web_sites: str) -> None:
    assert re.search(r"✓ Service entry gets an address: 192\.168\.20\.20 ", web_sites)
    assert re.search(r"Both names lead to 192\.168\.20\.20, which n[12] announces", folded(web_sites))
    answers = curls(web_sites)
    assert ["HTTP/1.1 308 Permanent Redirect", "Location: https://shop.example"] == answers["http://shop.example/"]
    secure = answers["https://shop.example/"]
    assert any(line.startswith("subject: ") and "CN=shop.example" in line for line in secure)
    assert any(re.match(r"HTTP/\S+ 200", line) for line in secure)
    assert any(re.match(r"(?i)x-served-by: (new-)?shop-\d/n[12]$", line) for line in secure)


@pytest.mark.needs("nginx")
def test_a_path_is_rewritten_before_the_pod_sees_it(web_sites: str) -> None:
    status, served = curls(web_sites)["http://www.example/blog/"]
    assert "HTTP/1.1 200 OK" == status
    assert re.match(r"(?i)x-served-by: blog-0/n[12]$", served)
    assert "stands in its own log: GET / HTTP/1." in folded(web_sites)


@pytest.mark.needs("nginx")
def test_a_canary_gets_its_part_of_the_requests(web_sites: str) -> None:
    counts = dict(re.findall(r"^ +((?:new-)?shop) +(\d+)$", web_sites, re.MULTILINE))
    assert ({"shop", "new-shop"}, 100) == (set(counts), sum(map(int, counts.values())))
    assert 5 < int(counts["new-shop"]) < 60  # 30 in the mean; outside once in 10**8 runs


@pytest.mark.needs("nginx-lua")
def test_a_pod_more_takes_no_reload(web_sites: str) -> None:
    assert re.search(r"✓ shop is scaled to 3 pods: shop-2 answers \d+\.\d s after it was ready", web_sites)
    rows = re.findall(r"^ +(n\d) {3,}(\d+(?: \d+)*) {3,}(\d+(?: \d+)*) {3,}(.+)$", web_sites, re.MULTILINE)
    assert [("n1", "0"), ("n2", "0")] == [(node, reloads) for node, _, _, reloads in rows]
    assert all(before == after for _, before, after, _ in rows)


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
    assert 6 == len(ROW.findall(done.stdout))


def test_a_chapter_whose_program_is_missing_says_in_a_line_how_to_get_it(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tools))
    said = io.StringIO()
    for tell in (bgp_chapter, web_sites_chapter):
        tell(Screen(said), [])
    router, nginx = folded(said.getvalue()).split(" Note: ")
    assert router.startswith("Note: this chapter needs a router, BIRD,") and router.endswith("apt-get install bird2")
    assert nginx.startswith("this chapter needs nginx,") and nginx.endswith("nginx-light libnginx-mod-http-lua")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has room for 107 bytes, and pytest's own take up to 80."""
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        yield Path(folder)


def test_an_interrupt_ends_it_and_leaves_nothing_behind(short_path: Path) -> None:
    process = subprocess.Popen(
        [*LBCORE, "demo", "--quick"],
        env=environment(TMPDIR=str(short_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "pods are ready" in line:
            break
    assert [] != list(short_path.iterdir()), process.stderr.read() if process.stderr is not None else ""
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert (1, "\nAborted!\n") == (process.returncode, said)
    assert [] == list(short_path.iterdir())
    assert [] == [pid for pid in Path("/proc").glob("[0-9]*") if str(short_path).encode() in command_of(pid)]


def command_of(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


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
