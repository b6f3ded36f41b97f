-- Stores messages in one step and announces them once.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     'retry' if an earlier attempt may have stored them, else 'first';
--          'all' to store all or none, 'each' to leave out those that are too long;
--          the us in the ids; the channel, or '' to stay silent;
--          then per message: id, delay in ms ('' for the queue's), body
-- Returns  {s, us, 'stored', maxsize, positions of the messages left out as too long...}
--          {s, us, 'clock'} if the ids are not of this server's time; nothing is stored then
-- Errors   QUEUE_DOES_NOT_EXIST
local _, delay, maxsize = attributes(KEYS[2])
local first = ARGV[1] ~= 'retry'
local age = time[1] * 1000000 + time[2] - ARGV[3]
if first and (age < -100000 or age > 1000000) then
  return {time[1], time[2], 'clock'}
end

local reply = {time[1], time[2], 'stored', text(maxsize)}
local stored = false -- by the earlier attempt, in one step: what is missing now has been received and deleted
local places, bodies, usual, n, argv = {}, {}, text(now + delay * 1000), 0, ARGV -- locals are faster
for i = 5, #argv, 3 do
  local id, later, body = argv[i], argv[i + 1], argv[i + 2]
  stored = stored or not first and redis.call('HEXISTS', KEYS[2], id) == 1
  if maxsize >= 0 and #body > maxsize then
    reply[#reply + 1] = (i - 5) / 3
  else
    places[n + 1], places[n + 2] = later == '' and usual or text(now + later), id
    bodies[n + 1], bodies[n + 2] = id, body
    n = n + 2
  end
end
if stored or n == 0 or (ARGV[2] == 'all' and #reply > 4) then
  return reply
end

for i = 1, n, 1000 do -- unpack has a limit
  local last = math.min(i + 999, n)
  redis.call('ZADD', KEYS[1], unpack(places, i, last))
  redis.pcall('HSET', KEYS[2], unpack(bodies, i, last))
end
redis.pcall('HINCRBY', KEYS[2], 'totalsent', n / 2)
if ARGV[4] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], redis.call('ZCARD', KEYS[1]))
end
return reply
