-- Hands out visible messages. Each is hidden for its lease or, for a pop, deleted.
-- Include: prelude_claims
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     1: the most messages to hand out
--          2: the lease in ms, '' for the queue's vt, or 'pop'
--          3: bytes of bodies after which to stop
-- Returns  {s, us, score of the first message left or '', new score (of a pop: now), now, how many
--          members without a body were removed, max_receives or '', dead_letter_queue or '', 1 if
--          visible messages are left, per page: {id, former score, ...}, {body, receive count or
--          nil if it is the first, ...; nils if removed}, {first received, if counted, ...}}
--          {s, us, 'paused'}, and hands out nothing, if the queue is paused
-- Errors   QUEUE_DOES_NOT_EXIST
local policy = {'max_receives', 'dead_letter_queue'}
local queue = redis.call('HMGET', KEYS[2], 'vt', 'paused', 'totalrecv', unpack(policy))
if not queue[1] then
  attributes(KEYS[2]) -- raises if there is no queue
end
if queue[2] and queue[2] ~= '' then
  return {time[1], time[2], 'paused'}
end
local limit = tonumber(ARGV[1])
local pop = ARGV[2] == 'pop'
local lease = pop and 0 or tonumber(ARGV[2]) or vt_of(queue) * 1000
local max_bytes = tonumber(ARGV[3])
local now_number = now_ms()
local now = text(now_number)
local visible_at = text(now_number + lease)
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua

-- Look and take, page by page: 8 messages, then the number that is likely to reach max_bytes.
local reply = {time[1], time[2], '', visible_at, now, 0, queue[4] or '', queue[5] or '', 0}
local claim = {
  pop = pop,
  now = now,
  visible_at = visible_at,
  max_bytes = max_bytes,
  bytes = 0,
  length = 0,
  phantoms = 0,
  places = {},
  fields = {},
}
repeat
  local length = claim.length
  local bytes_left = max_bytes - claim.bytes
  local likely = length == 0 and 8 or math.ceil(bytes_left * length / claim.bytes)
  local size = math.min(limit - length, likely)
  local page, names, values = visible_page(KEYS[1], KEYS[2], now, length, size)
  local page_is_empty = #page == 0
  if not page_is_empty then
    local firsts = take_page(KEYS[1], KEYS[2], page, names, values, claim)
    put(reply, #reply, page, values, firsts)
  end
  local is_full = claim.length == limit or claim.bytes >= max_bytes
  local too_many_phantoms = claim.phantoms >= 1000
until page_is_empty or is_full or too_many_phantoms

-- Write. The dry run lets only those pop who could put a message back.
local length = claim.length
if length > 0 then
  local total = add(queue[3], length)
  redis.call('ZADD', KEYS[1], 'XX', 0, '')
  redis.call('HSET', KEYS[2], 'totalrecv', total, unpack(pop and {} or claim.fields))
  if pop then
    redis.call('HDEL', KEYS[2], unpack(claim.fields))
    redis.call('ZREM', KEYS[1], unpack(claim.places))
  else
    redis.call('ZADD', KEYS[1], unpack(claim.places))
  end
end

-- Reply. After a lease of 0 the messages handed out are still visible.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local first_left = due[2]
local has_more = first_left and tonumber(first_left) <= now_number
if has_more and not pop and visible_at == now then
  has_more = #redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', length, 1) > 0
end
reply[3] = first_left or ''
reply[6] = claim.phantoms
reply[9] = has_more and 1 or 0
return reply
