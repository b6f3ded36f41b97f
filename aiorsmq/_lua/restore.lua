-- Puts popped messages that reached nobody back into their queue, if it is still there.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     the channel, or '' to stay silent; ms for which to hide at the least; then per message: id, body, receive
--          count, first received, former score. An empty score: hidden for the queue's vt at the least, and the
--          pop counts as a receipt
-- Returns  {s, us, how many were put back}
-- Errors   QUEUE_DOES_NOT_EXIST
local hidden_until = now_ms() + math.max(vt_of(attributes(KEYS[2])) * 1000, tonumber(ARGV[2]))
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
redis.call('ZADD', KEYS[1], 'XX', 0, '') -- see prelude.lua
local back = 0
for i = 3, #ARGV, 5 do
  local id, body, received, since, score = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
  if not redis.call('HMGET', KEYS[2], id)[1] then
    received = score == '' and received or received - 1
    local receipt = received > 0 and {id .. ':rc', text(received), id .. ':fr', since} or {}
    redis.call('HSET', KEYS[2], id, body, unpack(receipt))
    redis.call('ZADD', KEYS[1], score == '' and text(hidden_until) or score, id)
    if score ~= '' then
      redis.pcall('HINCRBY', KEYS[2], 'totalrecv', -1)
    end
    back = back + 1
  end
end
if back > 0 then
  announce(ARGV[1], KEYS[1])
end
return {time[1], time[2], back}
