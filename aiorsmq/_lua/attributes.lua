-- Changes attributes of a queue, if any are given, and describes it; a dead-letter queue is created if it is not there.
-- Include: prelude_dead_letters
-- KEYS     messages (ZSET), queue (HASH); if it gets a dead-letter queue: queues (SET), that one's messages (ZSET) and
--          queue (HASH), the queues (HASH) behind it
-- ARGV     qname; pairs of attribute and value, none to change nothing, an empty max_receives or dead_letter_queue to have
--          none; the names of the dead-letter queue and of those behind it
-- Returns  {s, us, vt, delay, maxsize, totalrecv, totalsent, created, modified, msgs, hiddenmsgs, max_receives or '',
--          dead_letter_queue or ''}
--          {s, us, -1, how many of the names are right, the name that follows these or ''}; nothing is done then
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local msgs, names = redis.call('ZCARD', KEYS[1]), math.max(#KEYS - 4, 0)
local hidden = redis.call('ZCOUNT', KEYS[1], '(' .. text(now_ms()), '+inf')
if names > 0 then
  redis.call('SCARD', KEYS[3])
  redis.call('ZCARD', KEYS[4])
  local right, following = other_chain(5, #ARGV - names + 1)
  if right then
    return {time[1], time[2], -1, right, following}
  end
end
if #ARGV - names > 1 then
  if names > 0 and not exists(KEYS[5]) then
    create(KEYS[5], KEYS[3], ARGV[#ARGV - names + 1])
  end
  local none = {}
  for i = 2, #ARGV - names, 2 do
    if ARGV[i + 1] == '' then
      none[#none + 1] = ARGV[i]
    end
  end
  if #none > 0 then
    redis.call('HDEL', KEYS[2], ':rc') -- see prelude.lua
  end
  redis.call('HSET', KEYS[2], 'modified', time[1], unpack(ARGV, 2, #ARGV - names))
  if #none > 0 then
    redis.call('HDEL', KEYS[2], unpack(none))
  end
end
local given = attributes(KEYS[2])
local reply = {time[1], time[2], text(vt_of(given)), text(delay_of(given)), text(maxsize_of(given))}
for _, value in ipairs(redis.call('HMGET', KEYS[2], 'totalrecv', 'totalsent', 'created', 'modified')) do
  reply[#reply + 1] = text(whole(value) or 0)
end
reply[#reply + 1] = text(msgs)
reply[#reply + 1] = text(hidden)
local name, most = policy(KEYS[2], ARGV[1])
reply[#reply + 1], reply[#reply + 2] = most and text(most) or '', name or ''
return reply
