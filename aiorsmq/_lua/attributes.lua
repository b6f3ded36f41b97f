-- Changes attributes of a queue, if any are given, and describes it. Creates its new dead-letter
-- queue if that does not exist.
-- Include: prelude_dead_letters
-- Include: prelude_settings
-- KEYS     messages (ZSET), queue (HASH); with a new dead-letter queue: queues (SET), its messages
--          (ZSET), its queue (HASH), then the queues (HASH) behind it
-- ARGV     1: qname
--          2...: per change: attribute, value; max_receives or dead_letter_queue of '' is removed
--          then the names of the new dead-letter queue and of those behind it
-- Returns  {s, us, vt, delay, maxsize, totalrecv, totalsent, created, modified, msgs, hiddenmsgs,
--          max_receives or '', dead_letter_queue or ''}
--          {s, us, -1, how many names are right, the name that follows these or ''} if the names
--          are not those on the server; nothing is changed then
-- Errors   QUEUE_DOES_NOT_EXIST

-- Check: the queue, and the chain of dead-letter queues.
attributes(KEYS[2])
local msgs = redis.call('ZCARD', KEYS[1])
local hidden = redis.call('ZCOUNT', KEYS[1], '(' .. text(now_ms()), '+inf')
local chain_length = math.max(#KEYS - 4, 0)
local last_change = #ARGV - chain_length
local first_name = last_change + 1
if chain_length > 0 then
  redis.call('SCARD', KEYS[3])
  redis.call('ZCARD', KEYS[4])
  local agreeing, next_name = chain_mismatch(5, first_name)
  if agreeing then
    return {time[1], time[2], -1, agreeing, next_name}
  end
end

-- Write: the dead-letter queue, then the changes.
change(KEYS[2], {unpack(ARGV, 2, last_change)}, KEYS[3], KEYS[5], ARGV[first_name])

-- Reply.
local settings = settings_of(KEYS[2], ARGV[1])
local reply = {time[1], time[2], settings.vt, settings.delay, settings.maxsize}
local counters = redis.call('HMGET', KEYS[2], 'totalrecv', 'totalsent', 'created', 'modified')
for _, value in ipairs(counters) do
  reply[#reply + 1] = text(integer(value) or 0)
end
reply[#reply + 1] = text(msgs)
reply[#reply + 1] = text(hidden)
put(reply, #reply, settings.max_receives, settings.dead_letter_queue)
return reply
