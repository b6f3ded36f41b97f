-- Puts popped messages that reached no consumer back into their queue.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     1: the channel, or '' to announce nothing
--          2: the least ms for which to hide a message without a former score
--          3...: per message: id, body, receive count, first received, former score; without the
--          last, '', it is hidden for at least the queue's vt, and the pop counts as a receipt
-- Returns  {s, us, how many were put back}
-- Errors   QUEUE_DOES_NOT_EXIST
local vt_ms = vt_of(attributes(KEYS[2])) * 1000
local visible_at = now_ms() + math.max(vt_ms, tonumber(ARGV[2]))
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua
redis.call('ZADD', KEYS[1], 'XX', 0, '') -- dry run

local total = 0
for i = 3, #ARGV, 5 do
  local id = ARGV[i]
  local body = ARGV[i + 1]
  local count = tonumber(ARGV[i + 2])
  local first_received = ARGV[i + 3]
  local score = ARGV[i + 4]
  local is_undo = score ~= ''
  local is_present = redis.call('HMGET', KEYS[2], id)[1]
  if not is_present then
    if is_undo then
      count = count - 1
    end
    local receipt = count > 0 and {id .. ':rc', text(count), id .. ':fr', first_received} or {}
    redis.call('HSET', KEYS[2], id, body, unpack(receipt))
    redis.call('ZADD', KEYS[1], is_undo and score or text(visible_at), id)
    if is_undo then
      redis.pcall('HINCRBY', KEYS[2], 'totalrecv', -1)
    end
    total = total + 1
  end
end

if total > 0 then
  announce(ARGV[1], KEYS[1])
end
return {time[1], time[2], total}
