-- Moves messages to another queue under their ids, as new ones: deaths, or the way back. Queues of a namespace share
-- a node of a cluster, if they work there at all: a name has no braces, so only the namespace can have a hash tag.
-- Include: prelude_dead_letters
-- KEYS     messages (ZSET), queue (HASH), the other's messages (ZSET), its queue (HASH), queues (SET), reasons (HASH)
-- ARGV     'retry' if an earlier attempt may have moved them, else 'first'; qname; the other's qname; its channel, ''
--          to stay silent; why they die, or '' for the way back; seconds for which that is kept; per message: id, and its
--          fence, or '' for any that is over max_receives, '*' for any if it is visible, '@' and a score for any that
--          is visible there
-- Returns  {s, us, 1, per message: 1 if it was moved, 0 if it is gone, hidden, or was received by another since}
--          {s, us, 0, dead_letter_queue or ''} if they die and the other is not that; nothing is moved then
--          {s, us, -1} if there is no queue to go back to; nothing is moved then
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local argv, now, dies, there, name, most = ARGV, now_ms(), ARGV[5] ~= '', exists(KEYS[4]), policy(KEYS[2], ARGV[2])
if dies and name ~= argv[3] then
  return {time[1], time[2], 0, name or ''}
elseif not (dies or there) then
  return {time[1], time[2], -1}
end
redis.call('ZCARD', KEYS[3]) -- an error up to the first write leaves nothing half done
redis.call('SCARD', KEYS[5])
local keeps = dies and not redis.pcall('HMGET', KEYS[6], '').err -- else the reasons are another program's key
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
redis.call('ZADD', KEYS[3], 'XX', 0, '') -- see prelude.lua
redis.call('HDEL', KEYS[2], ':rc')
if keeps then
  redis.call('EXPIRE', KEYS[6], argv[6])
end
local reply, ids, fields, places, bodies, whys, n = {time[1], time[2], 1}, {}, {}, {}, {}, {}, 0
for i = 7, #argv, 2 do
  local id, fence = argv[i], argv[i + 1]
  local score = redis.call('ZSCORE', KEYS[1], id)
  local values = redis.call('HMGET', KEYS[2], id, id .. ':rc', id .. ':fr')
  local count, visible = whole(values[2]) or 0, score and tonumber(score) <= now
  local over = fence == '' and most and count > most
  local free = visible and (fence == '*' or string.sub(fence, 1, 1) == '@' and score == string.sub(fence, 2))
  if score and values[1] and (over or free or fence_of(values[2], values[3]) == fence) then
    ids[n + 1] = id
    fields[3 * n + 1], fields[3 * n + 2], fields[3 * n + 3] = id, id .. ':rc', id .. ':fr'
    places[2 * n + 1] = text(whole(values[3]) == now and now + 1 or now) -- its next first receipt must be a later one
    places[2 * n + 2] = id
    bodies[2 * n + 1], bodies[2 * n + 2] = id, values[1]
    whys[2 * n + 1], whys[2 * n + 2] = id, text(now) .. ' ' .. text(count) .. ' ' .. argv[2] .. ' ' .. argv[5]
    n = n + 1
  end
  local done = ids[n] == id or not score and argv[1] == 'retry' and redis.call('ZSCORE', KEYS[3], id)
  reply[#reply + 1] = done and 1 or 0
end
if not there then
  create(KEYS[4], KEYS[5], argv[3])
end
if n > 0 then
  redis.call('HSET', KEYS[4], unpack(bodies)) -- first there, then no longer here: an error must not lose any
  redis.call('ZADD', KEYS[3], unpack(places))
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.call('HDEL', KEYS[2], unpack(fields))
  redis.pcall('HINCRBY', KEYS[4], 'totalsent', n)
  redis.pcall('HDEL', KEYS[6], unpack(ids))
  if keeps then
    redis.call('HSET', KEYS[6], unpack(whys))
    redis.call('EXPIRE', KEYS[6], argv[6])
    local some = redis.pcall('HRANDFIELD', KEYS[6], 2 * n + 8)
    local scores = #some > 0 and redis.pcall('ZMSCORE', KEYS[3], unpack(some))
    for i, id in ipairs(some) do -- those of messages that are gone
      local _ = scores[i] ~= false or redis.pcall('HDEL', KEYS[6], id)
    end
  end
  announce(argv[4], KEYS[3])
end
return reply
