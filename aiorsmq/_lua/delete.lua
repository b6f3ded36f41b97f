-- Deletes messages.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     'retry' if an earlier attempt may have deleted them, else 'first';
--          then per message: id, receive count ('' for whichever)
-- Returns  {s, us, per message: 1 if it was deleted, 0 if it is gone or was received by another since}; to a retry,
--          what is gone is deleted
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this

local counts = {}
for i = 2, #ARGV, 2 do
  counts[i / 2] = ARGV[i] .. ':rc'
end
local received = redis.call('HMGET', KEYS[2], unpack(counts))

local reply, gone, ids, fields = time, {}, {}, {}
for i = 2, #ARGV, 2 do
  local id, fence, count = ARGV[i], ARGV[i + 1], received[i / 2]
  local mine, here = count and count == fence, true
  if not mine then -- a count that matches is of a message that is there; else look
    here = redis.call('ZSCORE', KEYS[1], id)
    mine = here and (fence == '' or text(whole(count) or 0) == fence)
  end
  mine = mine and not gone[id]
  reply[#reply + 1] = (mine or ARGV[1] == 'retry' and not here) and 1 or 0
  if mine then
    gone[id] = true
    local f = #fields
    ids[#ids + 1] = id
    fields[f + 1], fields[f + 2], fields[f + 3] = id, counts[i / 2], id .. ':fr'
  end
end
if #ids > 0 then
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.pcall('HDEL', KEYS[2], unpack(fields))
end
return reply
