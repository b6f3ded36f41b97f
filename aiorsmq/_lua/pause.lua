-- Pauses a queue, or resumes it: while it is paused, receive.lua hands out nothing. Announces it.
-- KEYS     messages (ZSET), queue (HASH), recent calls (HASH)
-- ARGV     1: 'pause' or 'resume'
--          2: the channel
--          3: a token of the call; an attempt that finds it gets the first one's reply, since
--          others may have resumed or paused the queue since
--          4: seconds for which to keep the token
-- Returns  {s, us, 1 if the queue was not paused before (or for 'resume', was), else 0}
-- Errors   QUEUE_DOES_NOT_EXIST
local earlier = redis.call('HMGET', KEYS[3], ARGV[3])[1]
if earlier then
  return {time[1], time[2], tonumber(string.sub(earlier, 1, 1))}
end
local paused = attributes(KEYS[2], 'paused')[4] or ''
local is_paused = paused ~= ''
local is_pause = ARGV[1] == 'pause'
local is_changed = is_pause ~= is_paused

-- Look for tokens that are over, in a random sample: each call has the others kept for longer.
local old_tokens = {}
local sample = redis.pcall('HRANDFIELD', KEYS[3], 8, 'WITHVALUES')
for i = 1, #sample, 2 do
  local set_at = tonumber(string.match(sample[i + 1], '%d+$'))
  if set_at and set_at < time[1] - ARGV[4] then
    old_tokens[#old_tokens + 1] = sample[i]
  end
end

-- Write: the token, then the pause. One that lasts keeps the time at which it began.
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua
redis.call('EXPIRE', KEYS[3], ARGV[4]) -- dry run
if not is_pause then
  redis.call('HDEL', KEYS[2], ':rc') -- dry run
end
redis.call('HSET', KEYS[3], ARGV[3], (is_changed and '1 ' or '0 ') .. time[1])
redis.call('EXPIRE', KEYS[3], ARGV[4])
if #old_tokens > 0 then
  redis.pcall('HDEL', KEYS[3], unpack(old_tokens))
end
if is_changed and is_pause then
  redis.call('HSET', KEYS[2], 'paused', text(now_ms()))
elseif is_changed then
  redis.call('HDEL', KEYS[2], 'paused')
end

-- A zero before the number tells those who have claimed ahead to ask at once.
if is_changed and is_pause then
  local msgs = redis.pcall('ZCARD', KEYS[1])
  redis.pcall('PUBLISH', ARGV[2], '0' .. (tonumber(msgs) or 1))
elseif is_changed then
  announce(ARGV[2], KEYS[1])
end
return {time[1], time[2], is_changed and 1 or 0}
