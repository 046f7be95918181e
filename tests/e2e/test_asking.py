"""`plan`, `check` and `explain` as a sceptical operator meets them: wrong paths, broken files, odd spellings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet import advertisement, manifest, pool, service
from lbcore.cli.main import cli

PROJECT = Path(__file__).parent.parent.parent
NODE = "---\n{kind: Node, apiVersion: v1, metadata: {name: n1}}\n"
ENDPOINTS = """---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.2], nodeName: n1}]
"""
SIX = pool("home", "2001:db8::/126", "192.168.20.20-192.168.20.30") + advertisement()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)


def state(folder: Path, text: str = SIX + service("web", ipFamilies=["IPv6"]) + NODE) -> Path:
    folder.mkdir()
    (folder / "all.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_readme_shows_what_plan_prints_when_an_edit_takes_an_address_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    services = service("mail", loadBalancerIP="192.168.20.25") + service("web") + ENDPOINTS + NODE
    for name, range_ in (("now", "192.168.20.20-192.168.20.30"), ("edited", "192.168.20.20-192.168.20.24")):
        state(tmp_path / name, pool("first", range_) + advertisement() + services)
    result = run("plan", "now/", "edited/")
    shown = ["$ lbcore plan now/ edited/", *(line.rstrip() for line in result.stdout.splitlines())]
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert (1, True) == (result.exit_code, "\n".join(f"    {line}" for line in shown) + "\n" in readme), shown


@pytest.mark.parametrize("content", [b"\x00\xff\xfe", b"just: [open\n", b"- a\n"], ids=["bytes", "yaml", "list"])
def test_a_plan_of_what_is_no_manifest_is_no_clean_plan(content: bytes, tmp_path: Path) -> None:
    """Nobody knows what would have stood there: a gate must not open."""
    folder = state(tmp_path / "now")
    assert 0 == run("plan", folder).exit_code
    (folder / "broken.yaml").write_bytes(content)
    alone = tmp_path / "alone.yaml"
    alone.write_bytes(content)
    for states in ([folder], [state(tmp_path / "sound"), folder], [alone]):
        result = run("plan", *states)
        assert 2 == result.exit_code
        assert "problem: " in result.stderr
        assert "a document is no manifest at all" in result.stderr


def test_a_plan_names_the_file_in_a_state_that_cannot_be_read(tmp_path: Path) -> None:
    folder = state(tmp_path / "now")
    (folder / "gone.yaml").symlink_to(tmp_path / "nowhere")
    result = run("plan", folder)
    assert (2, f"lbcore: cannot read {folder}/gone.yaml: No such file or directory\n") == (
        result.exit_code,
        result.stderr,
    )


def test_an_empty_state_is_remarked_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("plan", state(tmp_path / "now"), tmp_path / "empty")
    assert f"warning: {tmp_path}/empty holds no objects" in result.stderr
    result = run("check", tmp_path / "empty")
    assert (0, True) == (result.exit_code, f"lbcore: {tmp_path}/empty holds no manifests" in result.stderr)


def test_a_speaker_on_a_node_that_does_not_exist_is_remarked_on(tmp_path: Path) -> None:
    folder = state(tmp_path / "now")
    assert "" == run("plan", folder, "--speakers", "n1").stderr
    result = run("plan", folder, "--speakers", "n1,n9")
    assert (0, "warning: --speakers: there is no Node n9; Nodes: n1\n") == (result.exit_code, result.stderr)


def test_an_object_in_two_files_is_a_problem_of_a_plan(tmp_path: Path) -> None:
    folder = state(tmp_path / "now")
    (folder / "again.yaml").write_text(service("web", ipFamilies=["IPv6"]), encoding="utf-8")
    result = run("plan", folder)
    assert "Service default/web: metadata.name: is defined here and in" in result.stderr


def test_a_plan_in_json_goes_down_a_pipe_alone(tmp_path: Path) -> None:
    folder = state(tmp_path / "now")
    command = [sys.executable, "-m", "lbcore.cli.main", "plan", str(folder), "--speakers", "n9", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    ((web,), said) = (json.loads(done.stdout)["services"], done.stderr)
    assert ("default", "gain", ["2001:db8::"]) == (web["namespace"], web["change"], web["addresses"])
    assert "there is no Node n9" in said


def test_a_plan_in_json_has_the_words_that_were_promised_and_no_other(tmp_path: Path) -> None:
    whole = json.loads(run("plan", state(tmp_path / "now"), "-o", "json").stdout)
    assert ["problems", "services"] == sorted(whole)
    (web,) = whole["services"]
    words = ["namespace", "name", "change", "addresses", "pool", "reason", "message", "announcers"]
    assert set(words) <= web.keys() <= {*words, "before"}
    assert {"2001:db8::": {"l2": [], "bgp": []}} == web["announcers"]  # nothing advertises the pool there
    assert ("home", None, None) == (web["pool"], web["reason"] or None, web["message"] or None)


def test_a_plan_shows_the_routes_that_change_and_counts_the_others(tmp_path: Path) -> None:
    spec = {"myASN": 64513, "peerASN": 64512, "peerAddress": "2001:db8:f::1"}
    routed = SIX + service("web", ipFamilies=["IPv6"]) + ENDPOINTS + NODE
    routed += manifest("metallb.io/v1beta2", "BGPPeer", "tor", "metallb-system", spec)
    texts = [
        routed + manifest("metallb.io/v1beta1", "BGPAdvertisement", "all", "metallb-system", {"localPref": number})
        for number in (0, 7)
    ]
    now, edited = (state(tmp_path / name, text) for name, text in zip(("now", "edited"), texts, strict=True))
    shown = run("plan", now, edited).stdout.splitlines()
    row = ["2001:db8::/128", "n1", "tor", "change", "plain", "localPref", "7"]
    assert ["ROUTE", "NODE", "PEER", "CHANGE", "BEFORE", "AFTER"] == shown[3].split()
    assert (row, "0 routes stay as told before") == (shown[4].split(), shown[5])
    assert "1 route stays as told before" == run("plan", now, now).stdout.splitlines()[-1]
    (route,) = json.loads(run("plan", now, edited, "-o", "json").stdout)["routes"]
    paths = {"before": {"localPref": 0, "communities": []}, "after": {"localPref": 7, "communities": []}}
    assert {"prefix": "2001:db8::/128", "node": "n1", "peer": "tor", "change": "change", **paths} == route


@pytest.mark.parametrize("text", ["2001:db8::", "2001:DB8:0::0", "[2001:db8::]"])
def test_an_ipv6_address_is_explained_however_it_is_spelt(text: str, tmp_path: Path) -> None:
    shown = run("explain", text, "--cluster", state(tmp_path / "now")).stdout
    assert shown.startswith("2001:db8:: is in pool home, held by ")


def test_an_address_outside_all_pools_is_explained(tmp_path: Path) -> None:
    result = run("explain", "2001:db8:ffff::1", "--cluster", state(tmp_path / "now"))
    assert 0 == result.exit_code
    assert "2001:db8:ffff::1 is in no pool, held by no Service" in result.stdout
    assert "or add 2001:db8:ffff::1 to one" in result.stdout


@pytest.mark.parametrize("text", ["", "fe80::1%eth0", "192.168.20.20/32", "a/b/c", "192.168.20.300", "Web"])
def test_what_is_neither_an_address_nor_a_name_is_said_to_be_neither(text: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lbcore.cli.main", "explain", text, "--cluster", str(state(tmp_path / "now"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    expected = f"{text!r} is neither an address nor a Service's name; write 192.0.2.1, 2001:db8::1 or [NAMESPACE/]NAME"
    assert (1, f"lbcore: {expected}\n") == (done.returncode, done.stderr)


def test_an_ipv4_mapped_address_is_told_its_other_spelling(tmp_path: Path) -> None:
    folder = state(tmp_path / "now")
    command = [sys.executable, "-m", "lbcore.cli.main", "explain", "::ffff:192.0.2.1", "--cluster", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (1, True) == (done.returncode, done.stderr.endswith("write 192.0.2.1\n"))
