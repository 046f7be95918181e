"""What an nginx can do: from `nginx -V`, and whether it has the fixes without which nobody should use it."""

from __future__ import annotations

import re

from attrs import frozen

__all__ = ["Capabilities", "modules_of", "read_capabilities", "stream_module_of"]

Version = tuple[int, ...]

# Overflows in rewrite, CVE-2026-42945 and CVE-2026-9256, and in strings that have captures and a map with patterns,
# CVE-2026-42533: the last is fixed in 1.30.4 and 1.31.3, and by distributions. What it takes comes from annotations,
# too (`canary-by-header-pattern` is such a map, `rewrite-target` has captures).
_FIXED = ((1, 30, 4), (1, 31, 3))
# Debian's packages that carry all three fixes, by what their version begins with: the revision from which on
# (their changelogs; bookworm, trixie).
_BACKPORTS = {"1.22.1-9+deb12u": 10, "1.26.3-3+deb13u": 8}
# What came after, in November 2026: nothing that an annotation or an option writes is known to need it, as none writes
# `alias`, `try_files` or a text of its own; so it is asked for in words only. Of 1.31 it is not known where it came.
_LATER, _LATER_BACKPORTS = (1, 30, 7), {"1.22.1-9+deb12u": 11}


@frozen(kw_only=True)
class Capabilities:
    """`version` of nginx; `http2_directive` from 1.25.1; `fixed`: the known overflows are not there.

    `recent`: nor is it known to lack later fixes. `status`: it tells its connections. `lua` are the files of the
    modules by which Lua chooses peers; empty where nginx does that itself. `stream`: it passes on what is not HTTP, by
    the module in a file of its own where one is named;
    `stream_real_ip`: and believes the PROXY protocol there, so that it can hand on whose a connection is.
    """

    version: Version = (1, 22, 1)
    fixed: bool = True
    recent: bool = True
    status: bool = True
    lua: tuple[str, ...] = ()
    stream: bool = True
    stream_module: str = "/usr/lib/nginx/modules/ngx_stream_module.so"
    stream_real_ip: bool = True

    @property
    def http2_directive(self) -> bool:
        """Whether HTTP/2 is a directive (1.25.1) rather than a word of `listen`."""
        return self.version >= (1, 25, 1)


def modules_of(said: str) -> tuple[str, ...]:
    """Where the two modules of Lua would be, by what `nginx -V` says; none where that says no folder."""
    folder = _folder_of(said)
    return tuple(f"{folder}/{name}" for name in ("ndk_http_module.so", "ngx_http_lua_module.so")) if folder else ()


def stream_module_of(said: str) -> str:
    """Where the module for streams would be, if it is a file of its own; empty where it is none."""
    folder = _folder_of(said)
    return f"{folder}/ngx_stream_module.so" if folder and "--with-stream=dynamic" in said.split() else ""


def _folder_of(said: str) -> str:
    found = re.search(r"--modules-path=(/[A-Za-z0-9/._-]+)", said)
    return found[1] if found else ""


def read_capabilities(said: str, package: str = "") -> Capabilities:
    """From what `nginx -V` says, and the version of the package that this very program came in, where it did.

    Of modules that are files only those count of which somebody has seen that they are there.
    """
    found = re.search(r"nginx version: \S+?/(\d+)\.(\d+)\.(\d+)", said)
    version = tuple(int(each) for each in found.groups()) if found else (0, 0, 0)
    fixed = version >= _FIXED[1] or (version[:2] == (1, 30) and version >= _FIXED[0])
    fixed |= _carries(_BACKPORTS, version, package)
    behind = version < _LATER and not _carries(_LATER_BACKPORTS, version, package)
    behind &= version[:2] == _LATER[:2] or any(package.startswith(each) for each in _LATER_BACKPORTS)
    words = said.split()
    return Capabilities(
        version=version,
        fixed=fixed,
        recent=not behind,
        status="--with-http_stub_status_module" in said,
        stream="--with-stream" in words,
        stream_module="",
        stream_real_ip="--with-stream_realip_module" in words,
    )


def _carries(backports: dict[str, int], version: Version, package: str) -> bool:
    """Whether a package of this version of nginx is of a revision from which on it has some fixes."""
    for prefix, revision in backports.items():
        if package.startswith(prefix) and prefix.startswith(".".join(map(str, version)) + "-"):
            number = re.match(r"\d+", package[len(prefix) :])
            return number is not None and int(number[0]) >= revision
    return False
