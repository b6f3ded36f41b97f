-- What stands in front of every script.
--
-- The server checks each command of a script by itself, and may refuse this user any. So that a refusal leaves nothing
-- done by half: what must be written is written by `call`, a body before its place, all reads come before, and so do
-- calls that change nothing but are refused as the later writes would be: `ZREM key ''`, `HDEL key :rc`,
-- `ZADD key XX 0 ''`. A line has one command: some servers name only the line.

-- The integer that others may have written as they liked; nil for what is none, negative, or absurdly large.
local function whole(text)
  local n = tonumber(text)
  return n and n >= 0 and n < 1e15 and math.floor(n) or nil
end

local function text(n) -- tostring would lose digits; '%.0f' costs twice as much, and a long may have 32 bits
  return n < 1e9 and string.format('%d', n) or string.format('%d%03d', n / 1000, n % 1000)
end

-- vt, delay (seconds) and maxsize of a queue as they are written, see the next three; then the fields also asked for.
local function attributes(queue, ...)
  local given = redis.call('HMGET', queue, 'vt', 'delay', 'maxsize', ...)
  if not (given[1] or given[2] or given[3]) then
    error('QUEUE_DOES_NOT_EXIST')
  end
  return given
end

-- What is missing or senseless reads as RSMQ's default; a maxsize of -1 is unlimited.
local function vt_of(given) return whole(given[1]) or 30 end
local function delay_of(given) return whole(given[2]) or 0 end
local function maxsize_of(given)
  local maxsize = tonumber(given[3])
  return maxsize and maxsize < 0 and -1 or whole(maxsize) or 65536
end

-- A total with more added; as for HINCRBY, what is no number stays.
local function plus(total, more)
  local n = tonumber(total or 0)
  return n and n < 1e15 and (not total or text(n) == total) and text(n + more) or total
end

-- What tells one receipt of a message from every other: how often, and when first. A move to another queue and back
-- resets the count, and then the first receipt is a later one.
local function fence_of(count, first_received)
  local since = whole(first_received)
  return text(whole(count) or 0) .. ' ' .. (since and text(since) or '')
end

-- Last of all, and by pcall: what is done is done, and who hears nothing of it looks now and then.
local function announce(channel, messages)
  if channel ~= '' then
    local number = redis.pcall('ZCARD', messages)
    redis.pcall('PUBLISH', channel, tonumber(number) or 1)
  end
end

local time = redis.call('TIME')
local function now_ms()
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
