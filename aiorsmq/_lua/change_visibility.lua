-- Sets how long messages stay hidden from now on; announces those that become visible earlier than they would have.
-- Where there is no queue there are no messages.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     the channel, or '' to stay silent; then per message: id, fence ('' for none), ms from now
-- Returns  {s, us, per message: 1 if it was changed, 0 if it is gone or was received by another since}
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this

local ids, names, now = {}, {}, now_ms()
for i = 2, #ARGV, 3 do
  ids[#ids + 1] = ARGV[i]
  names[#names + 1] = ARGV[i] .. ':rc'
  names[#names + 1] = ARGV[i] .. ':fr'
end
local scores = redis.call('ZMSCORE', KEYS[1], unpack(ids))
local values = redis.call('HMGET', KEYS[2], unpack(names))

local reply, changes, earlier = time, {}, false
for i, id in ipairs(ids) do
  local fence, visible = ARGV[3 * i], now + ARGV[3 * i + 1]
  local mine = scores[i] and (fence == '' or fence_of(values[2 * i - 1], values[2 * i]) == fence)
  reply[#reply + 1] = mine and 1 or 0
  if mine then
    earlier = earlier or visible < tonumber(scores[i])
    changes[#changes + 1] = text(visible)
    changes[#changes + 1] = id
  end
end
if #changes > 0 then
  redis.call('ZADD', KEYS[1], unpack(changes))
end
if earlier then
  announce(ARGV[1], KEYS[1])
end
return reply
