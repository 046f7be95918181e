"""Which nginx may be used, and what it can do: by what it says of itself and by its package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbcore.adapters.nginx.capabilities import modules_of, read_capabilities, stream_module_of

VERSIONS = st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(0, 40))


def said(version: tuple[int, ...] | str) -> str:
    text = version if isinstance(version, str) else ".".join(map(str, version))
    return f"nginx version: nginx/{text}\nconfigure arguments: --modules-path=/usr/lib/nginx/modules\n"


@given(VERSIONS)
def test_a_version_without_the_known_overflows_is_1_30_4_or_1_31_3_or_later(version: tuple[int, ...]) -> None:
    wanted = version >= (1, 31, 3) or (1, 30, 4) <= version < (1, 31)
    assert (version, wanted) == (read_capabilities(said(version)).version, read_capabilities(said(version)).fixed)


@pytest.mark.parametrize(
    ("version", "package", "fixed"),
    [
        ("1.22.1", "1.22.1-9+deb12u10", True),
        ("1.22.1", "1.22.1-9+deb12u11", True),
        ("1.22.1", "1.22.1-9+deb12u9", False),
        ("1.22.1", "1.22.1-9+deb12u", False),
        ("1.22.1", "1.22.1-9", False),
        ("1.26.3", "1.26.3-3+deb13u8", True),
        ("1.26.3", "1.26.3-3+deb13u10~bpo1", True),
        ("1.26.3", "1.26.3-3+deb13u7", False),
        ("1.26.3", "1.26.3-3", False),
        ("1.24.0", "1.24.0-2ubuntu7", False),
    ],
)
def test_packages_of_debian_that_carry_the_fixes_are_known(version: str, package: str, fixed: bool) -> None:
    assert fixed is read_capabilities(said(version), package).fixed


@pytest.mark.parametrize(
    ("version", "package", "recent"),
    [
        ("1.30.6", "", False),
        ("1.30.7", "", True),
        ("1.31.3", "", True),  # it is not known where they came
        ("1.22.1", "1.22.1-9+deb12u10", False),
        ("1.22.1", "1.22.1-9+deb12u11", True),
        ("1.26.3", "1.26.3-3+deb13u8", True),  # not known, either
    ],
)
def test_what_is_known_to_lack_later_fixes_is_used_and_said(version: str, package: str, recent: bool) -> None:
    found = read_capabilities(said(version), package)
    assert (True, recent) == (found.fixed, found.recent)


@given(VERSIONS, st.sampled_from(["1.22.1-9+deb12u11", "1.26.3-3+deb13u10"]))
def test_a_package_vouches_for_its_own_version_only(version: tuple[int, ...], package: str) -> None:
    alone, beside = (read_capabilities(said(version), each).fixed for each in ("", package))
    assert beside is (alone or package.startswith(".".join(map(str, version)) + "-"))


@given(st.text())
def test_what_says_nothing_of_its_version_is_not_to_be_used(text: str) -> None:
    assert not read_capabilities(text).fixed


def test_http_2_is_a_directive_from_1_25_1_on() -> None:
    found = {version: read_capabilities(said(version)).http2_directive for version in ("1.25.0", "1.25.1", "1.30.6")}
    assert {"1.25.0": False, "1.25.1": True, "1.30.6": True} == found


def test_modules_are_where_it_says() -> None:
    folder = "/usr/lib/nginx/modules"
    assert (f"{folder}/ndk_http_module.so", f"{folder}/ngx_http_lua_module.so") == modules_of(said("1.30.6"))
    assert () == modules_of("nginx version: nginx/1.30.6\nconfigure arguments:\n")


@pytest.mark.parametrize(
    ("words", "module", "built_in", "real_ip"),
    [
        ("--with-stream=dynamic --with-stream_ssl_module", "/usr/lib/nginx/modules/ngx_stream_module.so", False, False),
        ("--with-stream --with-stream_realip_module", "", True, True),
        ("--with-stream_ssl_module --with-cc-opt='--with-stream=dynamics'", "", False, False),
        ("", "", False, False),
    ],
)
def test_streams_are_built_in_or_a_module_where_it_says(words: str, module: str, built_in: bool, real_ip: bool) -> None:
    text = said("1.30.6").rstrip() + f" {words}\n"
    found = read_capabilities(text)
    assert (module, built_in, real_ip, "") == (
        stream_module_of(text), found.stream, found.stream_real_ip, found.stream_module,
    )  # fmt: skip
    assert "" == stream_module_of(f"nginx version: nginx/1.30.6\nconfigure arguments: {words}\n")
