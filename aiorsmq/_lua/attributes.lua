-- Changes attributes of a queue, if any are given, and describes it.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     pairs of attribute and value, none to change nothing
-- Returns  {s, us, vt, delay, maxsize, totalrecv, totalsent, created, modified, msgs, hiddenmsgs}
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local msgs = redis.call('ZCARD', KEYS[1])
if #ARGV > 0 then
  redis.call('HSET', KEYS[2], 'modified', time[1], unpack(ARGV))
end
local given = attributes(KEYS[2])
local reply = {time[1], time[2], text(vt_of(given)), text(delay_of(given)), text(maxsize_of(given))}
for _, value in ipairs(redis.call('HMGET', KEYS[2], 'totalrecv', 'totalsent', 'created', 'modified')) do
  reply[#reply + 1] = text(whole(value) or 0)
end
reply[#reply + 1] = text(msgs)
reply[#reply + 1] = text(redis.call('ZCOUNT', KEYS[1], '(' .. text(now_ms()), '+inf'))
return reply
