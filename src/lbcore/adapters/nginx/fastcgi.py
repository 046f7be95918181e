"""FastCGI: what a backend is told of a request, as parameters (The CGI Specification, RFC 3875, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lbcore.adapters.nginx.tree import Directive, Value, Word, directive
from lbcore.proxy import FastCgi, Template, Variable

__all__ = ["parameters"]

# Those of nginx's own file fastcgi_params, but for the folder of its documents, which no backend has; a client's
# address and how it came are what they are for all backends, behind whoever stands in front.
_USUAL: dict[str, Template] = {
    "QUERY_STRING": (Variable("query_string"),),
    "REQUEST_METHOD": (Variable("request_method"),),
    "CONTENT_TYPE": (Variable("content_type"),),
    "CONTENT_LENGTH": (Variable("content_length"),),
    "SCRIPT_NAME": (Variable("fastcgi_script_name"),),
    "REQUEST_URI": (Variable("request_uri"),),
    "DOCUMENT_URI": (Variable("document_uri"),),
    "SERVER_PROTOCOL": (Variable("server_protocol"),),
    "REQUEST_SCHEME": (Variable("lbcore_scheme"),),
    "GATEWAY_INTERFACE": ("CGI/1.1",),
    "SERVER_SOFTWARE": ("nginx",),
    "REMOTE_ADDR": (Variable("remote_addr"),),
    "REMOTE_PORT": (Variable("remote_port"),),
    "SERVER_ADDR": (Variable("server_addr"),),
    "SERVER_PORT": (Variable("lbcore_port"),),
    "SERVER_NAME": (Variable("host"),),
    "REDIRECT_STATUS": ("200",),
}


def parameters(given: FastCgi, headers: Iterable[Directive]) -> Iterator[Directive]:
    """The directives, with those of headers. One that is given takes the place of the usual one."""
    if given.index is not None:
        yield directive("fastcgi_index", Value((given.index,)))
    params = _USUAL | dict(given.params)
    yield from (each for each in headers if each.arguments[0] not in {Word(name) for name in params})
    for name, value in params.items():
        yield directive("fastcgi_param", Word(name), Value(value))
    if "HTTPS" not in params:
        yield directive("fastcgi_param", "HTTPS", Value((Variable("https"),)), "if_not_empty")
