-- Looks at the first messages, hidden ones included; changes nothing.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     how many at the most
-- Returns  {s, us, per message: id, body, receive count, first received or '', score}; members without a body left out
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local reply, wanted, at = time, tonumber(ARGV[1]), 0
repeat
  local some = redis.call('ZRANGE', KEYS[1], at, at + wanted - 1, 'WITHSCORES')
  for i = 1, #some, 2 do
    local id = some[i]
    local values = redis.call('HMGET', KEYS[2], id, id .. ':rc', id .. ':fr')
    if values[1] and wanted > 0 then
      local r, received, since = #reply, whole(values[2]) or 0, whole(values[3])
      reply[r + 1], reply[r + 2], reply[r + 3] = id, values[1], text(received)
      reply[r + 4], reply[r + 5] = since and text(since) or '', some[i + 1]
      wanted = wanted - 1
    end
  end
  at = at + #some / 2
until #some == 0 or wanted == 0 or at > 2000
return reply
