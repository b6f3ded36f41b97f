-- Creates a queue, and its dead-letter queue if it is not there; enters them in the set of all queues. One that is there
-- already is entered again if the set has lost its name.
-- Include: prelude_dead_letters
-- KEYS     messages (ZSET), queue (HASH), queues (SET); with a dead-letter queue: its messages (ZSET) and queue (HASH),
--          the queues (HASH) behind it
-- ARGV     'first', or seconds: a queue like this made within these is that of an attempt whose reply was lost;
--          qname, vt, delay, maxsize, max_receives or ''; the names of the dead-letter queue and of those behind it
-- Returns  {s, us, created}: 0 if the queue is there already (as Node: a hash without vt is none)
--          {s, us, -1, how many of the names are right, the name that follows these or ''}; nothing is done then
redis.call('ZCARD', KEYS[1]) -- an error up to the first write leaves nothing half done
local listed = redis.call('SISMEMBER', KEYS[3], ARGV[2])
local there = redis.call('HMGET', KEYS[2], 'created', 'vt', 'delay', 'maxsize', 'max_receives', 'dead_letter_queue')
if there[2] then
  if listed == 0 then
    redis.pcall('SADD', KEYS[3], ARGV[2])
  end
  local alike = there[5] == (ARGV[6] ~= '' and ARGV[6]) and there[6] == (ARGV[7] or false)
  for i = 2, 4 do
    alike = alike and there[i] == ARGV[i + 1]
  end
  local created = whole(there[1])
  local ours = alike and ARGV[1] ~= 'first' and created and time[1] - created <= tonumber(ARGV[1])
  return {time[1], time[2], ours and 1 or 0}
end
local name = ARGV[7]
if name then
  redis.call('ZCARD', KEYS[4])
  local right, following = other_chain(5, 7)
  if right then
    return {time[1], time[2], -1, right, following}
  end
end
local fields = {}
if name then
  fields = {'dead_letter_queue', name}
end
if ARGV[6] ~= '' then
  fields[#fields + 1] = 'max_receives'
  fields[#fields + 1] = ARGV[6]
end
create(KEYS[2], KEYS[3], ARGV[2], ARGV[3], ARGV[4], ARGV[5], unpack(fields))
if name and not exists(KEYS[5]) then
  create(KEYS[5], KEYS[3], name)
end
return {time[1], time[2], 1}
