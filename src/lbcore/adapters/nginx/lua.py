"""The Lua by which nginx chooses peers without a reload, where Debian's libnginx-mod-http-lua is there.

Nothing of a manifest is in these texts, and nothing of a manifest is ever code: peers come as lines of words, which
`peers_line` makes, and what is hashed comes in a variable. Each value carries the number of the change that it
came with, so that what a reload reads from the file never takes the place of something newer.

Within one turn of a worker's loop (nginx's time stands still for it, or for a millisecond at most) peers are not read
again: of what Lua costs a request, half was looking twice for the same.

Peers are chosen by turns; by the lower of two moving averages of response times (peak EWMA, 10 s); or by rendezvous:
of a key and each peer the highest MD5 wins, so that a peer that goes moves only those that it had. A client that is
pinned has a cookie that is the MD5 of its peer. With `+` after the way, one whose peer failed is given another cookie.
"""

from __future__ import annotations

import re

from lbcore.addresses import Address
from lbcore.errors import AddressError, LocalProtocolError
from lbcore.proxy import Balance, Upstream

__all__ = ["CONTROL", "PEERS", "SCRIPTS", "gone_line", "peers_line"]

PEERS = "peers.txt"
CONTROL = "control.sock"
_ID = re.compile(r"[a-z0-9]{1,64}")
_HOST = re.compile(r"[0-9A-Fa-f.:]+")

_MODULE = """\
local balancer = require "ngx.balancer"
local dict = ngx.shared.lbcore_peers
local M, cache, scores = {}, {}, {}
local DECAY = 10
local get_request, time = require("resty.core.base").get_request, ngx.now
local get_failure, more_tries, set_peer = balancer.get_last_failure, balancer.set_more_tries, balancer.set_current_peer
local NONE = {} -- of the peers no one was tried
local checked, checked_at, answer -- the request that was checked last, when, and the upstream found for it

local function upstream(id)
  local known, now = cache[id], time()
  if known and known.at == now then return known end
  local text = dict:get(id)
  if not text then return nil end
  if known and known.text == text then
    known.at = now
    return known
  end
  local how, rest = text:match("^%d+ (%S+) ?(.*)$")
  local way, changes = how:match("^(%l+)(%+?)$")
  local made = { text = text, how = way, changes = changes ~= "", at = now }
  made.turn = known and known.turn or math.random(0, 65535)
  for host, port in rest:gmatch("(%S+) (%d+)") do
    local name = host .. ":" .. port
    made[#made + 1] = { host = host, port = tonumber(port), name = name, token = ngx.md5(id .. " " .. name) }
  end
  cache[id] = made
  return made
end

local function score(peer, now)
  local known = scores[peer.name]
  return known and known.value * math.exp((known.at - now) / DECAY) or 0
end

local function untried(found, tried)
  local left = {}
  for _, peer in ipairs(found) do
    if not tried[peer.name] then left[#left + 1] = peer end
  end
  return #left > 0 and left or found
end

local choose = {}

function choose.turns(found, tried)
  found.turn = (found.turn + 1) % 1048576
  for step = 0, #found - 1 do
    local peer = found[(found.turn + step) % #found + 1]
    if not tried[peer.name] then return peer end
  end
  return found[found.turn % #found + 1]
end

function choose.ewma(found, tried)
  local left, now = untried(found, tried), ngx.now()
  local first = math.random(#left)
  if #left == 1 then return left[1] end
  local second = (first + math.random(#left - 1) - 1) % #left + 1
  return score(left[first], now) <= score(left[second], now) and left[first] or left[second]
end

local function highest(key, peers)
  local best, value = nil, nil
  for _, peer in ipairs(peers) do
    local digest = ngx.md5_bin(key .. " " .. peer.name)
    if not value or digest > value then best, value = peer, digest end
  end
  return best
end

function choose.key(found, tried)
  if found.changes and next(tried) then
    for draw = 1, 20 do
      local key = ngx.md5(ngx.var.request_id .. draw)
      local peer = highest(key, found)
      if not tried[peer.name] then
        ngx.var.lbcore_changed = key
        return peer
      end
    end
  end
  return highest(ngx.var.lbcore_key or "", untried(found, tried))
end

function choose.pin(found, tried)
  local key, known = ngx.var.lbcore_key, nil
  for _, peer in ipairs(found) do
    if peer.token == key then known = peer end
  end
  if known and not tried[known.name] then return known end
  local left = untried(found, tried)
  local peer = left[math.random(#left)]
  if not known or found.changes then ngx.var.lbcore_changed = peer.token end
  return peer
end

function M.check()
  local found = upstream(ngx.var.lbcore_upstream)
  if not found or #found == 0 then return ngx.exit(503) end
  checked, checked_at, answer = get_request(), time(), found
end

-- By name, the peers that a request was sent to already; nginx keeps them, so that only who tries again pays for it.
local function peers_tried()
  local tried = {}
  for name in (ngx.var.upstream_addr or ""):gmatch("[^%s,]+") do tried[name] = true end
  return tried
end

function M.balance()
  local found = answer
  if get_request() ~= checked or time() ~= checked_at then found = upstream(ngx.var.lbcore_upstream) end
  if not found or #found == 0 then return ngx.exit(ngx.ERROR) end
  local peer = found[1]
  if #found > 1 then
    local tried = NONE
    if get_failure() then tried = peers_tried() else more_tries(#found - 1) end
    peer = choose[found.how](found, tried)
  elseif found.how == "pin" then -- nobody else to try, but a cookie to be given
    peer = choose.pin(found, NONE)
  end
  local done, why = set_peer(peer.host, peer.port)
  if not done then
    ngx.log(ngx.ERR, "peer ", peer.name, ": ", why)
    return ngx.exit(ngx.ERROR)
  end
end

function M.log()
  local address, took = ngx.var.upstream_addr, ngx.var.upstream_response_time
  if not address or not took then return end
  local name, seconds = address:match("(%S+)$"), tonumber(took:match("(%S+)$"))
  if not name or not seconds then return end
  local now, known = ngx.now(), scores[name]
  local weight = known and math.exp((known.at - now) / DECAY) or 0
  local value = known and seconds < known.value and known.value * weight + seconds * (1 - weight) or seconds
  scores[name] = { value = value, at = now }
end

function M.load(text)
  for line in text:gmatch("[^\\n]+") do
    local id, number, rest = line:match("^(%S+) (%d+) ?(.*)$")
    local known, kept = dict:get(id), cache[id]
    if kept then kept.at = nil end
    if not known or tonumber(known:match("^%d+")) < tonumber(number) then
      if rest == "" then
        dict:delete(id)
      else
        local done, why = dict:safe_set(id, number .. " " .. rest)
        if not done then return why end
      end
    end
  end
end

function M.control()
  ngx.req.read_body()
  local text = ngx.req.get_body_data()
  if not text and ngx.req.get_body_file() then
    local file = io.open(ngx.req.get_body_file(), "rb")
    text = file and file:read("*a")
    if file then file:close() end
  end
  local why = M.load(text or "")
  if why then
    ngx.status = 507
    return ngx.print(why)
  end
  ngx.print("ok")
end

return M
"""

