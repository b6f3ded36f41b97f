-- Prepended to every script.
--
-- Every reply begins with s, us: the server's time in seconds and microseconds.
--
-- The server checks each command of a script separately and may refuse any of them to this user.
-- A refusal must leave nothing half done. Therefore:
-- * All reads come before the first write. So do dry runs of the later writes: calls that change
--   nothing, but are refused if the writes would be, such as `ZREM key ''` or `HDEL key :rc`.
-- * A write that must happen uses `call`. A message's body is written before its score.
-- * A line has one command: some servers report only the line of the refused one.
-- A server at maxmemory refuses a script whose first write needs memory. A script that has to run
-- there begins its writes with `ZREM key ''`.

-- A number that other programs may have written: an integer, or nil if it is missing or invalid.
local function integer(value)
  local n = tonumber(value)
  return n and n >= 0 and n < 1e15 and math.floor(n) or nil
end

-- Not tostring, which loses digits; '%.0f' takes twice as long, and '%d' may have only 32 bits.
local function text(n)
  return n < 1e9 and string.format('%d', n) or string.format('%d%03d', n / 1000, n % 1000)
end

-- Puts up to four values behind the n-th of a list.
local function put(list, n, first, second, third, fourth)
  list[n + 1] = first
  list[n + 2] = second
  if third then
    list[n + 3] = third
  end
  if fourth then
    list[n + 4] = fourth
  end
end

-- A queue's vt, delay (both in seconds) and maxsize as stored, then the fields given.
local function attributes(queue, ...)
  local values = redis.call('HMGET', queue, 'vt', 'delay', 'maxsize', ...)
  if not (values[1] or values[2] or values[3]) then
    error('QUEUE_DOES_NOT_EXIST')
  end
  return values
end

-- RSMQ's defaults replace attributes that are missing or invalid. A maxsize of -1 is unlimited.
local function vt_of(values)
  return integer(values[1]) or 30
end

local function delay_of(values)
  return integer(values[2]) or 0
end

local function maxsize_of(values)
  local maxsize = tonumber(values[3])
  return maxsize and maxsize < 0 and -1 or integer(maxsize) or 65536
end

-- The new value of a counter. Like HINCRBY, it leaves one alone that is not a number.
local function add(counter, increment)
  local n = tonumber(counter or 0)
  local is_number = n and n < 1e15 and (not counter or text(n) == counter)
  return is_number and text(n + increment) or counter
end

-- Identifies one receipt of a message: the receive count and the time of the first receipt.
-- Moving a message to another queue and back resets the count, but makes the first receipt later.
local function fence_of(count, first_received)
  local first_ms = integer(first_received)
  return text(integer(count) or 0) .. ' ' .. (first_ms and text(first_ms) or '')
end

-- Comes last and uses pcall: the work is done, and consumers that miss this poll now and then.
local function announce(channel, messages)
  if channel ~= '' then
    local msgs = redis.pcall('ZCARD', messages)
    redis.pcall('PUBLISH', channel, tonumber(msgs) or 1)
  end
end

local time = redis.call('TIME')

local function now_ms()
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
