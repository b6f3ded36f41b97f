-- Says which queues are there and not in the set of all queues; changes nothing.
-- KEYS     queues (SET), then per queue: queue (HASH)
-- ARGV     1...: per queue: qname
-- Returns  {s, us, per queue: 1 if it is there and not in the set}
local reply = {time[1], time[2]}
for i, qname in ipairs(ARGV) do
  local is_listed = redis.call('SISMEMBER', KEYS[1], qname) == 1
  local exists = redis.call('HLEN', KEYS[i + 1]) > 0
  reply[#reply + 1] = exists and not is_listed and 1 or 0
end
return reply
