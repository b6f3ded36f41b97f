-- Undoes the receipt of messages that reached nobody: old place, old receive count.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     the channel, or '' to stay silent; then per message: id, fence, score that it got, former score
-- Returns  {s, us, how many were handed back}
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
redis.call('ZADD', KEYS[1], 'XX', 0, '') -- see prelude.lua
redis.call('HDEL', KEYS[2], ':rc')
local back = 0
for i = 2, #ARGV, 4 do
  local id = ARGV[i]
  local score = redis.call('ZSCORE', KEYS[1], id)
  local values = redis.call('HMGET', KEYS[2], id .. ':rc', id .. ':fr')
  if score and tonumber(score) == tonumber(ARGV[i + 2]) and fence_of(unpack(values)) == ARGV[i + 1] then
    local received = whole(values[1])
    if received == 1 then
      redis.call('HDEL', KEYS[2], id .. ':rc', id .. ':fr')
    else
      redis.call('HSET', KEYS[2], id .. ':rc', text(received - 1))
    end
    redis.call('ZADD', KEYS[1], ARGV[i + 3], id)
    back = back + 1
  end
end
if back > 0 then
  redis.pcall('HINCRBY', KEYS[2], 'totalrecv', -back)
  announce(ARGV[1], KEYS[1])
end
return {time[1], time[2], back}
