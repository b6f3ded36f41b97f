-- Deletes messages.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     'retry' if an earlier attempt may have deleted them, else 'first';
--          the receive count of all, '' for whichever, or 'each'; the ids; after 'each' as many receive counts
-- Returns  {s, us, positions of the messages that are gone or were received by another since...}; to a retry, what is
--          gone is deleted
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this

local argv, common, rc = ARGV, ARGV[2] ~= 'each' and ARGV[2], {}
local n = common and #argv - 2 or (#argv - 2) / 2
for i = 1, n do
  rc[i] = argv[i + 2] .. ':rc'
end
local counts, reply, ids, fields, k = redis.call('HMGET', KEYS[2], unpack(rc)), {time[1], time[2]}, {}, {}, 0
for i = 1, n do
  local id, fence, count = argv[i + 2], common or argv[i + n + 2], counts[i]
  local mine, here = count == fence, true
  if not mine then -- a count that matches is of a message that is there; else look
    here = redis.call('ZSCORE', KEYS[1], id)
    mine = here and (fence == '' or text(whole(count) or 0) == fence)
  end
  if mine then
    k = k + 1
    ids[k] = id
    fields[3 * k - 2] = id
    fields[3 * k - 1] = rc[i]
    fields[3 * k] = id .. ':fr'
  elseif here or argv[1] ~= 'retry' then
    reply[#reply + 1] = i - 1
  end
end
if k > 0 then
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.pcall('HDEL', KEYS[2], unpack(fields))
end
return reply
