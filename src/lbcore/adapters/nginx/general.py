"""What holds for all: the main, events and http level, and the variables that are worked out when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from lbcore.adapters.nginx.answers import for_all, hidden
from lbcore.adapters.nginx.blocked import blocked_maps
from lbcore.adapters.nginx.capabilities import Capabilities
from lbcore.adapters.nginx.logs import access_log, log_variables, named_by
from lbcore.adapters.nginx.lua import CONTROL
from lbcore.adapters.nginx.names import digest
from lbcore.adapters.nginx.passing import sent_to_all, tuning
from lbcore.adapters.nginx.switches import switches
from lbcore.adapters.nginx.tree import Directive, Entry, Name, Plain, Value, directive, map_of
from lbcore.proxy import Balance, Options, RoutingTable, Variable

__all__ = ["Places", "files_of", "http_level", "main_level", "said_by_locations"]


@frozen(kw_only=True)
class Places:
    """Where nginx listens and keeps its things. `listen` are addresses (`""`: all of IPv4, `[::]`: of IPv6)."""

    folder: str
    http_port: int = 80
    https_port: int = 443
    listen: tuple[str, ...] = ("", "[::]")
    user: str = ""
    resolvers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    error_log: str = "stderr"
    access_log: str = "/dev/stdout"
    most_files: int = 0  # that a process may have open; 0: not known
    metrics: bool = False  # requests are counted


def main_level(
    options: Options, places: Places, capabilities: Capabilities, *, streams: bool = False
) -> Iterator[Directive]:
    """Modules, users, workers; `streams`: there are some."""
    of_streams = (capabilities.stream_module,) if streams and capabilities.stream_module else ()
    for module in (*capabilities.lua, *of_streams, *places.modules):
        yield directive("load_module", Plain(module))
    if places.user:
        yield directive("user", places.user)
    yield directive("pid", f"{places.folder}/nginx.pid")
    yield directive("error_log", places.error_log, options.error_level)
    yield directive("daemon", "off")
    yield directive("worker_processes", options.workers or "auto")
    yield directive("worker_shutdown_timeout", f"{options.shutdown_timeout}s")
    if places.most_files:
        yield directive("worker_rlimit_nofile", max(1024, min(2 * options.connections, places.most_files)))
    yield directive(
        "events", block=(directive("worker_connections", options.connections), directive("multi_accept", "on"))
    )


def http_level(table: RoutingTable, places: Places, capabilities: Capabilities) -> Iterator[Directive]:
    """What every server inherits."""
    options = table.options
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scratch = f"{places.folder}/tmp"  # noqa: S108 - below our own folder
    yield from (directive(f"{name}_temp_path", f"{scratch}/{name}") for name in temporary)
    yield from _sizes(table)  # before the first map: nginx refuses them after it
    yield from access_log(options.log, places.access_log)
    yield directive(
        "uninitialized_variable_warn", "off"
    )  # some are set in some locations only, and are empty elsewhere
    yield directive("server_tokens", options.server_tokens)
    yield from _clients(options, capabilities)
    yield from switches(options)
    if places.resolvers:
        yield directive("resolver", *places.resolvers, "valid=30s")
    if capabilities.lua:
        yield from _lua(table, places)
    yield from _control(places, capabilities)
    yield from _tls(options, places.folder)
    yield from tuning(options.tuning, None, "proxy")
    common = sent_to_all(options, places.https_port)
    yield from (directive("proxy_set_header", Plain(name), Value(value)) for name, value in common)
    for kind in ("proxy", "grpc", "fastcgi"):
        yield from hidden(kind, options)
    if options.tuning.cookie_domain is None:
        yield directive("proxy_cookie_domain", "off")
    yield directive("proxy_redirect", "off")
    yield from for_all(options)
    yield from blocked_maps(options.blocked)
    yield from _variables(options, places)
    yield from log_variables(said_by_locations(options, places, capabilities))


def said_by_locations(options: Options, places: Places, capabilities: Capabilities) -> frozenset[str]:
    """The variables in which locations say what they are."""
    return named_by(options.log, places.access_log, counted=places.metrics and bool(capabilities.lua))


def _sizes(table: RoutingTable) -> Iterator[Directive]:
    """Tables of names that are large enough."""
    longest = max((len(host) for host in table.sites), default=0)
    yield directive("server_names_hash_bucket_size", _power(16 + 8 * ((longest + 2 + 7) // 8) + 8, 64))
    yield directive("server_names_hash_max_size", max(1024, _power(sum(map(len, table.sites)), 1024)))
    skipped = max((len(url.encode()) for url in table.options.log.skipped), default=0)
    yield directive("map_hash_bucket_size", _power(max(longest, skipped) + 32, 128))
    yield directive("map_hash_max_size", max(2048, _power(2 * len(table.sites), 2048)))
    yield directive("variables_hash_max_size", max(2048, _power(64 * len(table.upstreams), 2048)))
    yield directive("variables_hash_bucket_size", 256)
    yield directive("proxy_headers_hash_bucket_size", 128)


def _clients(options: Options, capabilities: Capabilities) -> Iterator[Directive]:
    """How clients' connections are held, and what is sent back."""
    yield directive("port_in_redirect", "off")  # ours need not be the port that a client asked for
    yield directive("tcp_nopush", "on")
    yield directive("reset_timedout_connection", "on")
    yield directive("keepalive_timeout", f"{options.client_keepalive}s")
    yield directive("keepalive_requests", options.client_requests)
    # A request of ours takes some 6 kB; with nginx's 4 kB it asks for memory twice or three times more.
    yield directive("request_pool_size", "8k")
    yield directive("underscores_in_headers", options.underscores)
    yield directive("limit_req_status", options.limit_code)
    yield directive("limit_conn_status", options.connections_code)
    if capabilities.http2_directive:
        yield directive("http2", options.http2)
    if options.gzip:
        yield directive("gzip", "on")
        yield directive("gzip_proxied", "any")
        yield directive("gzip_vary", "on")
    if options.forwarded_headers or options.proxy_protocol or options.real_ip:
        yield from (directive("set_real_ip_from", Plain(cidr)) for cidr in options.trusted)
        yield directive("real_ip_header", "proxy_protocol" if options.proxy_protocol else "X-Forwarded-For")
        yield directive("real_ip_recursive", "on")


