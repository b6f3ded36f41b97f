-- Moves the times of a queue back, as if time had passed, and announces it. For tests.
-- KEYS     messages (ZSET), queue (HASH), reasons (HASH)
-- ARGV     1: by how many ms
--          2: the channel
-- Returns  {s, us, how many hidden messages have become visible}
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local ms = tonumber(ARGV[1])
local now = now_ms()

-- Look. The first receipts stay: with another one, no consumer could settle what it holds.
local total = redis.call('ZCOUNT', KEYS[1], '(' .. text(now), text(now + ms))
local places = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local reasons = redis.pcall('HGETALL', KEYS[3])
local has_reasons = not reasons.err and #reasons > 0 -- not if another program's key
local ttl = redis.call('PTTL', KEYS[3])

-- Write: when messages become visible, which is when their delays, leases and backoffs end.
for i = 1, #places, 2 do
  local visible_at = integer(places[i + 1])
  if visible_at then
    redis.call('ZADD', KEYS[1], 'XX', text(visible_at - ms), places[i])
  end
end

-- Write: when dead letters died, and when that is forgotten.
if has_reasons then
  for i = 1, #reasons, 2 do
    local died_at, death = string.match(reasons[i + 1], '^(%d+)(.*)$')
    if died_at then
      redis.call('HSET', KEYS[3], reasons[i], text(died_at - ms) .. death)
    end
  end
  if ttl > 0 then
    redis.call('PEXPIRE', KEYS[3], ttl - ms)
  end
end
announce(ARGV[2], KEYS[1])
return {time[1], time[2], total}
