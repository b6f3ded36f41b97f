-- Deletes a queue with all that is in it, in two steps: a step that is repeated after a lost reply must not delete a
-- queue that was created under the same name since.
-- KEYS     messages (ZSET), queue (HASH), queues (SET), reasons (HASH), purged (ZSET)
-- ARGV     'mark', or 'delete' what was marked; qname; a token of the call
-- Returns  {s, us, 0 if nothing of it is there}
local mark = 'deleting:' .. ARGV[3]
redis.call('ZCARD', KEYS[1]) -- another program's key is not ours to delete
local marked = redis.call('HEXISTS', KEYS[2], mark) == 1
local listed = redis.call('SISMEMBER', KEYS[3], ARGV[2])
local there = listed + redis.call('EXISTS', KEYS[1], KEYS[2]) > 0
if ARGV[1] == 'mark' and there then
  redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
  redis.call('HSET', KEYS[2], mark, time[1])
elseif ARGV[1] == 'delete' and marked then
  redis.call('SREM', KEYS[3], ARGV[2])
  redis.call('UNLINK', KEYS[1], KEYS[2])
  for i, kind in ipairs({'hash', 'zset'}) do
    if redis.call('TYPE', KEYS[3 + i]).ok == kind then
      redis.call('UNLINK', KEYS[3 + i])
    end
  end
end
return {time[1], time[2], there and 1 or 0}
