-- Says what queues look like now, in the same time for a few messages as for a million.
-- KEYS     none, then per queue: messages (ZSET), queue (HASH)
-- ARGV     1...: per queue: its channel
-- Returns  {s, us, now, per queue: {visible, hidden, how many hidden messages were looked at, how
--          many of these have been received, the lowest visible score or '', the lowest hidden
--          score or '', when it was paused or '', how many clients listen or '', vt, delay,
--          maxsize, totalrecv, totalsent, created, modified, then as stored, nil if missing: vt,
--          delay, maxsize, max_receives, dead_letter_queue}}
--          instead of a queue, nil if it does not exist, or the error if a key is another program's
local SAMPLE = 100
local BLOCKS = 10
local COUNTERS = {'totalrecv', 'totalsent', 'created', 'modified', 'paused'}
local now = text(now_ms())

local function lowest(messages, first, last)
  local page = redis.call('ZRANGEBYSCORE', messages, first, last, 'WITHSCORES', 'LIMIT', 0, 1)
  return page[2] or ''
end

-- How many hidden messages were looked at, spread evenly over all, and how many were received.
local function sample(messages, queue, visible, hidden)
  local blocks = hidden > SAMPLE and BLOCKS or 1
  local size = SAMPLE / blocks
  local step = (hidden - size) / math.max(blocks - 1, 1)
  local names = {}
  for block = 0, blocks - 1 do
    local rank = visible + math.max(math.floor(block * step), 0)
    for _, id in ipairs(redis.call('ZRANGE', messages, rank, rank + size - 1)) do
      names[#names + 1] = id .. ':rc'
    end
  end
  local received = 0
  for _, count in ipairs(#names > 0 and redis.call('HMGET', queue, unpack(names)) or {}) do
    received = received + (integer(count) and 1 or 0)
  end
  return #names, received
end

local function look(messages, queue, listeners)
  local values = redis.call('HMGET', queue, 'vt', 'delay', 'maxsize', unpack(COUNTERS))
  if not (values[1] or values[2] or values[3]) then
    return false
  end
  local policy = redis.call('HMGET', queue, 'max_receives', 'dead_letter_queue')
  local visible = redis.call('ZCOUNT', messages, '-inf', now)
  local hidden = redis.call('ZCARD', messages) - visible
  local number, received = sample(messages, queue, visible, hidden)
  local oldest = lowest(messages, '-inf', now)
  local next_due = lowest(messages, '(' .. now, '+inf')
  local paused = values[8] and values[8] ~= '' and text(integer(values[8]) or 0) or ''
  local counters = {}
  for i, value in ipairs({unpack(values, 4, 7)}) do
    counters[i] = text(integer(value) or 0)
  end
  return {
    visible, hidden, number, received, oldest, next_due, paused, listeners,
    text(vt_of(values)), text(delay_of(values)), maxsize_of(values),
    counters[1], counters[2], counters[3], counters[4],
    values[1], values[2], values[3], policy[1], policy[2],
  }
end

-- The error that the keys of another program give, or nil. Not by a pcall of `look`: some servers
-- would then report the wrong line of a command that they refuse.
local function foreign(messages, queue)
  local queue_reply = redis.pcall('HMGET', queue, 'vt')
  local messages_reply = redis.pcall('ZCARD', messages)
  for _, reply in ipairs({queue_reply, messages_reply}) do
    if type(reply) == 'table' and reply.err and string.find(reply.err, 'WRONGTYPE', 1, true) then
      return {err = reply.err}
    end
  end
end

local reply = {time[1], time[2], now}
local numsub = redis.pcall('PUBSUB', 'NUMSUB', unpack(ARGV)) -- most users are refused this
for i = 1, #ARGV do
  local key = 2 * i
  local listeners = numsub[key] or ''
  local messages = KEYS[key - 1]
  reply[#reply + 1] = foreign(messages, KEYS[key]) or look(messages, KEYS[key], listeners)
end
return reply
