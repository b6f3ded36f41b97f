-- Deletes a queue with all its messages.
-- KEYS     messages (ZSET), queue (HASH), queues (SET), reasons (HASH), purged (ZSET),
--          deleted (HASH)
-- ARGV     1: 'first', 'retry' if an earlier attempt may have deleted it, or 'forget' the token
--          2: qname
--          3: a token of the call; a retry that finds it does not delete a queue that was created
--          since
--          4: seconds for which to keep the token
-- Returns  {s, us, deleted}: 0 if nothing of it existed; to a retry, a queue that is gone counts as
--          deleted
if ARGV[1] == 'forget' then
  redis.call('HDEL', KEYS[6], ARGV[3])
  return {time[1], time[2], 1}
end

-- Look.
redis.call('ZCARD', KEYS[1]) -- raises if the key is another program's
local is_retry = ARGV[1] == 'retry'
local is_listed = redis.call('SISMEMBER', KEYS[3], ARGV[2])
local exists = is_listed + redis.call('EXISTS', KEYS[1], KEYS[2]) > 0
local is_repeated = redis.call('HEXISTS', KEYS[6], ARGV[3]) == 1

if exists and not is_repeated then
  -- Check: side keys of another type are another program's, and stay.
  redis.call('HMGET', KEYS[2], 'vt') -- raises if the key is another program's
  local keys = {KEYS[1], KEYS[2]}
  local side_keys = {KEYS[4], KEYS[5]}
  local types = {'hash', 'zset'}
  for i, key in ipairs(side_keys) do
    if redis.call('TYPE', key).ok == types[i] then
      keys[#keys + 1] = key
    end
  end

  -- Write: the token first, so that a retry finds it; the queue's name last.
  redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua
  redis.call('SREM', KEYS[3], '') -- dry run
  redis.call('EXPIRE', KEYS[6], ARGV[4])
  redis.call('HSET', KEYS[6], ARGV[3], time[1])
  redis.call('EXPIRE', KEYS[6], ARGV[4])
  local is_refused = type(redis.pcall('UNLINK', unpack(keys))) == 'table'
  if is_refused then
    redis.pcall('HDEL', KEYS[6], ARGV[3])
    redis.call('UNLINK', unpack(keys)) -- raises the error
  end
  redis.call('SREM', KEYS[3], ARGV[2])
end

local is_deleted = exists or is_retry
return {time[1], time[2], is_deleted and 1 or 0}
