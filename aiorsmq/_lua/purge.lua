-- Takes all messages out of a queue in one step, hidden ones included, and deletes what was stored of them in many.
-- KEYS     messages (ZSET), queue (HASH), purged (ZSET)
-- ARGV     'begin', or 'go on'; how many to delete at the most
-- Returns  {s, us, messages that were taken out, or -1 if they were not yet, messages left to delete}: it does not
--          begin before an earlier purge that was broken off is finished
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
local unfinished, taken = redis.call('ZCARD', KEYS[3]), -1
if ARGV[1] == 'begin' and unfinished == 0 then
  taken = redis.call('ZCARD', KEYS[1])
  if taken > 0 then
    redis.call('ZRANGE', KEYS[3], 0, 0) -- see prelude.lua: these change nothing either, there is no such key
    redis.call('ZMSCORE', KEYS[1], '')
    redis.call('HDEL', KEYS[2], ':rc')
    redis.call('RENAME', KEYS[1], KEYS[3])
  end
end

local ids, fields = redis.call('ZRANGE', KEYS[3], '0', ARGV[2] - 1), {}
if #ids > 0 then
  local places = redis.call('ZMSCORE', KEYS[1], unpack(ids))
  for i, id in ipairs(ids) do
    if not places[i] then -- else it has come back since, from another queue
      fields[#fields + 1] = id
      fields[#fields + 1] = id .. ':rc'
      fields[#fields + 1] = id .. ':fr'
    end
  end
  if #fields > 0 then
    redis.call('HDEL', KEYS[2], unpack(fields))
  end
  redis.call('ZREM', KEYS[3], unpack(ids))
end
return {time[1], time[2], taken, redis.call('ZCARD', KEYS[3])}
