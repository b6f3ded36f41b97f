-- Undoes the receipt of messages that reached nobody: old place, old receive count.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     the channel, or '' to stay silent; then per message: id, fence, score that it got, former score
-- Returns  {s, us, how many were handed back}
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
local back = 0
for i = 2, #ARGV, 4 do
  local id = ARGV[i]
  local score, values = redis.call('ZSCORE', KEYS[1], id), redis.call('HMGET', KEYS[2], id .. ':rc', id .. ':fr')
  if score and tonumber(score) == tonumber(ARGV[i + 2]) and fence_of(unpack(values)) == ARGV[i + 1] then
    redis.call('ZADD', KEYS[1], ARGV[i + 3], id)
    local received = whole(values[1])
    if received == 1 then
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
