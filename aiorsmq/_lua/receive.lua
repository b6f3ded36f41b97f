-- Hands out visible messages, and hides each for its lease or, for a pop, deletes it.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     how many at the most; lease in ms, '' for the queue's, or 'pop'; bytes of bodies after which to stop
-- Returns  {s, us, next, visible, phantoms, then per message: id, body, receive count, first received, former score}
--          next: score of the first message that is left, '' if none; visible: the new score of those handed out, for
--          a pop the time; phantoms: how many members without a body were removed
-- Errors   QUEUE_DOES_NOT_EXIST
local function whole(text) -- others may have written anything
  local n = tonumber(text)
  return n and n >= 0 and n < 1e15 and string.format('%.0f', math.floor(n))
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local queue = redis.call('HMGET', KEYS[2], 'vt', 'delay', 'maxsize')
if not (queue[1] or queue[2] or queue[3]) then
  return redis.error_reply('QUEUE_DOES_NOT_EXIST')
end
local pop = ARGV[2] == 'pop'
local vt = pop and 0 or tonumber(ARGV[2]) or (whole(queue[1]) or 30) * 1000
local visible, now, left = string.format('%.0f', now + vt), string.format('%.0f', now), tonumber(ARGV[3])
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this

local reply = {time[1], time[2], '', visible, 0}
local ids, scores, fields, counts, rounds = {}, {}, {}, {}, 0
repeat
  local removed = reply[5]
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', '0', ARGV[1])
  for first = 1, #due, 32 do -- 16 messages at a time: reading stops when the bodies are enough
    local names, n = {}, 0
    for i = first, math.min(first + 31, #due), 2 do
      local id = due[i]
      names[n + 1], names[n + 2], names[n + 3] = id, id .. ':rc', id .. ':fr'
      n = n + 3
    end
    local values = redis.call('HMGET', KEYS[2], unpack(names))
    for v = 1, n, 3 do
      local id, rc, fr, body = names[v], names[v + 1], names[v + 2], values[v]
      if not body then
        redis.call('ZREM', KEYS[1], id)
        reply[5] = reply[5] + 1
      elseif left > 0 then
        left = left - #body
        local received, since = '1', now
        if values[v + 1] then
          received = string.format('%.0f', (whole(values[v + 1]) or 0) + 1)
          since = received ~= '1' and whole(values[v + 2]) or now
        end
        local k, r = #ids, #reply
        ids[k + 1], scores[2 * k + 1], scores[2 * k + 2] = id, visible, id
        fields[3 * k + 1], fields[3 * k + 2], fields[3 * k + 3] = id, rc, fr
        counts[4 * k + 1], counts[4 * k + 2], counts[4 * k + 3], counts[4 * k + 4] = rc, received, fr, since
        reply[r + 1], reply[r + 2], reply[r + 3], reply[r + 4] = id, body, received, since
        reply[r + 5] = due[first + (v - 1) / 3 * 2 + 1]
      end
    end
    if left <= 0 then break end
  end
  rounds = rounds + 1
until #ids > 0 or reply[5] == removed or rounds == 100

if #ids > 0 then
  if pop then
    redis.call('ZREM', KEYS[1], unpack(ids))
    redis.pcall('HDEL', KEYS[2], unpack(fields))
  else
    redis.call('ZADD', KEYS[1], unpack(scores))
    redis.pcall('HSET', KEYS[2], unpack(counts))
  end
  redis.pcall('HINCRBY', KEYS[2], 'totalrecv', #ids)
end
reply[3] = redis.call('ZRANGE', KEYS[1], '0', '0', 'WITHSCORES')[2] or ''
return reply
