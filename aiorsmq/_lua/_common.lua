-- What stands in front of every script.

-- The integer that others may have written as they liked; nil for what is none, negative, or absurdly large.
local function whole(text)
  local n = tonumber(text)
  return n and n >= 0 and n < 1e15 and math.floor(n) or nil
end

-- vt, delay (seconds) and maxsize (-1 for unlimited) of a queue; what is missing or senseless reads as RSMQ's default.
local function attributes(queue)
  local given = redis.call('HMGET', queue, 'vt', 'delay', 'maxsize')
  if not (given[1] or given[2] or given[3]) then
    error('QUEUE_DOES_NOT_EXIST')
  end
  local maxsize = tonumber(given[3])
  return whole(given[1]) or 30, whole(given[2]) or 0, maxsize and maxsize < 0 and -1 or whole(maxsize) or 65536
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(n) -- tostring would lose digits
  return string.format('%.0f', n)
end
