-- Looks at messages in the order in which they become visible, hidden ones included, and returns
-- those that meet the conditions; changes nothing.
-- Include: prelude_places
-- Include: prelude_matches
-- KEYS     messages (ZSET), queue (HASH), reasons (HASH)
-- ARGV     1: the most messages to look at
--          2: the most messages to return
--          3: bytes of bodies after which to stop
--          4: bytes of each body to return
--          5...: score of the last message looked at before, or '-inf'; its id, or ''; then the
--          conditions, see prelude_matches.lua
-- Returns  {s, us, messages in the queue, messages looked at, score and id of the last, both '' if
--          there are no more, per message: id, beginning of its body, bytes of its body, receive
--          count, first received or '', score, 1 if it is visible, how it died or ''}
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local total = redis.call('ZCOUNT', KEYS[1], '-inf', '+inf')
local max_matches = tonumber(ARGV[2])
local max_bytes = tonumber(ARGV[3])
local matches, looks, score, id =
  search(KEYS[1], KEYS[2], KEYS[3], 5, tonumber(ARGV[1]), max_matches, max_bytes)
local reply = {time[1], time[2], total, looks, score, id}
for _, message in ipairs(matches) do
  put_message(reply, message, tonumber(ARGV[4]), KEYS[3])
end
return reply
