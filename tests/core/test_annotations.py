"""Annotations: every one has a rule or a word, what is bad about an access control denies, and nothing else happens."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from lbcore.annotations.options import OPTIONS, read_options
from lbcore.annotations.rules import Bad, State
from lbcore.annotations.table import NOT_SUPPORTED, PREFIX, RULES, read
from lbcore.proxy import Options, Policies, Size

NASTY = (
    '"', "'", "\\", ";", "{", "}", "#", "\n", "\r", "\t", "\0", "\u2028", "$host", "${", "$", "$(", "`", "*/", "\ud800",
    "=", "~", "^~", "@", "..", "%0a", "{{", "x; load_module /x.so", '"; include /etc/passwd; "', "0/33", "::/129",
    "javascript:", "http://x\n", "http://u:p@x", "(a+)+$", "(?<x>", "A" * 5000, "/a\n", "true\n", "1\n",
)  # fmt: skip
VALUES = (
    st.sampled_from(NASTY) | st.text(max_size=20) | st.sampled_from(["true", "1", "on", "/x", "https://x/y", "a,b"])
)


@given(st.dictionaries(st.sampled_from([*RULES, *NOT_SUPPORTED]), VALUES, max_size=8))
def test_every_value_comes_to_policies_and_a_finding_for_each(given_: dict[str, str]) -> None:
    policies, findings = read({f"{PREFIX}/{name}": text for name, text in given_.items()}, "ns")
    assert set(given_) <= {each.annotation for each in findings}
    assert bool(policies.denied) is any(each.state is State.DENIED for each in findings)


@pytest.mark.parametrize("name", sorted(name for name, rule in RULES.items() if rule.bad is Bad.DENIED))
def test_a_bad_access_control_denies(name: str) -> None:
    policies, _ = read({f"{PREFIX}/{name}": "\0"}, "ns")
    assert policies.denied.startswith(name)


@pytest.mark.parametrize("name", sorted(name for name, rule in RULES.items() if rule.bad is Bad.DROPPED))
def test_a_bad_knob_is_dropped(name: str) -> None:
    policies, [finding] = read({f"{PREFIX}/{name}": "\0"}, "ns")
    assert (Policies(), State.DROPPED) == (policies, finding.state)


@pytest.mark.parametrize("name", sorted(RULES))
def test_nothing_hides_behind_a_line_end(name: str) -> None:
    """CVE-2024-7646: a validator that looked at one line only."""
    for value in ("true", "1", "on", "/x", "https://x.example/", "GET", "a"):
        _, findings = read({f"{PREFIX}/{name}": f"{value}\nevil;"}, "ns")
        assert any(each.state is not State.SUPPORTED for each in findings), value


@pytest.mark.parametrize("name", sorted(RULES))
def test_digits_of_other_scripts_are_no_numbers(name: str) -> None:
    """Python's `\\d` takes them, and nginx then refuses the whole host."""
    beside = {"auth-url": "https://auth.example/", "auth-cache-key": "$remote_addr", "enable-cors": "true"}
    for value in ("3", "3m", "200 3m", "10.0.0.0/3", "https://x.example:3", "http://3.3.3.3/", "8k 3", "CN=3"):
        given_ = beside | {name: value.replace("3", "\u0663")}
        policies, _ = read({f"{PREFIX}/{each}": text for each, text in given_.items()}, "ns")
        kept = repr(evolve(policies, denied=""))  # why it denies is said with the text itself
        assert policies.denied or "\u0663" not in kept, (value, kept)


def test_what_is_not_known_is_named() -> None:
    _, [finding] = read({f"{PREFIX}/no-such": "x", "other/thing": "y"}, "ns")
    assert ("no-such", State.UNKNOWN) == (finding.annotation, finding.state)


def test_an_old_name_counts_while_the_new_one_is_not_there() -> None:
    old, new = f"{PREFIX}/whitelist-source-range", f"{PREFIX}/allowlist-source-range"
    assert ("10.0.0.0/8",) == read({old: "10.1.2.3/8"}, "ns")[0].access.allow
    assert ("2001:db8::/32",) == read({old: "10.0.0.0/8", new: "2001:db8::/32"}, "ns")[0].access.allow


def test_options_keep_their_default_for_what_is_bad_and_say_so() -> None:
    options, problems = read_options({"proxy-body-size": "8m", "hsts": "perhaps", "no-such": "1"})
    assert Size(8, "m") == options.tuning.body_size
    assert options.hsts is True
    assert ["hsts: ", "no-such has no effect"] == [
        each[:6] if each.startswith("hsts") else each[:21] for each in problems
    ]


@given(st.dictionaries(st.sampled_from(sorted(OPTIONS)), VALUES, max_size=6))
def test_options_are_total(data: dict[str, str]) -> None:
    assert isinstance(read_options(data)[0], Options)


@pytest.mark.parametrize("name", ["http-snippet", "server-snippet", "location-snippet", "enable-modsecurity"])
def test_an_option_that_kept_somebody_out_and_has_no_effect_is_named_with_that(name: str) -> None:
    _, [problem] = read_options({name: "deny all;"})
    assert problem.startswith(f"{name} has no effect")
    assert "keeps" in problem


def test_a_list_of_who_may_come_that_cannot_be_read_keeps_everybody_out() -> None:
    options, problems = read_options({"whitelist-source-range": "10.0.0.0/99"})
    assert ("127.0.0.1/32",) == options.access.allow
    assert "kept out" in problems[0]
