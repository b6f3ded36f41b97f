-- Deletes the messages that meet the conditions, among the next ones of a queue.
-- Include: prelude_places
-- Include: prelude_matches
-- KEYS     messages (ZSET), queue (HASH), reasons (HASH)
-- ARGV     1: the most messages to look at
--          2: the most messages to delete
--          3: bytes of bodies to read, after which to stop
--          4: 'delete', or 'count' to change nothing
--          5...: score of the last message looked at before, or '-inf'; its id, or ''; then the
--          conditions, see prelude_matches.lua
-- Returns  {s, us, how many met them, score and id of the last message looked at, both '' if there
--          are no more}
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local max_bytes = tonumber(ARGV[3])
local matches, _, score, id =
  search(KEYS[1], KEYS[2], KEYS[3], 5, tonumber(ARGV[1]), tonumber(ARGV[2]), max_bytes)
local ids = {}
local fields = {}
for i, message in ipairs(matches) do
  ids[i] = message.id
  put(fields, #fields, message.id, message.id .. ':rc', message.id .. ':fr')
end
if ARGV[4] == 'delete' and #ids > 0 then
  redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua
  redis.call('HDEL', KEYS[2], unpack(fields))
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.pcall('HDEL', KEYS[3], unpack(ids))
end
return {time[1], time[2], #ids, score, id}
