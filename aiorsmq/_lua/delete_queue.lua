-- Deletes a queue with all that is in it.
-- KEYS     messages (ZSET), queue (HASH), queues (SET), reasons (HASH)
-- ARGV     'retry' if an earlier attempt may have deleted it, else 'first'; qname
-- Returns  {s, us, deleted}: 0 if nothing of it was there; to a retry, what is gone is deleted
redis.call('ZCARD', KEYS[1]) -- another program's key is not ours to delete
redis.call('HLEN', KEYS[2])
local gone = redis.call('SREM', KEYS[3], ARGV[2]) + redis.call('UNLINK', KEYS[1], KEYS[2])
if redis.call('TYPE', KEYS[4]).ok == 'hash' then
  redis.call('UNLINK', KEYS[4])
end
return {time[1], time[2], (gone > 0 or ARGV[1] == 'retry') and 1 or 0}
