"""Requests, counted in nginx's workers by Lua, and read back: ingress-nginx's figures, for each route.

A worker counts in memory of its own, and puts what has changed into a shared dictionary once a second; what is there
of workers that have ended is added up when somebody asks. Nothing grows with what clients send: a series is a status,
a known method, a host and a route of the configuration; a worker keeps `MOST` of them, and one for all the rest.
"""

from __future__ import annotations

from attrs import frozen

from lbcore.errors import RemoteProtocolError

__all__ = ["COUNT_SCRIPTS", "HISTOGRAMS", "Histogram", "Series", "read_counts"]

MOST = 5000  # series of one worker: some 4 MB

# The bounds of ingress-nginx's histograms: seconds, bytes of lengths, bytes of sizes.
_TIMES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LENGTHS = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0)
_SIZES = (10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0, 10000000.0)
HISTOGRAMS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("request_duration_seconds", "Time from a request's first byte to its answer's last", _TIMES),
    ("connect_duration_seconds", "Time to connect to a backend", _TIMES),
    ("header_duration_seconds", "Time to the first byte of a backend's header", _TIMES),
    ("response_duration_seconds", "Time to the last byte of a backend's answer", _TIMES),
    ("request_size", "Bytes of a request, its header too", _LENGTHS),
    ("response_size", "Bytes of an answer, its header too", _LENGTHS),
    ("bytes_sent", "Bytes sent to a client; response_size has the same in other buckets", _SIZES),
)
"""Name, description and upper bounds of each histogram, in the order in which a worker tells them."""


@frozen(kw_only=True)
class Histogram:
    """How many values were in each bucket (the last one has no bound), and their sum."""

    buckets: tuple[int, ...]
    sum: float


@frozen(kw_only=True)
class Series:
    """What was counted for one set of labels. `path` is that of the location; `canary` names its upstream, if chosen.

    Without an Ingress it is all that was too much to keep apart.
    """

    status: str
    method: str
    host: str
    namespace: str
    ingress: str
    service: str
    path: str
    canary: str
    requests: int
    histograms: tuple[Histogram, ...]


_LUA = """\
local dict = ngx.shared.lbcore_counts
local M = {}
local METHODS = { GET = true, HEAD = true, POST = true, PUT = true, DELETE = true, PATCH = true, OPTIONS = true,
                  CONNECT = true, TRACE = true }
local BOUNDS = @BOUNDS@
local MOST, ALIVE, WIDTH = @MOST@, 10, @WIDTH@
local series, number, turn = {}, 0, 0
local known = {} -- the same by route, host, status, method and canary: no name is put together for what is known
local own = ngx.worker.pid() .. ".0"

local function fresh()
  local made = {}
  for index = 1, WIDTH do made[index] = 0 end
  return made
end

local function find(name)
  local found = series[name]
  if found then return found end
  if number >= MOST then
    name = "\\31\\31\\31-\\31"
    if series[name] then return series[name] end
  end
  number = number + 1
  found = { cells = fresh() }
  series[name] = found
  return found
end

local function inside(place, key)
  local inner = place[key]
  if not inner then
    inner = {}
    place[key] = inner
  end
  return inner
end

local function learn(route, host, status, method, canary)
  local name = status .. "\\31" .. method .. "\\31" .. host .. "\\31" .. route .. "\\31" .. canary
  local found = find(name)
  if series[name] == found then -- not the one for all the rest, or `known` would grow with it
    inside(inside(inside(inside(known, route), host), status), method)[canary] = found
  end
  return found
end

local function note(cells, from, bounds, value)
  local place = #bounds + 1
  for index = 1, #bounds do
    if value <= bounds[index] then
      place = index
      break
    end
  end
  cells[from + place] = cells[from + place] + 1
  local sum = from + #bounds + 2
  cells[sum] = cells[sum] + value
end

local function seconds(text)
  return text and (tonumber(text) or tonumber(text:match("([%d.]+)%D*$")))
end

local function flush()
  dict:set("\\31" .. own, 1, ALIVE)
  for name, found in pairs(series) do
    if found.changed then
      found.changed = false
      dict:safe_set(own .. "\\31" .. name, table.concat(found.cells, " "))
    end
  end
end

-- What comes after a worker's last turn is told under a name of its own each time, as a difference.
local function let_go()
  flush()
  turn = turn + 1
  series, known, number, own = {}, {}, 0, ngx.worker.pid() .. "." .. turn
end

function M.start()
  ngx.timer.every(1, function(ending)
    if ending then let_go() else flush() end
  end)
end

function M.count()
  local var = ngx.var
  local route = var.lbcore_route
  if not route or route == "" or route == "-" then return end
  local method, host, canary = ngx.req.get_method(), var.server_name or "", var.lbcore_alternative or ""
  if not METHODS[method] then method = "OTHER" end
  local found = known[route]
  found = found and found[host]
  found = found and found[ngx.status]
  found = found and found[method]
  found = found and found[canary] or learn(route, host, ngx.status, method, canary)
  local cells = found.cells
  found.changed = true
  cells[1] = cells[1] + 1
  local length, sent = tonumber(var.request_length), tonumber(var.bytes_sent)
  -- What $request_time says, without a text in between.
  local took = math.max(math.floor((ngx.now() - ngx.req.start_time()) * 1000 + 0.5) / 1000, 0)
  local values = { took, seconds(var.upstream_connect_time), seconds(var.upstream_header_time),
                   seconds(var.upstream_response_time), length, sent, sent }
  local from = 1
  for index = 1, #BOUNDS do
    local bounds = BOUNDS[index]
    if values[index] then note(cells, from, bounds, values[index]) end
    from = from + #bounds + 2
  end
  if ngx.worker.exiting() then let_go() end
end

local function add(one, other)
  local made = {}
  for value in one:gmatch("%S+") do made[#made + 1] = tonumber(value) end
  local index = 0
  for value in other:gmatch("%S+") do
    index = index + 1
    made[index] = (made[index] or 0) + tonumber(value)
  end
  return table.concat(made, " ")
end

function M.tell()
  flush()
  local lines = {}
  for _, key in ipairs(dict:get_keys(0)) do
    local id, name = key:match("^([^\\31]+)\\31(.*)$")
    if id then
      local value = dict:get(key)
      if id ~= "0" and not dict:get("\\31" .. id) then
        local whole = "0\\31" .. name
        local before = dict:get(whole)
        if dict:safe_set(whole, before and add(before, value) or value) then dict:delete(key) end
        value = nil
      elseif id ~= "0" then
        lines[#lines + 1] = name .. "\\30" .. value
      end
    end
  end
  for _, key in ipairs(dict:get_keys(0)) do
    if key:sub(1, 2) == "0\\31" then lines[#lines + 1] = key:sub(3) .. "\\30" .. dict:get(key) end
  end
  ngx.print(table.concat(lines, "\\n"))
end

return M
"""

