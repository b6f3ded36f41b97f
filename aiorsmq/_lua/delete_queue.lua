-- Deletes a queue with all that is in it.
-- KEYS     messages (ZSET), queue (HASH), queues (SET), reasons (HASH), purged (ZSET), deleted (HASH)
-- ARGV     'first', 'retry' if an earlier attempt may have deleted it, or 'forget' the token; qname; a token of the
--          call; seconds for which the token is kept: by it a repetition knows that a queue was created since, which stays
-- Returns  {s, us, deleted}: 0 if nothing of it was there; to a retry, what is gone is deleted
if ARGV[1] == 'forget' then
  redis.call('HDEL', KEYS[6], ARGV[3])
  return {time[1], time[2], 1}
end
redis.call('ZCARD', KEYS[1]) -- another program's key is not ours to delete
local again, listed = ARGV[1] == 'retry', redis.call('SISMEMBER', KEYS[3], ARGV[2])
local there = listed + redis.call('EXISTS', KEYS[1], KEYS[2]) > 0
local done = redis.call('HEXISTS', KEYS[6], ARGV[3]) == 1
if there and not done then
  redis.call('HMGET', KEYS[2], 'vt') -- nor is that
  local keys = {KEYS[1], KEYS[2]}
  for i, kind in ipairs({'hash', 'zset'}) do
    if redis.call('TYPE', KEYS[3 + i]).ok == kind then
      keys[#keys + 1] = KEYS[3 + i]
    end
  end
  redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
  redis.call('SREM', KEYS[3], '') -- see prelude.lua
  redis.call('EXPIRE', KEYS[6], ARGV[4])
  redis.call('HSET', KEYS[6], ARGV[3], time[1])
  redis.call('EXPIRE', KEYS[6], ARGV[4])
  if type(redis.pcall('UNLINK', unpack(keys))) == 'table' then -- refused
    redis.pcall('HDEL', KEYS[6], ARGV[3])
    redis.call('UNLINK', unpack(keys)) -- raises it
  end
  redis.call('SREM', KEYS[3], ARGV[2])
end
return {time[1], time[2], (there or again) and 1 or 0}
