-- Moves messages to another queue under their ids: dead ones to the dead-letter queue, or back.
-- A cluster has both on one node: names have no braces, so only the namespace can have a hash tag.
-- Include: prelude_dead_letters
-- KEYS     messages (ZSET), queue (HASH), the target's (ZSET, HASH), queues (SET), reasons (HASH)
-- ARGV     1: 'first', or 'retry' if an earlier attempt may have moved them
--          2: qname
--          3: the target's qname
--          4: the target's channel, or '' to announce nothing
--          5: the reason of death, or '' for the way back
--          6: seconds for which to keep the reason
--          7...: per message: id; fence, '' for any receipt over max_receives, '*' for any if it is
--          visible, or '@' and a score for any if it is visible with that score
-- Returns  {s, us, 1, per message: 1 if it was moved, 0 if it is gone, hidden or received again}
--          {s, us, 0, dead_letter_queue or ''}, and moves nothing, if that is not the target
--          {s, us, -1}, and moves nothing, if the target of the way back does not exist
-- Errors   QUEUE_DOES_NOT_EXIST

-- Check: the queue's policy and the target.
attributes(KEYS[2])
local now = now_ms()
local reason = ARGV[5]
local is_death = reason ~= ''
local target_exists = exists(KEYS[4])
local name, max_receives = policy(KEYS[2], ARGV[2])
if is_death and name ~= ARGV[3] then
  return {time[1], time[2], 0, name or ''}
elseif not is_death and not target_exists then
  return {time[1], time[2], -1}
end
redis.call('ZCARD', KEYS[3]) -- raises if the key is another program's
redis.call('SCARD', KEYS[5])
local keeps_reasons = is_death and not redis.pcall('HMGET', KEYS[6], '').err
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua
redis.call('ZADD', KEYS[3], 'XX', 0, '') -- dry run
redis.call('HDEL', KEYS[2], ':rc') -- dry run
if keeps_reasons then
  redis.call('EXPIRE', KEYS[6], ARGV[6])
end

-- Look: which messages are to be moved.
local reply = {time[1], time[2], 1}
local ids = {}
local fields = {}
local places = {}
local bodies = {}
local deaths = {}
for i = 7, #ARGV, 2 do
  local id = ARGV[i]
  local fence = ARGV[i + 1]
  local score = redis.call('ZSCORE', KEYS[1], id)
  local values = redis.call('HMGET', KEYS[2], id, id .. ':rc', id .. ':fr')
  local body = values[1]
  local count = integer(values[2]) or 0
  local exceeds_limit = fence == '' and max_receives and count > max_receives
  local is_visible = score and tonumber(score) <= now
  local same_score = string.sub(fence, 1, 1) == '@' and score == string.sub(fence, 2)
  local is_free = is_visible and (fence == '*' or same_score)
  if score and body and (exceeds_limit or is_free or fence_of(values[2], values[3]) == fence) then
    -- The next first receipt must be later than the last one, see fence_of.
    local visible_at = integer(values[3]) == now and now + 1 or now
    put(fields, 3 * #ids, id, id .. ':rc', id .. ':fr')
    put(places, 2 * #ids, text(visible_at), id)
    put(bodies, 2 * #ids, id, body)
    put(deaths, 2 * #ids, id, text(now) .. ' ' .. text(count) .. ' ' .. ARGV[2] .. ' ' .. reason)
    ids[#ids + 1] = id
  end
  local is_moved = ids[#ids] == id
  local may_be_repeat = ARGV[1] == 'retry' and not is_moved and not score
  local was_moved = may_be_repeat and redis.call('ZSCORE', KEYS[3], id)
  reply[#reply + 1] = (is_moved or was_moved) and 1 or 0
end

-- Write: first to the target, so that an error loses no message.
if not target_exists then
  create(KEYS[4], KEYS[5], ARGV[3])
end
if #ids > 0 then
  redis.call('HSET', KEYS[4], unpack(bodies))
  redis.call('ZADD', KEYS[3], unpack(places))
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.call('HDEL', KEYS[2], unpack(fields))
  redis.pcall('HINCRBY', KEYS[4], 'totalsent', #ids)
  redis.pcall('HDEL', KEYS[6], unpack(ids))
  if keeps_reasons then
    keep_reasons(KEYS[6], deaths, ARGV[6], KEYS[3])
  end
  announce(ARGV[4], KEYS[3])
end
return reply
