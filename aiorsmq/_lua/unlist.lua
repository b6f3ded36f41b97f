-- Removes a name from the set of all queues, if nothing else of its queue is there.
-- KEYS     messages (ZSET), queue (HASH), purged (ZSET), queues (SET)
-- ARGV     1: qname
-- Returns  {s, us, 1 if it is not there any more}
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) > 0 then
  return {time[1], time[2], 0}
end
redis.call('SREM', KEYS[4], ARGV[1])
return {time[1], time[2], 1}