def _lua(table: RoutingTable, places: Places) -> Iterator[Directive]:
    folder = places.folder
    # 10,000 upstreams of ten peers each take 3 MB; what is not used takes no memory.
    yield directive("lua_shared_dict", "lbcore_peers", "64m")
    yield directive("lua_package_path", Plain(f"{folder}/?.lua;;"))
    yield directive("init_by_lua_file", f"{folder}/init.lua")
    scored = any(upstream.balance is Balance.EWMA for _, upstream in table.upstreams.items())
    if places.metrics:
        yield directive("lua_shared_dict", "lbcore_counts", "64m")
        yield directive("init_worker_by_lua_file", f"{folder}/start.lua")
    if scored or places.metrics:
        name = "both" if scored and places.metrics else "log" if scored else "count"
        yield directive("log_by_lua_file", f"{folder}/{name}.lua")


def _control(places: Places, capabilities: Capabilities) -> Iterator[Directive]:
    """The socket by which nginx is told peers and asked for figures, in a folder that nobody else gets into."""
    folder = places.folder
    locations: list[Directive] = []
    if capabilities.lua:
        told = (
            directive("client_max_body_size", "64m"),
            directive("client_body_buffer_size", "1m"),
            directive("content_by_lua_file", f"{folder}/control.lua"),
        )
        locations.append(directive("location", "=", "/peers", block=told))
    if places.metrics and capabilities.lua:
        counts = (directive("content_by_lua_file", f"{folder}/counts.lua"),)
        locations.append(directive("location", "=", "/counts", block=counts))
    if places.metrics and capabilities.status:
        locations.append(directive("location", "=", "/status", block=(directive("stub_status"),)))
    if locations:
        listen = directive("listen", f"unix:{folder}/{CONTROL}")
        other = directive("location", "/", block=(directive("return", 404),))
        yield directive("server", block=(listen, directive("access_log", "off"), *locations, other))


