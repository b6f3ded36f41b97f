-- Returns why messages came to this queue, without their bodies; changes nothing.
-- Include: prelude_places
-- KEYS     messages (ZSET), queue (HASH), reasons (HASH)
-- ARGV     1: the most messages to look at
--          2: score of the last message looked at before, or '-inf'
--          3: its id, or ''
-- Returns  {s, us, messages looked at, score and id of the last, both '' if there are no more, per
--          message: id, reason or ''}; members without a body are left out
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local rank = rank_behind(KEYS[1], ARGV[2], ARGV[3])
local end_rank = redis.call('ZCOUNT', KEYS[1], '-inf', '+inf')
local last_rank = math.min(rank + ARGV[1], end_rank) - 1
local is_over = rank > last_rank
local page = is_over and {} or redis.call('ZRANGE', KEYS[1], rank, last_rank, 'WITHSCORES')
local has_more = not is_over and last_rank + 1 < end_rank
local score = has_more and page[#page] or ''
local reply = {time[1], time[2], #page / 2, score, has_more and page[#page - 1] or ''}
for i = 1, #page, 2 do
  local id = page[i]
  if redis.call('HEXISTS', KEYS[2], id) == 1 then
    local reason = redis.pcall('HMGET', KEYS[3], id)[1] -- no list if it is another program's key
    put(reply, #reply, id, type(reason) == 'string' and reason or '')
  end
end
return reply
