-- Hides messages for a time from now on. Announces those that become visible earlier than before.
-- A queue that does not exist has no messages.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     1: the channel, or '' to announce nothing
--          2...: per message: id, fence or '' for any receipt, ms from now
-- Returns  {s, us, per message: 1 if it was changed, 0 if it is gone or was received again}
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua

-- Look.
local ids = {}
local names = {}
for i = 2, #ARGV, 3 do
  ids[#ids + 1] = ARGV[i]
  names[#names + 1] = ARGV[i] .. ':rc'
  names[#names + 1] = ARGV[i] .. ':fr'
end
local scores = redis.call('ZMSCORE', KEYS[1], unpack(ids))
local receipts = redis.call('HMGET', KEYS[2], unpack(names))

-- Check each message's receipt.
local now = now_ms()
local reply = time
local changes = {}
local is_earlier = false
for i, id in ipairs(ids) do
  local id_position = 3 * i - 1
  local fence = ARGV[id_position + 1]
  local visible_at = now + ARGV[id_position + 2]
  local count = receipts[2 * i - 1]
  local first_received = receipts[2 * i]
  local is_current = scores[i] and (fence == '' or fence_of(count, first_received) == fence)
  if is_current then
    is_earlier = is_earlier or visible_at < tonumber(scores[i])
    changes[#changes + 1] = text(visible_at)
    changes[#changes + 1] = id
  end
  reply[#reply + 1] = is_current and 1 or 0
end

-- Write.
if #changes > 0 then
  redis.call('ZADD', KEYS[1], unpack(changes))
end
if is_earlier then
  announce(ARGV[1], KEYS[1])
end
return reply
