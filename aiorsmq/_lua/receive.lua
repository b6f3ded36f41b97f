-- Hands out visible messages, and hides each for its lease or, for a pop, deletes it.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     how many at the most; lease in ms, '' for the queue's, or 'pop'; bytes of bodies after which to stop
-- Returns  {s, us, next, visible, phantoms, then per message: id, body, receive count, first received, former score}
--          next: score of the first message that is left, '' if none; visible: the new score of those handed out, for
--          a pop the time; phantoms: how many members without a body were removed
-- Errors   QUEUE_DOES_NOT_EXIST
local vt = attributes(KEYS[2])
local pop, wanted, left = ARGV[2] == 'pop', tonumber(ARGV[1]), tonumber(ARGV[3])
local visible, now = text(now + (pop and 0 or tonumber(ARGV[2]) or vt * 1000)), text(now)
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this

local reply, places, fields, k = {time[1], time[2], '', visible, 0}, {}, {}, 0
repeat -- 16 at a time: it stops when the bodies are enough
  local names, some = {}, math.min(16, wanted - k)
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', k, some)
  for i = 1, #due, 2 do
    names[i], names[i + 1] = due[i], due[i] .. ':rc'
  end
  local values = due[1] and redis.call('HMGET', KEYS[2], unpack(names))
  for i = 1, #due, 2 do
    local id, rc, fr, body, received, since = due[i], names[i + 1], due[i] .. ':fr', values[i], '1', now
    if not body then
      reply[5] = reply[5] + redis.call('ZREM', KEYS[1], id)
    elseif left > 0 then
      if values[i + 1] then
        received = text((whole(values[i + 1]) or 0) + 1)
        local first = received ~= '1' and whole(redis.call('HGET', KEYS[2], fr))
        since = first and text(first) or now
      end
      if pop then
        places[k + 1], fields[3 * k + 1], fields[3 * k + 2], fields[3 * k + 3] = id, id, rc, fr
      else
        local p, f = 2 * k, 4 * k
        places[p + 1], places[p + 2] = visible, id
        fields[f + 1], fields[f + 2], fields[f + 3], fields[f + 4] = rc, received, fr, since
      end
      local r = 5 * k + 5
      reply[r + 1], reply[r + 2], reply[r + 3], reply[r + 4], reply[r + 5] = id, body, received, since, due[i + 1]
      k, left = k + 1, left - #body
    end
  end
until #due == 0 or k == wanted or left <= 0 or reply[5] >= 1000

if k > 0 then
  redis.call(pop and 'ZREM' or 'ZADD', KEYS[1], unpack(places))
  redis.pcall(pop and 'HDEL' or 'HSET', KEYS[2], unpack(fields))
  redis.pcall('HINCRBY', KEYS[2], 'totalrecv', k)
end
reply[3] = redis.call('ZRANGE', KEYS[1], '0', '0', 'WITHSCORES')[2] or ''
return reply