COUNT_SCRIPTS: dict[str, bytes] = {
    "start.lua": b'return require("lbcore_counts").start()\n',
    "count.lua": b"return package.loaded.lbcore_counts.count()\n",
    "both.lua": b"package.loaded.lbcore.log()\nreturn package.loaded.lbcore_counts.count()\n",
    "counts.lua": b'return require("lbcore_counts").tell()\n',
}
_WIDTH = 1 + sum(len(bounds) + 2 for _, _, bounds in HISTOGRAMS)


def _module() -> bytes:
    bounds = ", ".join("{ " + ", ".join(f"{each:g}" for each in bounds) + " }" for _, _, bounds in HISTOGRAMS)
    text = _LUA.replace("@BOUNDS@", "{ " + bounds + " }").replace("@MOST@", str(MOST)).replace("@WIDTH@", str(_WIDTH))
    return text.encode()


COUNT_SCRIPTS["lbcore_counts.lua"] = _module()


def read_counts(text: str) -> tuple[Series, ...]:
    """What the workers told, each series once, sorted. Raises `RemoteProtocolError` for what is none of it."""
    sums: dict[str, list[float]] = {}
    for line in text.split("\n") if text else ():
        name, _, numbers = line.partition("\x1e")
        try:
            values = [float(each) for each in numbers.split()]
        except ValueError:
            raise RemoteProtocolError(f"{numbers[:60]!r} are no numbers") from None
        if len(values) != _WIDTH:
            raise RemoteProtocolError(f"{len(values)} numbers instead of {_WIDTH}")
        known = sums.get(name)
        sums[name] = values if known is None else [one + other for one, other in zip(known, values, strict=True)]
    return tuple(_series(name, values) for name, values in sorted(sums.items()))


def _series(name: str, values: list[float]) -> Series:
    parts = name.split("\x1f")
    if len(parts) != 5:
        raise RemoteProtocolError(f"{name[:60]!r} are no labels")
    status, method, host, route, canary = parts
    namespace, ingress, service, rest = (*route.split("/", 3), "", "", "")[:4] if route != "-" else ("",) * 4
    _, slash, path = rest.partition("/")
    histograms = []
    place = 1
    for _, _, bounds in HISTOGRAMS:
        end = place + len(bounds) + 1
        histograms.append(Histogram(buckets=tuple(map(int, values[place:end])), sum=values[end]))
        place = end + 1
    return Series(
        status=status,
        method=method,
        host=_host(host),
        namespace=namespace,
        ingress=ingress,
        service=service,
        path=slash + path,
        canary=canary,
        requests=int(values[0]),
        histograms=tuple(histograms),
    )


def _host(name: str) -> str:
    """The host of an Ingress, whose server's name is a pattern where it is a wildcard, and `_` where it is none."""
    if name == "_":
        return ""
    start = "~^[a-z0-9_-]+"
    return "*" + name.removeprefix(start).removesuffix("$").replace("\\.", ".") if name.startswith(start) else name
