-- Stores messages in one step and announces them once.
-- Include: prelude_dead_letters
-- Include: prelude_minted
-- KEYS     messages (ZSET), queue (HASH); in a retry, if permitted: dead-letter queue (HASH)
-- ARGV     1: 'first', or 'held' if earlier WAITs may have held it back; in a retry 'retry ', or
--             'rewrite ' if it is to be confirmed, and the dead-letter queue's name, if known
--          2: 'all' to store all or none, 'each' to leave out those that are too long
--          3: the time in the ids, in us; if held, up to confirm.py's MAX_TIMEOUT and 1 s ago
--          4: the channel, or '' to announce nothing
--          5: '' if all take the queue's delay, else each one's in ms or '-', separated by spaces
--          6...: per message: id, body
-- Returns  {s, us, 'stored', maxsize, positions of the messages left out as too long...}
--          {s, us, 'unwritten', as for 'stored'...}, if a 'rewrite' could not write
--          {s, us, 'clock'}, and stores nothing, if the time in the ids is not the server's
--          {s, us, 'dead-letter queue', its name}, and stores nothing, if they may be there by now
-- Errors   QUEUE_DOES_NOT_EXIST

-- Check: the time in the ids, the name of the dead-letter queue.
local queue = attributes(KEYS[2], 'totalsent')
local is_retry = string.find(ARGV[1], '^re')
if not is_retry and is_off(ARGV[3], ARGV[1] == 'held' and 61000000) then
  return {time[1], time[2], 'clock'}
end
local dead_letter_queue = is_retry and policy(KEYS[2], '')
if dead_letter_queue and string.match(ARGV[1], ' (.*)') ~= dead_letter_queue then
  return {time[1], time[2], 'dead-letter queue', dead_letter_queue}
end

-- Look: which messages an earlier attempt has stored.
local list = is_retry and ARGV or {}
local duplicates, has_duplicates = find_stored(KEYS[2], dead_letter_queue and KEYS[3], list, 6)
-- The rest is gone by now, unless it was too long then and maxsize may have changed since.
local modified = has_duplicates and integer(redis.call('HMGET', KEYS[2], 'modified')[1]) or 0
local skip_rest = has_duplicates and modified < math.floor(ARGV[3] / 1000000)

-- Take: the messages to store, with a score for each.
local maxsize = maxsize_of(queue)
local reply = {time[1], time[2], 'stored', maxsize}
local is_atomic = ARGV[2] == 'all'
local delays = {}
for ms in string.gmatch(ARGV[5], '%S+') do
  delays[#delays + 1] = ms
end
local now = now_ms()
local default_place = text(now + delay_of(queue) * 1000)
local max_length = maxsize < 0 and math.huge or maxsize
local messages = ARGV -- from 6 on; those to store are moved up to there
local places = {}
local last = 0
for i = 6, is_atomic and has_duplicates and 0 or #messages, 2 do
  local id = messages[i]
  local body = messages[i + 1]
  local is_duplicate = duplicates[i]
  if #body > max_length and not is_duplicate then
    reply[#reply + 1] = i / 2 - 3
  elseif not is_duplicate and not skip_rest then
    local ms = delays[i / 2 - 2]
    messages[last + 6] = id
    messages[last + 7] = body
    places[last + 1] = ms and ms ~= '-' and text(now + ms) or default_place
    places[last + 2] = id
    last = last + 2
  end
end
if is_atomic and #reply > 4 then -- some are too long
  return reply
end

-- Write.
local n = last / 2
if n > 0 then
  redis.call('ZADD', KEYS[1], 'XX', 0, '') -- dry run
end
local total = add(queue[4], n)
local new = 0
for i = 1, last, 1000 do -- unpack has a limit
  local chunk_end = math.min(i + 999, last)
  redis.call('HSET', KEYS[2], 'totalsent', total, unpack(messages, i + 5, chunk_end + 5))
  -- NX: a first attempt may arrive after its retry, when a consumer may have the message already
  new = new + redis.call('ZADD', KEYS[1], 'NX', unpack(places, i, chunk_end))
end
if new < n then
  redis.call('HSET', KEYS[2], 'totalsent', add(queue[4], new))
elseif n == 0 and string.find(ARGV[1], '^rewrite') then
  reply[3] = rewrite(KEYS[2], total)
end
if new > 0 then
  announce(ARGV[4], KEYS[1])
end
return reply