SCRIPTS: dict[str, bytes] = {
    "lbcore.lua": _MODULE.encode(),
    "check.lua": b"return package.loaded.lbcore.check()\n",
    "balance.lua": b"return package.loaded.lbcore.balance()\n",
    "control.lua": b"return package.loaded.lbcore.control()\n",
    "log.lua": b"return package.loaded.lbcore.log()\n",
    # Loaded once, for all: `require` is a function of C that is called, and stops the compiler, for each request.
    "init.lua": b'local file = io.open(debug.getinfo(1, "S").source:match("^@(.*)init.lua$") .. "peers.txt", "rb")\n'
    b'local lbcore = require("lbcore")\n'
    b'if file then lbcore.load(file:read("*a")) file:close() end\n',
}


def peers_line(upstream: Upstream, number: int) -> str:
    """An upstream's peers as a line, with the number of the change. Raises `LocalProtocolError` for no peers."""
    how = "turns"
    if upstream.affinity is not None or upstream.hash_by:
        how = "pin" if upstream.affinity is not None and upstream.affinity.persistent else "key"
        how += "+" if upstream.affinity is not None and upstream.affinity.change_on_failure else ""
    elif upstream.balance is Balance.EWMA:
        how = "ewma"
    words = [_id(upstream.id), str(number), how]
    for peer in upstream.peers:
        words += [_host(peer.host), str(peer.port)]
    return " ".join(words) + "\n"


def gone_line(name: str, number: int) -> str:
    """The line for an upstream that is no longer there."""
    return f"{_id(name)} {number}\n"


def _host(host: str) -> str:
    """An address as nginx has it in $upstream_addr: the usual one of an IPv6 address's texts."""
    if not _HOST.fullmatch(host):
        raise LocalProtocolError(f"{host[:60]!r} is no address")
    if ":" not in host:
        return host
    try:
        return f"[{Address.parse(host)}]"
    except AddressError:
        raise LocalProtocolError(f"{host[:60]!r} is no address") from None


def _id(name: str) -> str:
    if not _ID.fullmatch(name):
        raise LocalProtocolError(f"{name[:60]!r} is no upstream")
    return name
