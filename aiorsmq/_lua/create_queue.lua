-- Creates a queue and enters it in the set of all queues.
-- KEYS     messages (ZSET), queue (HASH), queues (SET)
-- ARGV     'first', or seconds: a queue made within these by an attempt whose reply was lost is this one;
--          qname, vt, delay, maxsize
-- Returns  {s, us, created}: 0 if the queue is there already (as Node: a hash without vt is none)
redis.call('ZCARD', KEYS[1]) -- an error here, or in the next line, leaves nothing half done
redis.call('SCARD', KEYS[3])
if redis.call('HSETNX', KEYS[2], 'vt', ARGV[3]) == 0 then
  local created = whole(redis.call('HGET', KEYS[2], 'created'))
  local ours = ARGV[1] ~= 'first' and created and time[1] - created <= tonumber(ARGV[1])
  return {time[1], time[2], ours and 1 or 0}
end
redis.pcall('HSETNX', KEYS[2], 'delay', ARGV[4])
redis.pcall('HSETNX', KEYS[2], 'maxsize', ARGV[5])
redis.pcall('HSETNX', KEYS[2], 'created', time[1])
redis.pcall('HSETNX', KEYS[2], 'modified', time[1])
redis.pcall('SADD', KEYS[3], ARGV[2])
return {time[1], time[2], 1}
