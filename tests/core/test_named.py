"""What options and annotations name: entries of ConfigMaps, and a Secret; whatever stands in them."""

from __future__ import annotations

import base64

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from lbcore.annotations.maps import answered, fastcgi_params, sent
from lbcore.annotations.named import named_by, resolve
from lbcore.annotations.options import read_options
from lbcore.ingress import ConfigMap, ObjectKey, Secret
from lbcore.proxy import Options, Variable

KEY = ObjectKey("ns", "named")
TEXTS = st.text(max_size=12) | st.sampled_from(
    ['"; x', "$document_root", "$host", "${request_uri}!", "$", "a\nb", "\0", "\ud800", "x" * 3000, "~", "\\"]
)
NAMES = st.text(max_size=8) | st.sampled_from(["X-A", "Host", "Content-Length", "SCRIPT_FILENAME", "a b", "X-A:", "$x"])


@given(st.dictionaries(NAMES, TEXTS, max_size=5))
def test_what_is_taken_of_a_map_is_printable_and_names_no_variable_of_nginx(data: dict[str, str]) -> None:
    for read in (sent, fastcgi_params, lambda data: answered(data, frozenset(data))):
        try:
            found = read(data)
        except ValueError:
            continue
        assert sorted(data) == [name for name, _ in found]
        for name, value in found:
            assert name.replace("-", "").replace("_", "").isalnum()
            for part in value:
                assert (part.name != "document_root") if isinstance(part, Variable) else part.isprintable()


@given(st.dictionaries(NAMES, TEXTS, max_size=5), st.binary(max_size=60))
def test_options_come_of_any_objects(data: dict[str, str], raw: bytes) -> None:
    options = Options(sent_from=KEY, added_from=KEY, dh_param_from=KEY)
    maps, secrets = {KEY: ConfigMap(key=KEY, data=data)}, {KEY: Secret(key=KEY, data=Map({"dhparam.pem": raw}))}
    found, problems = resolve(options, maps, secrets)
    assert b"" == found.dh_param
    assert any(each.startswith("ssl-dh-param") for each in problems)
    assert {name for name, _ in found.sent} | {name for name, _ in found.added} <= set(data)


def test_headers_that_end_a_message_and_those_that_are_not_allowed_are_refused() -> None:
    for name in ("content-length", "Transfer-Encoding", "CONNECTION"):
        with pytest.raises(ValueError, match=name):
            sent({name: "1"})
        with pytest.raises(ValueError, match=name):
            answered({name: "1"}, frozenset({name}))
    with pytest.raises(ValueError, match="global-allowed-response-headers"):
        answered({"X-A": "1"}, frozenset({"X-B"}))
    assert (("x-a", "$host"),) == answered({"x-a": "$host"}, frozenset({"X-A"}))
    assert (("X-A", ("a", Variable("host"))),) == sent({"X-A": "a$host"})


def test_what_options_name_is_known() -> None:
    options, _ = read_options({"proxy-set-headers": "a/b", "add-headers": "c/d", "ssl-dh-param": "e/f"})
    assert {ObjectKey("a", "b"), ObjectKey("c", "d"), ObjectKey("e", "f")} == named_by(options)
    assert 3 == len(resolve(options, {}, {})[1])


def der(*numbers: int) -> bytes:
    """A SEQUENCE of INTEGERs (X.690)."""
    body = b""
    for number in numbers:
        content = number.to_bytes(number.bit_length() // 8 + 1, signed=True)
        body += b"\x02" + _length(len(content)) + content
    return b"\x30" + _length(len(body)) + body


def _length(number: int) -> bytes:
    return bytes((number,)) if number < 0x80 else b"\x82" + number.to_bytes(2)


def pem(data: bytes) -> bytes:
    return b"-----BEGIN DH PARAMETERS-----\n" + base64.encodebytes(data) + b"-----END DH PARAMETERS-----\n"


ODD = (1 << 2047) + 1  # openssl looks for a prime only when it is told to


@pytest.mark.parametrize(
    "data",
    [pem(der(ODD >> 1 | 1, 2)), pem(der(ODD - 1, 2)), pem(der(ODD, 1)), pem(der(ODD)), pem(der(ODD, 2)[:-1]), pem(b""),
     pem(der(ODD, 2) + b"x"), pem(b"\x30\x80"), b"x" + pem(der(ODD, 2)), pem(der(ODD, 2)) * 2,
     pem(der((1 << 8192) + 1, 2))],
)  # fmt: skip
def test_parameters_that_openssl_would_not_take_are_left_out(data: bytes) -> None:
    options = Options(dh_param_from=KEY)
    found, [problem] = resolve(options, {}, {KEY: Secret(key=KEY, data=Map({"dhparam.pem": data}))})
    assert options == found
    assert problem.startswith("ssl-dh-param: Secret ns/named: ")


def test_parameters_are_taken_as_they_are() -> None:
    data = pem(der(ODD, 2, 160))
    found, problems = resolve(Options(dh_param_from=KEY), {}, {KEY: Secret(key=KEY, data=Map({"dhparam.pem": data}))})
    assert (evolve(Options(dh_param_from=KEY), dh_param=data), ()) == (found, problems)


def test_a_list_of_whom_nobody_serves_that_cannot_be_read_keeps_everybody_out() -> None:
    for name, bad in (("block-cidrs", "10.0.0.0/99"), ("block-user-agents", "~("), ("block-referers", "a\nb")):
        options, [problem] = read_options({name: bad})
        assert options.blocked.everybody
        assert "kept out" in problem
    assert not read_options({"block-cidrs": "10.1.2.3/8", "block-user-agents": ""})[0].blocked.everybody


@pytest.mark.parametrize("text", ["c2VjcmV0", "secret!", base64.b64encode(bytes(49)).decode()])
def test_a_key_of_tickets_that_is_none_is_not_shown(text: str) -> None:
    options, [problem] = read_options({"ssl-session-ticket-key": text})
    assert (b"", False) == (options.ticket_key, text in problem)


def test_a_key_of_tickets_is_in_no_representation() -> None:
    options, problems = read_options({"ssl-session-ticket-key": base64.b64encode(b"k" * 48).decode()})
    assert (b"k" * 48, (), False) == (options.ticket_key, problems, "kkk" in repr(options))
