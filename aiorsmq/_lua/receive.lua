-- Hands out visible messages, and hides each for its lease or, for a pop, deletes it.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     how many at the most; lease in ms, '' for the queue's, or 'pop'; bytes of bodies after which to stop
-- Returns  {s, us, score of the first message left or '', new score (of a pop: now), now, members without a body that
--          were removed, max_receives or '', dead_letter_queue or '', 1 if it stopped early: visible messages are left
--          that it did not hand out, then for some messages at a time: {id, former score, ...}, {body, count or nil if
--          the first, ...; nils if removed}, {first received of the counted, ...}}
-- Errors   QUEUE_DOES_NOT_EXIST
local given, now = attributes(KEYS[2], 'max_receives', 'dead_letter_queue', 'totalrecv'), now_ms()
local pop, wanted, enough, places, fields = ARGV[2] == 'pop', tonumber(ARGV[1]), tonumber(ARGV[3]), {}, {}
local visible, now = text(now + (pop and 0 or tonumber(ARGV[2]) or vt_of(given) * 1000)), text(now)
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
local reply, k, left = {time[1], time[2], '', visible, now, 0, given[4] or '', given[5] or '', 0}, 0, enough
repeat -- 8, then as many more as will make the bodies enough if they go on like that
  local some = math.min(wanted - k, k == 0 and 8 or math.ceil(left * k / (enough - left)))
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', k, some)
  local names, firsts, n = {}, {}, #due
  for i = 1, n, 2 do
    names[i] = due[i]
    names[i + 1] = due[i] .. ':rc'
  end
  local values = n > 0 and redis.call('HMGET', KEYS[2], unpack(names))
  for i = 1, n, 2 do
    local id, body, fr, received, since = due[i], values[i], due[i] .. ':fr', '1', now
    if left <= 0 then
      due[i], due[i + 1], values[i], values[i + 1] = nil, nil, nil, nil
    elseif not body then
      redis.call('HDEL', KEYS[2], names[i + 1], fr)
      reply[6], values[i + 1] = reply[6] + redis.call('ZREM', KEYS[1], id), false
    else
      if values[i + 1] then
        received = text((whole(values[i + 1]) or 0) + 1)
        since = text(received ~= '1' and whole(redis.call('HMGET', KEYS[2], fr)[1]) or tonumber(now))
        values[i + 1], firsts[#firsts + 1] = received, since
      end
      if pop then
        places[k + 1] = id
        fields[3 * k + 1] = id
        fields[3 * k + 2] = names[i + 1]
        fields[3 * k + 3] = fr
      else
        places[2 * k + 1] = visible -- one by one: Lua assigns several from the last on, and a table grows at its end
        places[2 * k + 2] = id
        fields[4 * k + 1] = names[i + 1]
        fields[4 * k + 2] = received
        fields[4 * k + 3] = fr
        fields[4 * k + 4] = since
      end
      k, left = k + 1, left - #body
    end
  end
  if n > 0 then
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = due, values, firsts
  end
until n == 0 or k == wanted or left <= 0 or reply[6] >= 1000
if k > 0 then
  redis.call('ZADD', KEYS[1], 'XX', 0, '') -- see prelude.lua; to pop takes the rights that putting back will take
  local total = plus(given[6], k)
  redis.call('HSET', KEYS[2], 'totalrecv', total, unpack(pop and {} or fields))
  if pop then
    redis.call('HDEL', KEYS[2], unpack(fields))
    redis.call('ZREM', KEYS[1], unpack(places))
  else
    redis.call('ZADD', KEYS[1], unpack(places))
  end
end
reply[3] = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
if reply[3] ~= '' and tonumber(reply[3]) <= tonumber(now) then -- but with vt=0 those that it handed out are visible too
  local hidden = pop or visible ~= now
  reply[9] = (hidden or #redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', k, 1) > 0) and 1 or 0
end
return reply
