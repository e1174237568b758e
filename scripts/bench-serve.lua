-- Histories of 1 to 20 items for wrk, and its figures on one line: requests/s, p50, p99 (ms), requests, errors.
local ids = {}
for id in io.lines(os.getenv("IDS")) do ids[#ids + 1] = id end
math.randomseed(1)
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

function request()
  local history = {}
  for i = 1, math.random(20) do history[i] = '"' .. ids[math.random(#ids)] .. '"' end
  return wrk.format(nil, nil, nil, '{"history":[' .. table.concat(history, ",") .. "]}")
end

function done(summary, latency)
  local e = summary.errors
  print(string.format("figures %.1f %.1f %.1f %d %d", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout))
end
