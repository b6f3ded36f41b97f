-- Deletes dead messages of a queue that has max_receives but no dead-letter queue.
-- Include: prelude_dead_letters
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     1: 'first', or 'retry' if an earlier attempt may have deleted them
--          2: qname
--          3: 'rejected', or 'spent' for only those that were received max_receives times
--          4...: per message: id, and its fence, or '' for any receipt over max_receives
-- Returns  {s, us, 1, per message: 1 if it was deleted, 0 if it is gone or was received again}; to
--          a retry, one that is gone counts as deleted
--          {s, us, 0, dead_letter_queue or ''} if the queue's policy is another; nothing is
--          deleted then
-- Errors   QUEUE_DOES_NOT_EXIST

-- Check: the queue's policy.
attributes(KEYS[2])
local is_retry = ARGV[1] == 'retry'
local any_count = ARGV[3] == 'rejected'
local name, max_receives = policy(KEYS[2], ARGV[2])
if name or not max_receives then
  return {time[1], time[2], 0, name or ''}
end
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua
redis.call('HDEL', KEYS[2], ':rc') -- dry run

-- Check and delete one message after the other.
local reply = {time[1], time[2], 1}
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local fence = ARGV[i + 1]
  local score = redis.call('ZSCORE', KEYS[1], id)
  local receipt = redis.call('HMGET', KEYS[2], id .. ':rc', id .. ':fr')
  local count = integer(receipt[1]) or 0
  local exceeds_limit = fence == '' and count > max_receives
  local is_dead = any_count or count >= max_receives
  local matches = exceeds_limit or is_dead and fence_of(unpack(receipt)) == fence
  local is_dropped = score and matches
  if is_dropped then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id, id .. ':rc', id .. ':fr')
  end
  local was_dropped = is_retry and not score
  reply[#reply + 1] = (is_dropped or was_dropped) and 1 or 0
end
return reply
