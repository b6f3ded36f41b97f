-- Deletes the first messages, hidden ones included.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     how many at the most
-- Returns  {s, us, how many were deleted, how many are left}
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
local ids, fields = redis.call('ZRANGE', KEYS[1], '0', ARGV[1] - 1), {}
for _, id in ipairs(ids) do
  fields[#fields + 1] = id
  fields[#fields + 1] = id .. ':rc'
  fields[#fields + 1] = id .. ':fr'
end
if #ids > 0 then
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.pcall('HDEL', KEYS[2], unpack(fields))
end
return {time[1], time[2], #ids, redis.call('ZCARD', KEYS[1])}
