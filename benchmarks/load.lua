-- What wrk sends: lines of a file in random order, as fast as its connections allow, or at a rate of its own.
--
-- wrk … -s load.lua URL -- BODIES RATE EXPECTED
--   BODIES    file, a JSON body a line
--   RATE      requests a second in a Poisson stream; 0 for as many as come back. One thread keeps the whole stream and
--             each free connection takes its next moment, so a slow answer delays nobody: what a closed loop leaves out
--             of its latencies ("coordinated omission") is measured here while fewer requests are under way than there
--             are connections; those that left later than they should are counted as `late`.
--   EXPECTED  text that every answer must hold, else it is `wrong`; "" for none (looking costs wrk time)

local ffi = require("ffi")
ffi.cdef [[ typedef struct { long s, us; } moment; int gettimeofday(moment *, void *); ]]
local moment, requests = ffi.new("moment"), {}
local threads = {}
late, wrong = 0, 0

local function milliseconds()
  ffi.C.gettimeofday(moment, nil)
  return tonumber(moment.s) * 1000 + tonumber(moment.us) / 1000
end

function setup(thread) table.insert(threads, thread) end

function init(words)
  local rate, expected = tonumber(words[2]), words[3] or ""
  math.randomseed(7)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for body in io.lines(words[1]) do table.insert(requests, wrk.format(nil, nil, nil, body)) end
  if rate > 0 then
    local due = milliseconds()
    function delay()
      local now = milliseconds()
      due = due - math.log(1 - math.random()) * 1000 / rate
      if due < now - 1 then late = late + 1 end
      return math.max(0, math.floor(due - now + 0.5))
    end
  end
  if expected ~= "" then
    function response(status, _, body)
      if status < 400 and not body:find(expected, 1, true) then wrong = wrong + 1 end
    end
  end
end

function request() return requests[math.random(#requests)] end

function done(summary, latency)
  local e, all_late, all_wrong = summary.errors, 0, 0
  for _, thread in ipairs(threads) do
    all_late, all_wrong = all_late + thread:get("late"), all_wrong + thread:get("wrong")
  end
  io.write(string.format(
    '\nFIGURES {"requests": %d, "seconds": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f, "late": %d, '
      .. '"wrong": %d, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000, all_late, all_wrong, e.connect + e.read + e.write + e.status + e.timeout))
end
