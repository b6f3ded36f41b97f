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

local reply, ids, scores, fields, counts = {time[1], time[2], '', visible, 0}, {}, {}, {}, {}
repeat -- 16 at a time: it stops when the bodies are enough
  local names, some = {}, math.min(16, wanted - #ids)
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', #ids, some)
  for i = 1, #due, 2 do
    local n, id = #names, due[i]
    names[n + 1], names[n + 2], names[n + 3] = id, id .. ':rc', id .. ':fr'
  end
  local values = due[1] and redis.call('HMGET', KEYS[2], unpack(names))
  for n = 1, #names, 3 do
    local id, rc, fr, body, received, since = names[n], names[n + 1], names[n + 2], values[n], '1', now
    if not body then
      reply[5] = reply[5] + redis.call('ZREM', KEYS[1], id)
    elseif left > 0 then
      if values[n + 1] then
        received = text((whole(values[n + 1]) or 0) + 1)
        since = received ~= '1' and whole(values[n + 2]) and text(whole(values[n + 2])) or now
      end
      local k, r = #ids, #reply
      ids[k + 1], scores[2 * k + 1], scores[2 * k + 2] = id, visible, id
      fields[3 * k + 1], fields[3 * k + 2], fields[3 * k + 3] = id, rc, fr
      counts[4 * k + 1], counts[4 * k + 2], counts[4 * k + 3], counts[4 * k + 4] = rc, received, fr, since
      reply[r + 1], reply[r + 2], reply[r + 3], reply[r + 4] = id, body, received, since
      reply[r + 5] = due[(n - 1) / 3 * 2 + 2]
      left = left - #body
    end
  end
until #due == 0 or #ids == wanted or left <= 0 or reply[5] >= 1000

if #ids > 0 then
  redis.call(pop and 'ZREM' or 'ZADD', KEYS[1], unpack(pop and ids or scores))
  redis.pcall(pop and 'HDEL' or 'HSET', KEYS[2], unpack(pop and fields or counts))
  redis.pcall('HINCRBY', KEYS[2], 'totalrecv', #ids)
end
reply[3] = redis.call('ZRANGE', KEYS[1], '0', '0', 'WITHSCORES')[2] or ''
return reply
