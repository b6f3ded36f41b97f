-- Puts popped messages that reached nobody back into their queue.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     the channel, or '' to stay silent; then per message: id, body, receive count, first received, former score.
--          An empty score: hidden for the queue's vt, and the pop counts as a receipt.
-- Returns  {s, us, how many were put back}
local time = redis.call('TIME')
local queue = redis.call('HMGET', KEYS[2], 'vt', 'delay', 'maxsize')
local back = 0
for i = 2, #ARGV, 5 do
  local id, score = ARGV[i], ARGV[i + 4]
  local known = redis.call('ZSCORE', KEYS[1], id)
  if (queue[1] or queue[2] or queue[3]) and not known then
    local received = tonumber(ARGV[i + 2]) - (score == '' and 0 or 1)
    local later = time[1] * 1000 + (tonumber(queue[1]) or 30) * 1000
    redis.call('ZADD', KEYS[1], score == '' and string.format('%.0f', later) or score, id)
    redis.pcall('HSET', KEYS[2], id, ARGV[i + 1])
    if received > 0 then
      redis.pcall('HSET', KEYS[2], id .. ':rc', string.format('%.0f', received), id .. ':fr', ARGV[i + 3])
    end
    if score ~= '' then
      redis.pcall('HINCRBY', KEYS[2], 'totalrecv', -1)
    end
    back = back + 1
  end
end
if back > 0 and ARGV[1] ~= '' then
  redis.pcall('PUBLISH', ARGV[1], redis.call('ZCARD', KEYS[1]))
end
return {time[1], time[2], back}
