-- Takes all messages out of a queue in one step, hidden ones included, then deletes what is stored
-- of them in many.
-- KEYS     messages (ZSET), queue (HASH), purged (ZSET)
-- ARGV     1: 'begin', or 'go on'
--          2: the most messages to delete
-- Returns  {s, us, messages taken out, or -1 if an earlier purge has to be finished first,
--          messages left to delete}
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua

-- Take the messages out.
local backlog = redis.call('ZCARD', KEYS[3])
local total = -1
if ARGV[1] == 'begin' and backlog == 0 then
  total = redis.call('ZCARD', KEYS[1])
  if total > 0 then
    redis.call('ZRANGE', KEYS[3], 0, 0) -- dry run, as are the next two
    redis.call('ZMSCORE', KEYS[1], '')
    redis.call('HDEL', KEYS[2], ':rc')
    redis.call('RENAME', KEYS[1], KEYS[3])
  end
end

-- Delete.
local ids = redis.call('ZRANGE', KEYS[3], '0', ARGV[2] - 1)
if #ids > 0 then
  local scores = redis.call('ZMSCORE', KEYS[1], unpack(ids))
  local fields = {}
  for i, id in ipairs(ids) do
    local came_back = scores[i] -- from another queue
    if not came_back then
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
return {time[1], time[2], total, redis.call('ZCARD', KEYS[3])}
