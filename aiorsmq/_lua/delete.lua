-- Deletes messages. Where there is no queue there are none.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     'retry' if an earlier attempt may have deleted them, else 'first';
--          the fence of all, '' for none, or 'each'; the ids; after 'each' as many fences; to a retry as many ends of
--          leases, in ms or ''
-- Returns  {s, us, positions of the messages that are gone or were received by another since...}; to a retry, what is
--          gone is deleted, unless its lease has ended: then another may have deleted it
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this

local argv, again, common, names = ARGV, ARGV[1] == 'retry', ARGV[2] ~= 'each' and ARGV[2], {}
local n = (#argv - 2) / (common and 1 or again and 3 or 2)
for i = 1, n do
  names[2 * i - 1] = argv[i + 2] .. ':rc'
  names[2 * i] = argv[i + 2] .. ':fr'
end
local places = redis.call('ZMSCORE', KEYS[1], unpack(argv, 3, n + 2))
local values, reply, ids, fields, k = redis.call('HMGET', KEYS[2], unpack(names)), {time[1], time[2]}, {}, {}, 0
for i = 1, n do
  local id, fence, count, since = argv[i + 2], common or argv[i + n + 2], values[2 * i - 1], values[2 * i]
  local here = places[i]
  local equal = count and since and count .. ' ' .. since == fence -- the usual case, by the shortest way
  local mine = here and (equal or fence == '' or fence_of(count, since) == fence)
  if mine then
    k = k + 1
    ids[k] = id
    fields[3 * k - 2] = id
    fields[3 * k - 1] = names[2 * i - 1]
    fields[3 * k] = names[2 * i]
  elseif here or not again or (tonumber(argv[i + 2 * n + 2]) or math.huge) < now_ms() then
    reply[#reply + 1] = i - 1
  end
end
if k > 0 then
  redis.call('HDEL', KEYS[2], unpack(fields))
  redis.call('ZREM', KEYS[1], unpack(ids))
end
return reply
