"""MetalLB's flags and variables: each is an option, or is named with the reason; the page of migration has them all."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from lbcore.cli.main import cli
from lbcore.cli.metallb import FLAGS, Flag, Use
from lbcore.cli.serve import controller_command, run_command, speaker_command

PAGE = Path(__file__).parent.parent.parent / "docs/migrate-from-metallb.md"
COMMANDS = {"controller": controller_command, "speaker": speaker_command}
TAKEN = [each for each in FLAGS if each.use in (Use.SAME, Use.DIFFERENT) and each.name]
IGNORED = [each for each in FLAGS if each.use is Use.IGNORED]
REFUSED = [each for each in FLAGS if each.use is Use.REFUSED]

# MetalLB at commit 7938d3f8: controller/main.go and speaker/main.go.
CONTROLLER = """port namespace ml-secret-name deployment log-level pprof-bind-address health-probe-port
disable-cert-rotation cert-dir cert-service-name lb-class webhook-mode webhook-secret pod-name
webhook-http2 tls-min-version tls-cipher-suites tls-curve-preferences metrics-cert-dir kubeconfig"""
SPEAKER = """port namespace host ml-bindaddr ml-bindport ml-labels ml-secret-key-path ml-wan-config node-name
pod-name log-level pprof-bind-address health-probe-port lb-class ignore-exclude-lb frrk8s-namespace
frrk8s-secret-passthrough bgp-debounce-timeout tls-min-version tls-cipher-suites
tls-curve-preferences metrics-cert-dir kubeconfig"""


VARIABLES = """METALLB_NAMESPACE METALLB_ML_SECRET_NAME METALLB_DEPLOYMENT METALLB_POD_NAME METALLB_HOST
METALLB_NODE_NAME METALLB_ML_BIND_ADDR METALLB_ML_BIND_PORT METALLB_ML_LABELS
METALLB_ML_SECRET_KEY_PATH METALLB_BGP_TYPE METALLB_BGP_DEBOUNCE_TIMEOUT FRRK8S_NAMESPACE"""


def name_of(flag: Flag) -> str:
    return (flag.name or flag.variable) + "-".join(("", *flag.on))


def run(*arguments: str, **environment: str) -> Result:
    """The command goes as far as its folder of manifests, which is not there; what was to be said is said before."""
    return CliRunner(env=environment).invoke(cli, [*arguments, "--cluster", "/nonexistent"])


@pytest.mark.parametrize(("program", "flags"), [("controller", CONTROLLER), ("speaker", SPEAKER)])
def test_every_flag_of_metallb_is_known_for_its_program_and_no_other(program: str, flags: str) -> None:
    known = sorted(each.name.removeprefix("--") for each in FLAGS if program in each.on and each.name)
    assert sorted(flags.split()) == known
    assert sorted(VARIABLES.split()) == sorted(each.variable for each in FLAGS if each.variable)


@pytest.mark.parametrize("flag", TAKEN, ids=name_of)
def test_what_is_taken_is_an_option_of_that_name_and_reads_that_variable(flag: Flag) -> None:
    for program in (*(COMMANDS[name] for name in flag.on), run_command):
        found = [each for each in program.params if isinstance(each, click.Option) and flag.name in each.opts]
        if program is run_command and not found:
            assert ("controller",) == flag.on, "of a webhook: a machine alone has none"
            continue
        (option,) = found
        variables = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or ())
        assert not flag.variable or flag.variable in variables


@pytest.mark.parametrize("flag", [each for each in TAKEN if each.switch], ids=name_of)
@pytest.mark.parametrize("spelling", ["{}", "{}=true", "{}=false"])
def test_a_switch_may_be_spelt_as_go_programs_have_it(flag: Flag, spelling: str) -> None:
    result = run(flag.on[0], spelling.format(flag.name))
    assert "there is no folder" in str(result.exception), result.output


@pytest.mark.parametrize("flag", IGNORED, ids=name_of)
def test_what_has_no_effect_is_said_to_have_none_in_one_line(flag: Flag) -> None:
    for program in flag.on:
        value = "true" if flag.switch else "some"
        if flag.name:
            said = run(program, f"{flag.name}={value}").output
            assert 1 == said.count(f"{flag.name} of MetalLB has no effect: {flag.note}\n")
            assert "" == run(program, f"{flag.name}=").output
        if flag.variable:
            said = run(program, **{flag.variable: value}).output
            assert 1 == said.count(f"{flag.variable} of MetalLB has no effect: {flag.note}\n")


@pytest.mark.parametrize("flag", REFUSED, ids=name_of)
def test_what_would_leave_less_safe_than_believed_is_refused_and_its_empty_value_is_not(flag: Flag) -> None:
    for program in flag.on:
        result = run(program, f"{flag.name}=x")
        assert (2, True) == (result.exit_code, f"{flag.name} of MetalLB is not taken: {flag.note}" in result.output)
        assert "there is no folder" in str(run(program, f"{flag.name}=").exception)


def test_an_address_asks_for_gossip_and_what_is_set_for_it_in_vain_is_said() -> None:
    line = "METALLB_ML_BIND_ADDR) has no effect with --membership folder"
    assert line not in run("speaker", METALLB_ML_BIND_ADDR="2001:db8::1").output
    assert line in run("speaker", "--membership=folder", METALLB_ML_BIND_ADDR="2001:db8::1").output


def row(flag: Flag) -> str:
    spelt = ", ".join(f"`{each}`" for each in (flag.name, flag.variable) if each)
    return f"| {spelt} | {' and '.join(flag.on)} | {flag.use.value} | {flag.note} |"


def test_the_page_of_migration_has_every_row() -> None:
    rows = "\n".join(row(each) for each in FLAGS)
    assert rows in PAGE.read_text(encoding="utf-8"), f"the table should be:\n{rows}"
