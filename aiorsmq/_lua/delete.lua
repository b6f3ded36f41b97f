-- Deletes messages.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     'retry' if an earlier attempt may have deleted them, else 'first';
--          then per message: id, receive count ('' for whichever)
-- Returns  {s, us, per message: 1 if it was deleted, 0 if it is gone or was received by another since}; to a retry,
--          what is gone is deleted
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this

local counts, argv = {}, ARGV
for i = 2, #argv, 2 do
  counts[i / 2] = argv[i] .. ':rc'
end
local received = redis.call('HMGET', KEYS[2], unpack(counts))

local reply, gone, ids, fields, n = time, {}, {}, {}, 0
for i = 2, #argv, 2 do
  local id, fence, count = argv[i], argv[i + 1], received[i / 2]
  local mine, here = count and count == fence, true
  if not mine then -- a count that matches is of a message that is there; else look
    here = redis.call('ZSCORE', KEYS[1], id)
    mine = here and (fence == '' or text(whole(count) or 0) == fence)
  end
  mine = mine and not gone[id]
  reply[i / 2 + 2] = (mine or argv[1] == 'retry' and not here) and 1 or 0
  if mine then
    gone[id] = true
    ids[n + 1], fields[3 * n + 1], fields[3 * n + 2], fields[3 * n + 3] = id, id, counts[i / 2], id .. ':fr'
    n = n + 1
  end
end
if n > 0 then
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.pcall('HDEL', KEYS[2], unpack(fields))
end
return reply
