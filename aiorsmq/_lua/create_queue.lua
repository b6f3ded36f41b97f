-- Creates a queue, and its dead-letter queue if that does not exist. A queue that exists is added
-- to the set of queues again if its name is missing there.
-- Include: prelude_dead_letters
-- KEYS     messages (ZSET), queue (HASH), queues (SET); with a dead-letter queue: its messages
--          (ZSET), its queue (HASH), then the queues (HASH) behind it
-- ARGV     1: 'first'; for a retry, seconds: a queue with the same attributes that is no older was
--          created by an earlier attempt
--          2: qname
--          3: vt
--          4: delay
--          5: maxsize
--          6: max_receives or ''
--          7...: the names of the dead-letter queue and of those behind it
-- Returns  {s, us, created}: 0 if the queue exists (as for Node, a hash without vt is not a queue)
--          {s, us, -1, how many names are right, the name that follows these or ''} if the names
--          are not those on the server; nothing is created then
redis.call('ZCARD', KEYS[1]) -- raises if the key is another program's

-- Look: it may exist, perhaps from an earlier attempt.
local is_listed = redis.call('SISMEMBER', KEYS[3], ARGV[2])
local names = {'created', 'vt', 'delay', 'maxsize', 'max_receives', 'dead_letter_queue'}
local values = redis.call('HMGET', KEYS[2], unpack(names))
local vt = values[2]
if vt then
  if is_listed == 0 then
    redis.pcall('SADD', KEYS[3], ARGV[2])
  end
  local has_attributes = vt == ARGV[3] and values[3] == ARGV[4] and values[4] == ARGV[5]
  local has_max_receives = values[5] == (ARGV[6] ~= '' and ARGV[6])
  local has_name = values[6] == (ARGV[7] or false)
  local is_same = has_attributes and has_max_receives and has_name
  local created = integer(values[1])
  local is_retry = ARGV[1] ~= 'first'
  local is_ours = is_retry and is_same and created and time[1] - created <= tonumber(ARGV[1])
  return {time[1], time[2], is_ours and 1 or 0}
end

-- Check: the chain of dead-letter queues.
local dead_letter_queue = ARGV[7]
local policy_fields = {}
if dead_letter_queue then
  redis.call('ZCARD', KEYS[4]) -- raises if the key is another program's
  local agreeing, next_name = chain_mismatch(5, 7)
  if agreeing then
    return {time[1], time[2], -1, agreeing, next_name}
  end
  policy_fields = {'dead_letter_queue', dead_letter_queue}
end
if ARGV[6] ~= '' then
  policy_fields[#policy_fields + 1] = 'max_receives'
  policy_fields[#policy_fields + 1] = ARGV[6]
end

-- Write.
create(KEYS[2], KEYS[3], ARGV[2], ARGV[3], ARGV[4], ARGV[5], unpack(policy_fields))
if dead_letter_queue and not exists(KEYS[5]) then
  create(KEYS[5], KEYS[3], dead_letter_queue)
end
return {time[1], time[2], 1}
