-- Deletes a message and stores another one, in this queue or another, in one step.
-- A cluster has both on one node, see move.lua.
-- Include: prelude_dead_letters
-- Include: prelude_minted
-- KEYS     messages (ZSET), queue (HASH), the target's (ZSET, HASH), reasons (HASH)
-- ARGV     1: 'first'; 'minted' if the time in the id was refused before; 'retry' if an earlier
--          attempt may have done it
--          2: the old id
--          3: its fence, or '' for any receipt
--          4: the time in the new id, in us
--          5: the target's channel, or '' to announce nothing
--          6: the delay in ms, or '' for the target's
--          7: the new id
--          8: the new body
-- Returns  {s, us, 'replaced'}; and nothing is changed by any of these:
--          {s, us, 'gone'} if the old message is gone or was received again
--          {s, us, 'unknown'} if a retry finds neither message
--          {s, us, 'too long', maxsize}
--          {s, us, 'no target'} if the target does not exist
--          {s, us, 'clock'} if the time in the id is not the server's
-- Errors   QUEUE_DOES_NOT_EXIST

-- Check.
attributes(KEYS[2])
if not exists(KEYS[4]) then
  return {time[1], time[2], 'no target'}
elseif ARGV[1] == 'first' and is_off(ARGV[4]) then
  return {time[1], time[2], 'clock'}
end
local target = attributes(KEYS[4], 'totalsent', ARGV[7])
local is_retry = ARGV[1] == 'retry'
if is_retry and target[5] then
  return {time[1], time[2], 'replaced'}
end
local old_id = ARGV[2]
local score = redis.call('ZSCORE', KEYS[1], old_id)
local old = redis.call('HMGET', KEYS[2], old_id, old_id .. ':rc', old_id .. ':fr')
local is_current = ARGV[3] == '' or fence_of(old[2], old[3]) == ARGV[3]
if not (score and old[1]) then
  return {time[1], time[2], is_retry and 'unknown' or 'gone'}
elseif not is_current then
  return {time[1], time[2], 'gone'}
end
local maxsize = maxsize_of(target)
if maxsize >= 0 and #ARGV[8] > maxsize then
  return {time[1], time[2], 'too long', maxsize}
end

-- Write: first the new message, so that an error loses none.
local delay_ms = tonumber(ARGV[6]) or delay_of(target) * 1000
redis.call('ZADD', KEYS[3], 'XX', 0, '') -- dry run, as are the next two
redis.call('ZREM', KEYS[1], '')
redis.call('HDEL', KEYS[2], ':rc')
redis.call('HSET', KEYS[4], ARGV[7], ARGV[8], 'totalsent', add(target[4], 1))
redis.call('ZADD', KEYS[3], text(now_ms() + delay_ms), ARGV[7])
redis.call('ZREM', KEYS[1], old_id)
redis.call('HDEL', KEYS[2], old_id, old_id .. ':rc', old_id .. ':fr')
redis.pcall('HDEL', KEYS[5], old_id)
announce(ARGV[5], KEYS[3])
return {time[1], time[2], 'replaced'}
