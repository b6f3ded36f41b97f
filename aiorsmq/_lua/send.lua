-- Stores messages in one step and announces them once.
-- Include: prelude_dead_letters
-- KEYS     messages (ZSET), queue (HASH); to a retry, that of the dead-letter queue (HASH) if it is known
--          and permitted
-- ARGV     'first'; or if an earlier attempt may have stored them, 'retry ' and the name of the dead-letter queue, if
--          it is known;
--          'all' to store all or none, 'each' to leave out those that are too long;
--          the us in the ids; the channel, or '' to stay silent;
--          '' if all take the queue's delay, else for each its delay in ms or '-', split by spaces;
--          then per message: id, body
-- Returns  {s, us, 'stored', maxsize, positions of the messages left out as too long...}
--          {s, us, 'clock'} if the ids are not of this server's time; nothing is stored then
--          {s, us, 'dead-letter queue', its name} if the messages may lie there by now; nothing is stored then
-- Errors   QUEUE_DOES_NOT_EXIST
local given, again = attributes(KEYS[2], 'totalsent'), ARGV[1] ~= 'first'
local maxsize, us = maxsize_of(given), time[1] * 1000000 + time[2]
local now, age = math.floor(us / 1000), us - ARGV[3]
if not again and (age < -100000 or age > 1000000) then
  return {time[1], time[2], 'clock'}
end
local dead = again and policy(KEYS[2], '')
if dead and 'retry ' .. dead ~= ARGV[1] then
  return {time[1], time[2], 'dead-letter queue', dead}
end

local argv, from, there, stored = ARGV, 6, {}, false
for i = 7, again and #argv or 0, 2 do
  there[i] = redis.call('HMGET', KEYS[2], argv[i - 1])[1]
    or dead and KEYS[3] and redis.pcall('HMGET', KEYS[3], argv[i - 1])[1]
  stored = stored or there[i]
end
-- If some are there, the others have been received and deleted since; unless they were too long then, and are not now.
local changed = stored and (whole(redis.call('HMGET', KEYS[2], 'modified')[1]) or 0) >= math.floor(ARGV[3] / 1000000)
local all, skipped, reply = ARGV[2] == 'all', {}, {time[1], time[2], 'stored', maxsize}
if stored and all then
  return reply
end
for i = 7, #argv, 2 do
  local too_long = maxsize >= 0 and #argv[i] > maxsize and not there[i]
  if too_long then
    reply[#reply + 1] = (i - 7) / 2
  end
  if too_long or there[i] or stored and not changed then
    skipped[i] = true
  end
end
if all and #reply > 4 then
  return reply
end

local delays = {}
for ms in string.gmatch(argv[5], '%S+') do
  delays[#delays + 1] = ms
end
if next(skipped) then
  local left, theirs = {}, {}
  for i = 7, #argv, 2 do
    if not skipped[i] then
      left[#left + 1] = argv[i - 1]
      left[#left + 1] = argv[i]
      theirs[#left / 2] = delays[(i - 5) / 2]
    end
  end
  argv, from, delays = left, 1, theirs
end
local places, usual, n, added = {}, text(now + delay_of(given) * 1000), 0, 0
for i = from, #argv, 2 do
  local ms = delays[n / 2 + 1]
  places[n + 1] = ms and ms ~= '-' and text(now + ms) or usual
  places[n + 2] = argv[i]
  n = n + 2
end
if n > 0 then
  redis.call('ZADD', KEYS[1], 'XX', 0, '') -- see prelude.lua
end
local total = plus(given[4], n / 2)
for i = 1, n, 1000 do -- unpack has a limit
  local last = math.min(i + 999, n)
  redis.call('HSET', KEYS[2], 'totalsent', total, unpack(argv, from + i - 1, from + last - 1))
  -- NX: a first attempt may come after its repetition, and what is there may be somebody's by then
  added = added + redis.call('ZADD', KEYS[1], 'NX', unpack(places, i, last))
end
if added < n / 2 then
  redis.call('HSET', KEYS[2], 'totalsent', plus(given[4], added))
end
if added > 0 then
  announce(ARGV[4], KEYS[1])
end
return reply
