-- Deletes the dead messages of a queue that has max_receives and no dead-letter queue: that is its policy for them.
-- Include: prelude_dead_letters
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     'retry' if an earlier attempt may have deleted them, else 'first'; qname; 'rejected', or 'spent' if only those
--          are meant that have been received max_receives times; per message: id, and its fence, or '' for any that is
--          over max_receives
-- Returns  {s, us, 1, per message: 1 if it was deleted, 0 if it is gone or was received by another since}; to a retry,
--          what is gone is deleted
--          {s, us, 0, dead_letter_queue or ''} if that is not its policy; nothing is deleted then
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local name, most = policy(KEYS[2], ARGV[2])
if name or not most then
  return {time[1], time[2], 0, name or ''}
end
redis.call('ZREM', KEYS[1], '') -- a full server lets a script through whose first write is this
redis.call('HDEL', KEYS[2], ':rc') -- see prelude.lua
local reply = {time[1], time[2], 1}
for i = 4, #ARGV, 2 do
  local id, fence = ARGV[i], ARGV[i + 1]
  local score = redis.call('ZSCORE', KEYS[1], id)
  local values = redis.call('HMGET', KEYS[2], id .. ':rc', id .. ':fr')
  local count = whole(values[1]) or 0
  local over = fence == '' and count > most
  local meant = over or (ARGV[3] == 'rejected' or count >= most) and fence_of(values[1], values[2]) == fence
  local mine = score and meant
  if mine then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id, id .. ':rc', id .. ':fr')
  end
  reply[#reply + 1] = (mine or not score and ARGV[1] == 'retry') and 1 or 0
end
return reply
