-- Stores exported messages, all or none, and announces them once.
-- Include: prelude_minted
-- KEYS     messages (ZSET), queue (HASH), reasons (HASH)
-- ARGV     1: 'first'; 'minted' if the time in the ids was refused before; 'retry' if an earlier
--          attempt may have stored them; 'keep' to leave messages alone whose ids are there
--          2: the time in the ids, in us; not with 'keep'
--          3: the channel, or '' to announce nothing
--          4: seconds for which to keep the reasons
--          5...: per message: id, body, score or '' for now, receive count, first received or '',
--          reason or ''
-- Returns  {s, us, 'stored', how many}
--          {s, us, 'too long', the position of the first one, maxsize}, and stores nothing
--          {s, us, 'clock'}, and stores nothing, if the time in the ids is not the server's
-- Errors   QUEUE_DOES_NOT_EXIST

-- Check the time in the ids, and look which messages are to be stored.
local queue = attributes(KEYS[2], 'totalsent')
local mark = ARGV[1]
if mark == 'first' and is_off(ARGV[2]) then
  return {time[1], time[2], 'clock'}
end
local maxsize = maxsize_of(queue)
local max_length = maxsize < 0 and math.huge or maxsize
local now = text(now_ms())
local is_listed = {}
local fields = {}
local places = {}
local reasons = {}
for i = 5, #ARGV, 6 do
  local id = ARGV[i]
  local body = ARGV[i + 1]
  local score = ARGV[i + 2]
  local count = ARGV[i + 3]
  local first_received = ARGV[i + 4]
  local is_member = redis.call('ZSCORE', KEYS[1], id) -- a first attempt may come after its retry
  local is_stored = is_member and redis.call('HEXISTS', KEYS[2], id) == 1
  if is_stored and mark == 'retry' then -- as are the others, or they have been received since
    return {time[1], time[2], 'stored', (#ARGV - 4) / 6}
  elseif not is_stored and not is_listed[id] then
    if #body > max_length then
      return {time[1], time[2], 'too long', (i - 5) / 6, maxsize}
    end
    is_listed[id] = true
    put(fields, #fields, id, body)
    put(places, #places, score == '' and now or score, id)
    if count ~= '0' then
      put(fields, #fields, id .. ':rc', count)
    end
    if first_received ~= '' then
      put(fields, #fields, id .. ':fr', first_received)
    end
    if ARGV[i + 5] ~= '' then
      put(reasons, #reasons, id, ARGV[i + 5])
    end
  end
end

-- Write.
local n = #places / 2
if n > 0 then
  redis.call('ZADD', KEYS[1], 'XX', 0, '') -- dry run
  local keeps_reasons = #reasons > 0 and not redis.pcall('HMGET', KEYS[3], '').err
  if keeps_reasons then
    redis.call('EXPIRE', KEYS[3], ARGV[4])
  end
  redis.call('HSET', KEYS[2], 'totalsent', add(queue[4], n), unpack(fields))
  redis.call('ZADD', KEYS[1], unpack(places))
  if keeps_reasons then
    redis.call('HSET', KEYS[3], unpack(reasons))
    redis.call('EXPIRE', KEYS[3], ARGV[4])
  end
  announce(ARGV[3], KEYS[1])
end
return {time[1], time[2], 'stored', n}
