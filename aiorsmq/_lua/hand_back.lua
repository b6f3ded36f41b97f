-- Undoes the receipt of messages that reached nobody: old place, old receive count.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     the channel, or '' to stay silent; then per message: id, receive count, score that it got, former score
-- Returns  {s, us, how many were handed back}
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
local back = 0
for i = 2, #ARGV, 4 do
  local id, received = ARGV[i], ARGV[i + 1]
  local score, count = redis.call('ZSCORE', KEYS[1], id), redis.call('HGET', KEYS[2], id .. ':rc')
  if score and tonumber(score) == tonumber(ARGV[i + 2]) and count == received then
    redis.call('ZADD', KEYS[1], ARGV[i + 3], id)
    if received == '1' then
      redis.pcall('HDEL', KEYS[2], id .. ':rc', id .. ':fr')
    else
      redis.pcall('HSET', KEYS[2], id .. ':rc', text(received - 1))
    end
    back = back + 1
  end
end
if back > 0 then
  redis.pcall('HINCRBY', KEYS[2], 'totalrecv', -back)
  if ARGV[1] ~= '' then
    redis.pcall('PUBLISH', ARGV[1], redis.call('ZCARD', KEYS[1]))
  end
end
return {time[1], time[2], back}
