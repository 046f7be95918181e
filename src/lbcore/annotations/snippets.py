"""`configuration-snippet`: a closed list of nginx's directives, each with typed arguments; everything else is refused.

The text is cut into words as nginx cuts it, and nothing of it goes any further as text: a directive of the list
becomes a value of `lbcore.proxy`, written later by the one serializer. Blocks are refused, but for an `if` of one
comparison around one `return` or `rewrite`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from attrs import evolve, field, frozen

from lbcore.annotations.scalars import (
    CAPTURES,
    FRAMING,
    REFLECTED_VARIABLES,
    UNANSWERED,
    header_name,
    header_value,
    on_off,
    pattern,
    redirect_target,
    template,
)
from lbcore.proxy import Comparison, Return, Reworded, Snippet, Step, Template, Variable

__all__ = ["LISTED", "SnippetRead", "keeps_out", "read_snippet"]

MOST_CHARACTERS = 8000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
_PRINTABLE = r" -~"
_VARIABLES = REFLECTED_VARIABLES | {
    "server_port", "server_protocol", "remote_port", "proxy_add_x_forwarded_for", "time_iso8601", "msec",
    "ssl_protocol", "ssl_cipher", "ssl_client_verify", "ssl_client_serial", "ssl_client_fingerprint",
    "ssl_client_s_dn", "ssl_client_i_dn",
}  # fmt: skip
_text = template(_VARIABLES, _PRINTABLE, of_request=True)
_target = template(REFLECTED_VARIABLES | CAPTURES, r"A-Za-z0-9._~/:,&=%+@!*;-", of_request=True)
# What is passed over with these may have kept somebody out, so the Ingress is not served without them.
_PROTECTING = re.compile(
    r"allow|deny|satisfy|if|internal|return|rewrite|break|valid_referers|auth_.*|limit_.*|ssl_.*|proxy_ssl_.*|"
    r"secure_link.*|modsecurity.*|.*_by_lua.*"
)
_ANYWAY = {("upgrade", "$http_upgrade"), ("connection", "upgrade"), ("connection", "$connection_upgrade")}
_COMPARED = {"host", "http_host", "request_uri", "uri", "request_method", "scheme", "remote_addr", "args",
             "query_string", "ssl_client_verify"}  # fmt: skip
# What says nothing of who asks.
_OF_NOBODY = {"host", "http_host", "server_name", "scheme", "http_x_forwarded_proto", "request_uri", "uri",
              "request_method"}  # fmt: skip
_END, _OPEN, _CLOSE = object(), object(), object()


@frozen(kw_only=True)
class SnippetRead:
    """What a snippet comes to, the names of its directives that are in the list, and of those that are not.

    `protects`: one that is not in the list may have kept somebody out.
    """

    snippet: Snippet = field(factory=Snippet)
    taken: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    protects: bool = False


@frozen
class _Directive:
    name: str
    words: tuple[str, ...]
    block: tuple[_Directive, ...] | None = None


def read_snippet(text: str) -> SnippetRead:
    """Total: whatever stands there."""
    try:
        directives = _parse(text)
    except ValueError as error:
        return SnippetRead(refused=(f"what cannot be read: {error}",), protects=True)
    made, taken, refused, left = Snippet(), [], [], []
    for each in directives:
        reader = _READERS.get(each.name)
        try:
            if reader is None or (each.block is not None and each.name != "if"):
                raise ValueError("is not in the list")
            made = reader(made, each)
        except ValueError as error:
            name = each.name if _NAME.fullmatch(each.name) else "what is no directive"
            refused.append(name if reader is None else f"{name} ({error})")
            left.append(each)
        else:
            taken.append(each.name)
    return SnippetRead(
        snippet=made,
        taken=tuple(dict.fromkeys(taken)),
        refused=tuple(dict.fromkeys(refused)),
        protects=any(map(_may_keep_out, left)),
    )


def _may_keep_out(directive: _Directive) -> bool:
    """Whether it, or one in its block, may keep somebody out."""
    return bool(_PROTECTING.fullmatch(directive.name)) or any(map(_bars, directive.block or ()))


def keeps_out(text: str) -> bool:
    """Whether a `server-snippet`, of which nothing is taken, may have kept somebody out: total.

    To send clients elsewhere keeps nobody out, unless it hangs on who they are.
    """
    try:
        return any(map(_bars, _parse(text)))
    except ValueError:
        return True


def _bars(directive: _Directive) -> bool:
    words = (*directive.words, "")
    match directive.name:
        case "return":
            return not re.fullmatch(r"[23]\d\d|(?:https?:/)?/.*|\$scheme:.*", words[0])
        case "rewrite" if words[-2] in {"permanent", "redirect"}:
            return False
        case "if":
            asked = words[0].removeprefix("(").removeprefix("$").removesuffix(")")
            return asked not in _OF_NOBODY or any(map(_bars, directive.block or ()))
        case name:
            return bool(_PROTECTING.fullmatch(name)) or any(map(_bars, directive.block or ()))


# Words, as nginx cuts them (ngx_conf_read_token): quotes open at a word's start, a backslash guards what follows.


def _words(text: str) -> Iterator[object]:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it is longer than {MOST_CHARACTERS} characters")
    if any(not each.isprintable() and each not in "\n\r\t" for each in text):
        raise ValueError("it holds a character that cannot be printed")
    place = 0
    while place < len(text):
        character = text[place]
        if character.isspace():
            place += 1
        elif character == "#":
            place = text.find("\n", place) if "\n" in text[place:] else len(text)
        elif character in ";{}":
            yield {";": _END, "{": _OPEN, "}": _CLOSE}[character]
            place += 1
        else:
            place, word = _word(text, place)
            yield word


def _word(text: str, place: int) -> tuple[int, str]:
    quote = text[place] if text[place] in "\"'" else ""
    place += len(quote)
    made = ""
    while place < len(text):
        character = text[place]
        if character == "\\":
            after = text[place + 1 : place + 2]
            made += after if after in {'"', "'", "\\"} else character + after
            place += 2
            continue
        if quote and character == quote:
            if not re.match(r"[\s;{)]|\Z", text[place + 1 :]):
                raise ValueError("something stands right behind a quote")
            return place + 1, made
        if not quote and (character.isspace() or character in ";" or (character == "{" and not made.endswith("$"))):
            return place, made
        made += character
        place += 1
    if quote:
        raise ValueError("a quote is not closed")
    return place, made


def _parse(text: str) -> list[_Directive]:
    words = iter([*_words(text)])
    found = _block(words, 0)
    if next(words, None) is not None:
        raise ValueError("a } closes nothing")
    return found


def _block(words: Iterator[object], depth: int) -> list[_Directive]:
    found: list[_Directive] = []
    line: list[str] = []
    for word in words:
        if isinstance(word, str):
            line.append(word)
        elif word is _CLOSE:
            if depth == 0 or line:
                raise ValueError("a } is where none may be")
            return found
        elif not line:
            raise ValueError("a directive has no name")
        else:
            inner: tuple[_Directive, ...] | None = None
            if word is _OPEN:
                if depth > 3:
                    raise ValueError("its blocks are nested too deeply")
                inner = tuple(_block(words, depth + 1))
            found.append(_Directive(line[0], tuple(line[1:]), inner))
            line = []
    if depth or line:
        raise ValueError("a ; or } is missing at its end")
    return found


# The list.


def _count(directive: _Directive, *allowed: int) -> tuple[str, ...]:
    if len(directive.words) not in allowed:
        raise ValueError(f"has {len(directive.words)} arguments")
    return directive.words


def _answered(name: str, value: str, *, always: bool) -> tuple[str, Template, bool]:
    if header_name(name).lower() in UNANSWERED:
        raise ValueError(f"{name} is nginx's own to send")
    return (name, _text(value), always)


def _add_header(snippet: Snippet, directive: _Directive) -> Snippet:
    name, value, *always = _count(directive, 2, 3)
    if always not in ([], ["always"]):
        raise ValueError("write always, or nothing, behind the value")
    return evolve(snippet, answered=(*snippet.answered, _answered(name, value, always=bool(always))))


def _more_set_headers(snippet: Snippet, directive: _Directive) -> Snippet:
    """Takes the place of what the backend sends, as the module does: hidden, and added."""
    for word in directive.words:
        name, colon, value = word.partition(":")
        if not colon or word.startswith("-"):
            raise ValueError("write Name: value")
        answered = _answered(name.strip(), value.strip(), always=True)
        snippet = evolve(snippet, answered=(*snippet.answered, answered), hidden=(*snippet.hidden, answered[0]))
    return snippet


def _hide(snippet: Snippet, directive: _Directive) -> Snippet:
    for name in directive.words:
        if header_name(name).lower() in UNANSWERED:
            raise ValueError(f"{name} is nginx's own to send")
        snippet = evolve(snippet, hidden=(*snippet.hidden, name))
    return snippet


def _proxy_set_header(snippet: Snippet, directive: _Directive) -> Snippet:
    name, value = _count(directive, 2)
    if (header_name(name).lower(), value) in _ANYWAY:
        return snippet
    if name.lower() in FRAMING:
        raise ValueError(f"{name} is nginx's own to send")
    return evolve(snippet, sent=(*snippet.sent, (name, _text(value))))


def _cookie_path(snippet: Snippet, directive: _Directive) -> Snippet:
    one, other = _count(directive, 2)
    plain = template((), r"A-Za-z0-9._~/:;,=@ -")
    plain(one)
    plain(other)
    return evolve(snippet, cookie_path=(one, other))


def _gzip(snippet: Snippet, directive: _Directive) -> Snippet:
    (word,) = _count(directive, 1)
    return evolve(snippet, gzip=on_off(word))


def _return(words: Sequence[str]) -> Return:
    if not 1 <= len(words) <= 2 or not re.fullmatch(r"[0-9]{3}", words[0]):
        raise ValueError("write a code, and perhaps a URL or a text")
    code, rest = int(words[0]), words[1:]
    if code in {301, 302, 303, 307, 308}:
        if not rest:
            raise ValueError("needs a URL")
        return Return(code=code, text=_place(rest[0]))
    if code not in {200, 204, 444} and not 400 <= code <= 599:
        raise ValueError(f"{code} may not be answered")
    return Return(code=code, text=_text(rest[0]) if rest else None)


def _place(text: str) -> Template:
    """Where a client is sent: a URL, or a path of the same host."""
    return _target(text) if text.startswith("/") and not text.startswith("//") else redirect_target(text)


def _rewrite(words: Sequence[str]) -> Reworded:
    if len(words) != 3 or words[2] not in {"permanent", "redirect"}:
        raise ValueError("write a pattern, a target, and permanent or redirect")
    found, to = pattern(words[0]), _target(words[1])
    # A capture that begins where the path does begins with /, or is empty.
    from_start = words[0].startswith("^(") and not words[0].startswith("^(?") and re.match(r"\$1(?:/|$)", words[1])
    if not from_start and not re.match(r"/(?!/)|https?://|\$scheme://", words[1]):
        raise ValueError("its target is no path and no URL")
    used = {int(part.name) for part in to if isinstance(part, Variable) and part.name in CAPTURES}
    if max(used, default=0) > found.groups or (found.nested and len(used) > 1):  # the shape of CVE-2026-9256
        raise ValueError("its target names captures that are not there, or that overlap")
    return Reworded(pattern=found.text, to=to, permanent=words[2] == "permanent")


def _step(directive: _Directive, compared: Comparison | None) -> Step:
    what = _return(directive.words) if directive.name == "return" else _rewrite(directive.words)
    return Step(what=what, when=compared)


def _moves(snippet: Snippet, directive: _Directive) -> Snippet:
    return evolve(snippet, steps=(*snippet.steps, _step(directive, None)))


def _if(snippet: Snippet, directive: _Directive) -> Snippet:
    inner = directive.block or ()
    if len(inner) != 1 or inner[0].name not in {"return", "rewrite"} or inner[0].block is not None:
        raise ValueError("may hold one return or rewrite, and nothing else")
    text = list(directive.words)
    if not text or not text[0].startswith("(") or not text[-1].endswith(")"):
        raise ValueError("has no condition")
    text[0], text[-1] = text[0][1:], text[-1][:-1] if len(text) > 1 else text[0][1:-1]
    compared = _comparison([each for each in text if each])
    return evolve(snippet, steps=(*snippet.steps, _step(inner[0], compared)))


def _comparison(words: list[str]) -> Comparison:
    if len(words) not in {1, 3} or not words[0].startswith("$"):
        raise ValueError("compares nothing that may be compared")
    name = words[0][1:].lower()
    if name not in _COMPARED and not re.fullmatch(r"(?:http|arg|cookie)_[a-z0-9_]{1,64}", name):
        raise ValueError(f"the variable ${name[:40]} may not be compared")
    if len(words) == 1:
        return Comparison(variable=name)
    _, operator, value = words
    if operator in {"=", "!="}:
        return Comparison(variable=name, equals=header_value(value), negated=operator == "!=")
    if operator not in {"~", "~*", "!~", "!~*"}:
        raise ValueError("compares in a way that is not known")
    fold = "(?i)" if operator.endswith("*") and not value.startswith("(?i)") else ""
    return Comparison(variable=name, matches=pattern(fold + value).text, negated=operator.startswith("!"))


_READERS: dict[str, Callable[[Snippet, _Directive], Snippet]] = {
    "add_header": _add_header,
    "more_set_headers": _more_set_headers,
    "more_clear_headers": _hide,
    "proxy_hide_header": _hide,
    "proxy_set_header": _proxy_set_header,
    "proxy_cookie_path": _cookie_path,
    "gzip": _gzip,
    "return": _moves,
    "rewrite": _moves,
    "if": _if,
}
LISTED = tuple(sorted(_READERS))
