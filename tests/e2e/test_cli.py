"""The command line as people and scripts meet it: help, tables, JSON and YAML, reasons, and errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

import lbcore as package
from fleet import BASE, Fleet, advertisement, lbcore, pool, running, service, wait_for
from lbcore.cli.main import cli
from lbcore.cli.show import age
from lbcore.election import elect
from lbcore.lab import Lab

needs_lab = pytest.mark.needs("netns", "packet", "nft", "nginx", "curl")


def ask(folder: Path, *arguments: str) -> Result:
    """A command that only reads, run in this process."""
    return CliRunner().invoke(cli, [*arguments, "--cluster", str(folder)], catch_exceptions=False)


def ask_for_data(folder: Path, *arguments: str) -> Any:
    """The same in JSON, which YAML must agree with."""
    from_json = json.loads(ask(folder, *arguments, "-o", "json").stdout)
    assert from_json == yaml.safe_load(ask(folder, *arguments, "-o", "yaml").stdout)
    return from_json


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a controller made of five Services and three pools; nobody runs any more."""
    path = tmp_path_factory.mktemp("cluster")
    pools = (
        pool("first", "192.168.20.20/31", "fd00:20::/112")
        + pool("manual", "192.168.21.0/24", autoAssign=False)
        + pool("six", "fd00:66::/64")
        + advertisement(ipAddressPools=["first"])
    )
    services = (
        service("a-static", loadBalancerIP="192.168.20.21")
        + service("b-dual", ipFamilyPolicy="RequireDualStack")
        + service("c-waiting")
        + service("d-wrong", loadBalancerIP="10.0.0.1")
        + service("e-internal", type="ClusterIP", clusterIP="10.96.0.7")
    )
    (path / "pools.yaml").write_text(pools, encoding="utf-8")
    (path / "services.yaml").write_text(services, encoding="utf-8")
    statuses = path / ".lbcore" / "services" / "default"
    with running("controller", "--cluster", str(path), log=path / ".log"):
        wait_for(lambda: len(list(statuses.glob("[!.]*.json"))) == 4, "four statuses")
    return path


# Help