def _tls(options: Options, folder: str) -> Iterator[Directive]:
    yield directive("ssl_protocols", *options.ssl_protocols)
    yield directive("ssl_ciphers", Plain(options.ssl_ciphers))
    yield directive("ssl_prefer_server_ciphers", "on")
    for what in files_of(options):
        suffix = what.rpartition(".")[2]
        yield directive("ssl_dhparam" if suffix == "dh" else "ssl_session_ticket_key", f"{folder}/{what}")


def files_of(options: Options) -> dict[str, bytes]:
    """What the options hold that nginx reads from a file."""
    given = {"dh": options.dh_param, "ticket": options.ticket_key}
    return {f"{digest(repr(data))}.{suffix}": data for suffix, data in given.items() if data}


def _power(number: int, least: int) -> int:
    while least < number:
        least *= 2
    return least


def _map(key: str, name: str, default: Value, *lines: tuple[str, Value]) -> Directive:
    return map_of(Value((Variable(key),)), name, default, (Entry(Plain(each), value) for each, value in lines))


def _v(*parts: str | Variable) -> Value:
    return Value(parts)


def _variables(options: Options, places: Places) -> Iterator[Directive]:
    """Variables that are worked out when somebody asks for them."""
    yield directive("geo", Name("lbcore_dollar"), block=(Entry(Plain("default"), Plain("$")),))
    trusted = options.forwarded_headers
    scheme = Variable("scheme")
    if trusted:
        yield _map(
            "http_x_forwarded_proto", "lbcore_scheme", _v(scheme), ("~^https$", _v("https")), ("~^http$", _v("http"))
        )
        yield _map(
            "http_x_forwarded_host",
            "lbcore_host",
            _v(Variable("http_host")),
            ("~^(?<lbcore_v1>[^,\\s]+)", _v(Variable("lbcore_v1"))),
        )
    else:
        yield _map("scheme", "lbcore_scheme", _v(scheme))
        yield _map("http_host", "lbcore_host", _v(Variable("http_host")))
    full = trusted and options.full_forwarded_for
    yield _map(
        "remote_addr", "lbcore_forwarded_for", _v(Variable("proxy_add_x_forwarded_for" if full else "remote_addr"))
    )
    # An empty key costs a map next to nothing, and `https` is empty in the clear.
    if trusted:
        yield _map("lbcore_scheme", "lbcore_plain", _v("0"), ("http", _v("1")))
    else:
        yield _map("https", "lbcore_plain", _v("0"), ("", _v("1")))
    yield _map("server_port", "lbcore_port", _v(Variable("server_port")), (str(places.https_port), _v("443")))
    yield _map("server_port", "lbcore_port_suffix", _v(":", Variable("server_port")))
    yield _map("http_upgrade", "lbcore_connection", _v("upgrade"), ("", _v("")))
    yield _map(
        "http_x_request_id", "lbcore_request_id", _v(Variable("http_x_request_id")), ("", _v(Variable("request_id")))
    )
    yield _map(
        "request_uri", "lbcore_uri", _v(Variable("request_uri")), ("~^(?<lbcore_v2>.*)/$", _v(Variable("lbcore_v2")))
    )
    yield _map("https", "lbcore_unsealed", _v("0"), ("", _v("1")))
    yield _map("request_method", "lbcore_preflight", _v("0"), ("OPTIONS", _v("1")))
    yield _map("uri", "lbcore_root", _v("0"), ("/", _v("1")))
    hsts = f"max-age={options.hsts_max_age}"
    hsts += "; includeSubDomains" if options.hsts_subdomains else ""
    hsts += "; preload" if options.hsts_preload else ""
    sealed = ("lbcore_scheme", "https") if trusted else ("https", "on")
    yield _map(sealed[0], "lbcore_hsts", _v(""), (sealed[1], _v(hsts)))
