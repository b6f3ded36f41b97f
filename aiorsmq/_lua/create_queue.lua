-- Creates a queue, and its dead-letter queue if that does not exist. A queue that exists is
-- compared with the settings that the caller named, and changed if that is wanted. It is added to
-- the set of queues again if its name is missing there.
-- Include: prelude_dead_letters
-- Include: prelude_settings
-- KEYS     messages (ZSET), queue (HASH), queues (SET); with a dead-letter queue: its messages
--          (ZSET), its queue (HASH), then the queues (HASH) behind it
-- ARGV     1: 'first'; for a retry, seconds: a queue with the same settings that is no older was
--          created by an earlier attempt
--          2: qname
--          3: 'keep' the settings of a queue that exists, or 'change' them
--          4: how many settings the caller named
--          5...: per setting, those that were named first: name, value or '' for none
--          then the names of the dead-letter queue and of those behind it
-- Returns  {s, us, created, per named setting that differed: name, old value}: created is 0 if the
--          queue exists (as for Node, a hash without vt is not a queue)
--          {s, us, -1, how many names are right, the name that follows these or ''} if the names
--          are not those on the server; nothing is created or changed then
redis.call('ZCARD', KEYS[1]) -- raises if the key is another program's

-- Look: it may exist, perhaps from an earlier attempt.
local is_listed = redis.call('SISMEMBER', KEYS[3], ARGV[2])
local values = redis.call('HMGET', KEYS[2], 'vt', 'created')
local present = values[1] and settings_of(KEYS[2], ARGV[2])
local chain_length = math.max(#KEYS - 4, 0)
local last_value = #ARGV - chain_length
local last_named = 4 + 2 * tonumber(ARGV[4])
local settings = {}
local changes = {}
local reply = {time[1], time[2], 0}
local is_same = true
for i = 5, last_value, 2 do
  local name = ARGV[i]
  local value = ARGV[i + 1]
  settings[name] = value
  if present and present[name] ~= value then
    is_same = false
    if i < last_named then
      put(changes, #changes, name, value)
      put(reply, #reply, name, present[name])
    end
  end
end
if present then
  if is_listed == 0 then
    redis.pcall('SADD', KEYS[3], ARGV[2])
  end
  local created = integer(values[2])
  local is_retry = ARGV[1] ~= 'first'
  if is_retry and is_same and created and time[1] - created <= tonumber(ARGV[1]) then
    reply[3] = 1
  end
  if ARGV[3] == 'keep' or reply[3] == 1 then
    return reply
  end
end

-- Check: the chain of dead-letter queues.
local first_name = last_value + 1
local dead_letter_queue = ARGV[first_name]
local policy_fields = {}
if dead_letter_queue then
  redis.call('ZCARD', KEYS[4]) -- raises if the key is another program's
  local agreeing, next_name = chain_mismatch(5, first_name)
  if agreeing then
    return {time[1], time[2], -1, agreeing, next_name}
  end
  policy_fields = {'dead_letter_queue', dead_letter_queue}
end
if settings.max_receives ~= '' then
  put(policy_fields, #policy_fields, 'max_receives', settings.max_receives)
end

-- Write.
if not present then
  local fields = {settings.vt, settings.delay, settings.maxsize, unpack(policy_fields)}
  create(KEYS[2], KEYS[3], ARGV[2], unpack(fields))
  reply[3] = 1
end
change(KEYS[2], changes, KEYS[3], KEYS[5], dead_letter_queue)
return reply
