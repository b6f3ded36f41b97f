-- Changes attributes of a queue, if any are given, and describes it.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     pairs of attribute and value, none to change nothing
-- Returns  {s, us, vt, delay, maxsize, totalrecv, totalsent, created, modified, msgs, hiddenmsgs}, '' for what is missing
-- Errors   QUEUE_DOES_NOT_EXIST
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local named = redis.call('HMGET', KEYS[2], 'vt', 'delay', 'maxsize')
if not (named[1] or named[2] or named[3]) then
  return redis.error_reply('QUEUE_DOES_NOT_EXIST')
end
local msgs = redis.call('ZCARD', KEYS[1])
if #ARGV > 0 then
  redis.call('HSET', KEYS[2], 'modified', time[1], unpack(ARGV))
end
local reply = {time[1], time[2]}
local fields = {'vt', 'delay', 'maxsize', 'totalrecv', 'totalsent', 'created', 'modified'}
for i, value in ipairs(redis.call('HMGET', KEYS[2], unpack(fields))) do
  reply[i + 2] = value or ''
end
reply[#reply + 1] = msgs
reply[#reply + 1] = redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')
return reply
