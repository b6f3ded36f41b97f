-- Looks at one message; changes nothing.
-- Include: prelude_places
-- Include: prelude_matches
-- KEYS     messages (ZSET), queue (HASH), reasons (HASH)
-- ARGV     1: its id
--          2: bytes of its body to return
-- Returns  {s, us, id, beginning of its body, bytes of its body, receive count, first received or
--          '', score, 1 if it is visible, how it died or ''}
--          {s, us} if it is not there, or has no body
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local reply = {time[1], time[2]}
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local conditions = {text = '', min_receives = 0, reason = ''}
local message = score and match(conditions, KEYS[2], KEYS[3], ARGV[1], score)
if message then
  put_message(reply, message, tonumber(ARGV[2]), KEYS[3])
end
return reply
