-- Returns messages in the order in which they become visible, hidden ones included; changes
-- nothing.
-- Include: prelude_places
-- KEYS     messages (ZSET), queue (HASH), reasons (HASH) to return them too
-- ARGV     1: the most messages to return
--          2: bytes of bodies after which to stop
--          3: the highest score, or 'now'
--          4: score of the last message of the page before, or '-inf'
--          5: its id, or ''
-- Returns  {s, us, highest score, id of the last member seen, or '' if there are no more, its
--          score, per message: id, body, receive count, first received or '', score, reason or ''};
--          members without a body are left out
-- Errors   QUEUE_DOES_NOT_EXIST

-- Check the queue, and find the rank at which to go on.
attributes(KEYS[2])
local limit = tonumber(ARGV[1])
local bytes_left = tonumber(ARGV[2])
local highest = ARGV[3] == 'now' and text(now_ms()) or ARGV[3]
local last_score = ARGV[4]
local last_id = ARGV[5]
local rank = rank_behind(KEYS[1], last_score, last_id)
local reply = {time[1], time[2], highest, '', ''}
local LAST_ID = 4
local LAST_SCORE = 5
local end_rank = redis.call('ZCOUNT', KEYS[1], '-inf', highest)
local limit_rank = math.min(end_rank, rank + 2000)

-- Look.
while rank < limit_rank and limit > 0 and bytes_left > 0 do
  local last_rank = math.min(rank + limit, end_rank) - 1
  local page = redis.call('ZRANGE', KEYS[1], rank, last_rank, 'WITHSCORES')
  for i = 1, #page, 2 do
    if bytes_left <= 0 then
      break
    end
    local id = page[i]
    local place = page[i + 1]
    local values = redis.call('HMGET', KEYS[2], id, id .. ':rc', id .. ':fr')
    local body = values[1]
    rank = rank + 1
    reply[LAST_ID] = id
    reply[LAST_SCORE] = place
    if body then
      local first_received = integer(values[3])
      local reason = KEYS[3] and redis.pcall('HMGET', KEYS[3], id)[1]
      local last = #reply
      reply[last + 1] = id
      reply[last + 2] = body
      reply[last + 3] = text(integer(values[2]) or 0)
      reply[last + 4] = first_received and text(first_received) or ''
      reply[last + 5] = place
      reply[last + 6] = type(reason) == 'string' and reason or '' -- not if another program's key
      limit = limit - 1
      bytes_left = bytes_left - #body
    end
  end
end

if rank >= end_rank then
  reply[LAST_ID] = ''
end
return reply
