-- Looks at the first messages, hidden ones included; changes nothing.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     how many at the most
-- Returns  {s, us, per message: id, body, receive count, first received or '', score}; members without a body left out
-- Errors   QUEUE_DOES_NOT_EXIST
local reply = redis.call('TIME')
local queue = redis.call('HMGET', KEYS[2], 'vt', 'delay', 'maxsize')
if not (queue[1] or queue[2] or queue[3]) then
  return redis.error_reply('QUEUE_DOES_NOT_EXIST')
end
local first = redis.call('ZRANGE', KEYS[1], '0', ARGV[1] - 1, 'WITHSCORES')
for i = 1, #first, 2 do
  local id = first[i]
  local values = redis.call('HMGET', KEYS[2], id, id .. ':rc', id .. ':fr')
  if values[1] then
    local received, since = tonumber(values[2]) or 0, tonumber(values[3])
    received, since = string.format('%.0f', received), since and string.format('%.0f', since) or ''
    for _, value in ipairs({id, values[1], received, since, first[i + 1]}) do
      reply[#reply + 1] = value
    end
  end
end
return reply