def commands(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield names, command
    if isinstance(command, click.Group):
        for name, each in sorted(command.commands.items()):
            yield from commands(each, *names, name)


COMMANDS = {" ".join(("lbcore", *names)): command for names, command in commands(cli)}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_every_option_says_what_it_is_for(line: str) -> None:
    command = COMMANDS[line]
    assert command.help
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert [] == [option.opts for option in options if not option.help]
    shown = CliRunner().invoke(cli, [*line.split()[1:], "--help"])
    assert 0 == shown.exit_code
    assert all(option.hidden or option.opts[-1] in shown.stdout for option in options)
    assert "..." not in shown.stdout.partition("\nCommands:")[2]  # no summary is cut off
    assert "\\b" not in shown.stdout


def test_the_help_begins_with_commands_that_can_be_copied() -> None:
    lines = [line.strip() for line in CliRunner().invoke(cli, ["--help"]).stdout.splitlines()]
    assert "One machine:       lbcore run --cluster FOLDER" in lines
    assert "lbcore explain NAMESPACE/NAME --cluster FOLDER" in lines


def test_the_version_is_the_package_s() -> None:
    assert f"lbcore {package.__version__}\n" == CliRunner().invoke(cli, ["--version"]).stdout


# get


def test_services_have_kubectls_columns(folder: Path) -> None:
    table = rows(ask(folder, "get", "services").stdout)
    assert [
        ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"],
        ["default", "a-static", "LoadBalancer", "<none>", "192.168.20.21", "80/TCP", "<unknown>"],
        ["default", "b-dual", "LoadBalancer", "<none>", "192.168.20.20,fd00:20::", "80/TCP", "<unknown>"],
        ["default", "c-waiting", "LoadBalancer", "<none>", "<pending>", "80/TCP", "<unknown>"],
        ["default", "d-wrong", "LoadBalancer", "<none>", "<pending>", "80/TCP", "<unknown>"],
        ["default", "e-internal", "ClusterIP", "10.96.0.7", "<none>", "80/TCP", "<unknown>"],
    ] == table


def test_wide_adds_selector_pool_and_who_announces_at_the_right(folder: Path) -> None:
    plain, wide = (rows(ask(folder, "get", "services", "-o", output).stdout) for output in ("table", "wide"))
    assert plain == [row[:7] for row in wide]
    assert ["SELECTOR", "POOL", "ANNOUNCED", "BY"] == wide[0][7:]
    assert [["app=web", "first"]] * 2 == [row[7:9] for row in wide[1:3]]


def test_columns_stand_below_their_headings(folder: Path) -> None:
    heading, *lines = ask(folder, "get", "services").stdout.splitlines()
    at = heading.index("EXTERNAL-IP")
    assert all(line[at - 1] == " " and line[at] != " " for line in lines)


def test_services_as_data_have_the_same_fields_whatever_their_state(folder: Path) -> None:
    found = ask_for_data(folder, "get", "services")["services"]
    fields = ["namespace", "name", "type", "addresses", "pool", "announcedBy", "ports", "reason", "message"]
    assert [fields] * 5 == [list(each) for each in found]
    by_name = {each["name"]: each for each in found}
    assert ["192.168.20.20", "fd00:20::"] == by_name["b-dual"]["addresses"]
    assert [{"port": 80, "protocol": "TCP"}] == by_name["b-dual"]["ports"]
    assert {
        "a-static": None,
        "b-dual": None,
        "c-waiting": "PoolExhausted",
        "d-wrong": "AddressNotInPool",
        "e-internal": None,
    } == {name: each["reason"] for name, each in by_name.items()}


def test_services_of_one_namespace_only(folder: Path) -> None:
    assert ask(folder, "get", "services").stdout == ask(folder, "get", "services", "-n", "default").stdout
    assert "" == ask(folder, "get", "services", "-n", "other").stdout


def test_pools_tell_what_they_may_give_and_what_is_in_use(folder: Path) -> None:
    assert [
        ["first", "true", "false", "192.168.20.20/31,fd00:20::/112", "3", "65535"],
        ["manual", "false", "false", "192.168.21.0/24", "0", "256"],
        ["six", "true", "false", "fd00:66::/64", "0", str(2**64)],
    ] == rows(ask(folder, "get", "pools").stdout)[1:]
    first = ask_for_data(folder, "get", "pools")["pools"][0]
    assert (2, 1, 0, 65535) == tuple(
        first[each] for each in ("assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6")
    )


@pytest.mark.parametrize("what", ["services", "pools"])
def test_an_empty_folder_is_no_error_and_no_output(what: str, tmp_path: Path) -> None:
    shown = ask(tmp_path, "get", what)
    assert (0, "", "No resources found.\n") == (shown.exit_code, shown.stdout, shown.stderr)
    assert {what: []} == ask_for_data(tmp_path, "get", what)
    assert [] == list(tmp_path.iterdir())  # looking leaves no trace


def test_members_of_a_folder_where_nobody_keeps_a_record_are_to_be_asked_themselves(tmp_path: Path) -> None:
    result = ask(tmp_path, "get", "members")
    assert (0, "") == (result.exit_code, result.stdout)
    assert "--ask HOST:PORT" in result.stderr
    assert {"members": [], "views": []} == ask_for_data(tmp_path, "get", "members")
    nobody = CliRunner().invoke(cli, ["get", "members", "--cluster", str(tmp_path), "--ask", "[::1]:1"])
    assert "speaker [::1]:1 does not answer" in str(nobody.exception)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (303, "5m3s"),
        (600, "10m"),
        (3 * 3600 + 60, "3h1m"),
        (47 * 3600 + 59, "47h"),
        (2 * 86400 + 4 * 3600, "2d4h"),
        (30 * 86400, "30d"),
        (3 * 365 * 86400 + 86400, "3y1d"),
        (9 * 365 * 86400 + 86400, "9y"),
    ],
)
def test_ages_read_as_kubectl_writes_them(seconds: int, text: str) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert text == age((now - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ"), now)


@pytest.mark.parametrize(("created", "text"), [("", "<unknown>"), ("yesterday", "<invalid>"), ("2030-01-01", "0s")])
def test_an_age_that_nobody_knows_is_said_to_be_unknown(created: str, text: str) -> None:
    assert text == age(created, datetime(2030, 1, 1, tzinfo=UTC))


# explain: why a Service waits, pool by pool


def test_a_waiting_service_is_told_what_every_pool_says(folder: Path) -> None:
    found = ask_for_data(folder, "explain", "c-waiting")
    assert {"first": "PoolExhausted", "manual": "PoolNotAutomatic", "six": "PoolLacksFamily"} == {
        each["pool"]: each["reason"] for each in found["pools"]
    }
    assert ([], "PoolExhausted", "NoAddress") == (
        found["addresses"],
        found["reason"],
        found["notAnnounced"]["reason"],
    )
    text = ask(folder, "explain", "default/c-waiting").stdout
    assert "Service default/c-waiting: no address" in text
    assert "metallb.io/address-pool: manual" in text  # and what one could do about it


def test_an_address_that_no_pool_has_is_explained_in_one_line_and_without_an_empty_table(folder: Path) -> None:
    text = ask(folder, "explain", "d-wrong").stdout
    assert 1 == text.count("10.0.0.1 is in no address pool")
    assert "POOL" not in text


def test_a_service_that_asks_for_no_address_is_not_told_which_it_could_have(folder: Path) -> None:
    text = ask(folder, "explain", "e-internal").stdout
    assert "NotLoadBalancer" in text
    assert "would give" not in text


def test_what_a_controller_would_give_is_not_shown_as_given(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(pool("first", "fd00::/126") + service(ipFamilies=["IPv6"]), encoding="utf-8")
    text = ask(tmp_path, "explain", "web").stdout
    assert "Service default/web: no address" in text
    assert "A controller would give it fd00:: now; is one running on this folder?" in text
    assert ([], ["fd00::"]) == tuple(
        ask_for_data(tmp_path, "explain", "web")[each] for each in ("addresses", "decided")
    )
    assert "<pending>" in ask(tmp_path, "get", "services").stdout
    assert ["0", "4"] == rows(ask(tmp_path, "get", "pools").stdout)[1][-2:]


def test_refused_configuration_is_told_beside_every_answer(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(pool("first", "10.0.0.9-10.0.0.1") + service(), encoding="utf-8")
    shown = ask(tmp_path, "get", "services")
    assert 0 == shown.exit_code
    assert "bad.yaml#1: IPAddressPool metallb-system/first: spec.addresses[0]" in shown.stderr
    assert 2 == len(rows(shown.stdout))


# explain: who announces, node by node


@pytest.fixture(scope="module")
def logged() -> Iterator[Fleet]:
    """A cluster whose daemons log everything as JSON; n3 is kept out, and a Service is announced."""
    options = ("--log-format", "json", "--log-level", "debug")
    with Lab() as lab:
        lab.apply(BASE)
        lab.label_node("n3", {"node.kubernetes.io/exclude-from-external-load-balancers": ""})
        fleet = Fleet(lab)
        fleet.start_controller(*options)
        for node in lab.nodes:
            fleet.start_speaker(node, *options)
        fleet.serve("web", ipFamilyPolicy="RequireDualStack")
        fleet.wait_for_members("n1", "n2", "n3")
        yield fleet


@pytest.mark.slow
@needs_lab
def test_the_announcer_is_named_and_every_other_node_says_why_it_is_not(logged: Fleet) -> None:
    addresses = logged.lab.addresses("web")
    winner = logged.announcer(addresses, elect(["n1", "n2"], addresses[0]))  # not whoever is there first
    (loser,) = {"n1", "n2"} - {winner}
    for address in addresses:
        verdicts = logged.json("explain", "web")["announcers"][str(address)]
        expected = [(winner, "OK"), (loser, "NotElected"), ("n3", "NodeExcluded")]
        assert expected == [(each["node"], each["reason"]) for each in verdicts]
    text = logged.cli("explain", "web").stdout
    table = [row[:3] for row in rows(text) if row and row[0] == str(addresses[1])]
    assert [[str(addresses[1]), winner, "announces"]] == table[:1]
    assert f"{winner} ranks before it" in text
    logged.speakers[loser].stop()
    verdicts = logged.json("explain", "web")["announcers"][str(addresses[0])]
    assert (loser, "NotAMember") in [(each["node"], each["reason"]) for each in verdicts]


# Logs


def log_lines(fleet: Fleet, program: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fleet.log(program).splitlines()]


@pytest.mark.slow
@needs_lab
def test_json_logs_are_one_object_a_line_with_the_fields_one_searches_for(logged: Fleet) -> None:
    logged.lab.apply(service("stranger", loadBalancerIP="10.99.0.1"))
    logged.wait_for_log("controller", "service waits", "default/stranger")
    addresses = {str(address) for address in logged.lab.addresses("web")}
    said = [line for program in ("speaker-n1", "speaker-n2", "speaker-n3") for line in log_lines(logged, program)]
    announcing = [line for line in said if line["event"] == "announcing"]
    assert addresses == {line["ip"] for line in announcing}
    assert {"default/web"} == {line["service"] for line in announcing}
    assert {"n1", "n2"} >= {line["node"] for line in announcing}
    assert all(line["timestamp"] and line["level"] and line["component"] == "speaker" for line in announcing)
    controller = log_lines(logged, "controller")
    (given,) = [line for line in controller if line["event"] == "service addresses"]
    assert ("default/web", addresses) == (given["service"], set(given["ip"].split(",")))
    waits = [line for line in controller if line["event"] == "service waits"]
    waiting = [line for line in waits if line.get("service") == "default/stranger"]
    assert ["AddressNotInPool"] == [line["reason"] for line in waiting]


@pytest.mark.slow
@needs_lab
def test_each_object_of_the_configuration_is_one_line_of_every_daemon(logged: Fleet) -> None:
    for program in ("controller", "speaker-n1", "speaker-n2", "speaker-n3"):
        taken = [line["object"] for line in log_lines(logged, program) if line["event"] == "configuration in force"]
        expected = ["IPAddressPool metallb-system/first", "IPAddressPool metallb-system/reserved"]
        assert [*expected, "L2Advertisement metallb-system/l2"] == taken


@pytest.mark.needs("packet")
@pytest.mark.parametrize("form", ["json", "text"])
def test_the_answering_process_logs_in_the_format_of_its_speaker(form: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "lbcore.daemons.reflex", "--socket", str(tmp_path / "s"), "--node", "Bad_Name"]
    done = subprocess.run([*argv, "--log-format", form], capture_output=True, text=True, timeout=30, check=False)
    assert 78 == done.returncode
    (line,) = done.stderr.splitlines()
    if form == "json":
        fields = json.loads(line)
        assert ("reflex", "Bad_Name", "warning") == (fields["component"], fields["node"], fields["level"])
    else:
        assert "Z [warning  ] 'Bad_Name' is no node's name" in line
        assert line.endswith("component=reflex node=Bad_Name")


# Errors


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("explain", "absent"), 1, "lbcore: there is no Service default/absent in "),
        (("explain", "a/b/c"), 1, "lbcore: 'a/b/c' is neither an address nor a Service's name; write "),
        (("get", "secrets"), 2, "No such command 'secrets'"),
        (("get", "services", "-o", "xml"), 2, "'xml' is not one of 'table', 'wide', 'json', 'yaml'"),
        (("speaker", "--exclude-interface", "("), 2, "'(' is no regular expression"),
        (("speaker", "--refresh", "-1"), 2, "-1.0 is not in the range x>=0"),
    ],
)
def test_a_mistake_is_said_without_a_traceback(
    folder: Path, arguments: tuple[str, ...], status: int, text: str
) -> None:
    done = lbcore(*arguments, "--cluster", str(folder))
    assert (status, "") == (done.returncode, done.stdout)
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert status == 2 or 1 == len(done.stderr.splitlines())


@pytest.mark.parametrize("arguments", [("get", "services"), ("explain", "web")])
def test_a_folder_that_is_not_there_is_named(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = lbcore(*arguments, "--cluster", str(tmp_path / "absent"))
    assert (1, "") == (done.returncode, done.stdout)
    assert f"lbcore: there is no folder {tmp_path / 'absent'}" in done.stderr
    assert 1 == len(done.stderr.splitlines())


def test_a_command_without_its_cluster_says_how_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "LBCORE_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    done = lbcore("get", "services")
    assert 2 == done.returncode
    assert "which cluster? Name a folder of manifests (--cluster FOLDER) or an API server" in done.stderr
