# ruff: noqa: E501 - a table is read in rows
"""nginx's text read back: by a parser of another maker, and by nginx itself; and texts that nobody wants to find in it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import crossplane

from lbcore.adapters.nginx.render import Rendered

__all__ = ["HARMLESS", "HOSTILE", "MAPS", "Parsed", "parse", "refusal", "walk"]

Parsed = tuple[str, tuple[str, ...], "tuple[Parsed, ...] | None"]

HOSTILE = (
    '"', "'", "\\", "/a\\", "/a;", "{", "}", "/{", "/}", "#", "/ # x", "\n", "/a\n", "/a\r", "\t", "\0", "/\u2028", "\ud800",
    "$host", "/$host", "${", "/$", "$(", "`", "*/", "/" + "A" * 4097, "=", "~", "^~", "@", "= /", "~* /", "..", "../x", "%0a",
    "/%2f", "\\x0a", "{{", "}}", " /a ", '/"; load_module /x.so; "', '"; ssl_engine x; "', "/'; include /etc/passwd; '",
    "/x; return 200 $document_root", "/x} alias /; {", '/"; proxy_pass http://169.254.169.254; "',
    "/x{content_by_lua_block {}}", '/"; log_format x "', "/(", "/[", "/(?", "/(a+)+$", "/((a)(b))", "/(?<x>", "/\\Q",
    "/" + "|".join("a" * 400), "0/33", "::/129", "1.2.3.4/8", "javascript:x", "file:///etc/passwd", "http://x\n",
    "http://u:p@x/", "http://127.0.0.1:10246", "https://x.example/$document_root", "x y", "x: y", "x\r\ny: z",
    "neighbour.example", "neighbour.example,neighbour.example", "a.example,a.example", "/a/", "GETX", "GET\n", "/(a)/(b)",
    # Digits to Python, and to nginx none.
    "\u0663", "\u0663m", "200 \u0663m", "buffer=\u0663k", "http://\u0661.\u0662.\u0663.\u0664/",
)  # fmt: skip
HARMLESS = (
    "true", "false", "1", "400", "308", "65536", "4k", "4 8k", "text/html", "10.0.0.0/8", "X-A", "/x", "https://x.example/", "error", "on",
    "off", "TLSv1.3", "HIGH:!aNULL", "ewma", "a b", "/a /b", "GET", "1.1", "auto", "buffer=4k", "10s", "$request_uri", "4 511", "64k",
    "/" + "x" * 190 + ",/healthz",
)  # fmt: skip


def parse(text: str) -> tuple[Parsed, ...]:
    """The tree that crossplane finds. It leaves a doubled backslash as it is, and takes the parentheses off an `if`."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        found = crossplane.parse(file.name, single=True, catch_errors=False, check_ctx=False, check_args=False)
    return tuple(map(_parsed, found["config"][0]["parsed"]))


def _parsed(found: dict[str, Any]) -> Parsed:
    assert "comment" not in found
    name, *arguments = (text.replace("\\\\", "\\") for text in (found["directive"], *found["args"]))
    return name, tuple(arguments), tuple(map(_parsed, found["block"])) if "block" in found else None


MAPS = {"map", "geo", "split_clients"}


def walk(tree: Iterable[Parsed]) -> Iterator[Parsed]:
    """Every directive; an entry of a map is not one, but has to be a key and a value."""
    for each in tree:
        yield each
        if each[0] in MAPS:
            assert all((1, None) == (len(entry[1]), entry[2]) for entry in each[2] or ())
        else:
            yield from walk(each[2] or ())


def refusal(rendered: Rendered, folder: Path, program: str = "nginx") -> str:
    """Why nginx does not take it; empty: it does."""
    (folder / "tmp").mkdir(exist_ok=True)
    for name, data in rendered.files.items():
        (folder / name).write_bytes(data)
    (folder / "nginx.conf").write_text(rendered.text, encoding="utf-8")
    command = [program, "-t", "-q", "-c", str(folder / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return "".join(re.findall(r".*(?:emerg|conflicting).*", done.stderr)) or str(done.returncode or "")
