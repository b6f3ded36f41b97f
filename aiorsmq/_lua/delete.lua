-- Deletes messages. A queue that does not exist has no messages.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     1: 'first', or 'retry' if an earlier attempt may have deleted them
--          2: the fence of all, '' for any receipt, or 'each'
--          3...: the ids; after 'each', all fences, and in a retry, all times in ms at which the
--          leases end, or ''
-- Returns  {s, us, positions of the messages that are gone or were received again...}; to a retry,
--          one that is gone counts as deleted, unless its lease has ended: another consumer may
--          have deleted it then
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua

-- Look.
local argv = ARGV
local is_retry = argv[1] == 'retry'
local common_fence = argv[2] ~= 'each' and argv[2]
local args_per_message = common_fence and 1 or is_retry and 3 or 2
local n = (#argv - 2) / args_per_message
local before_ids = 2
local before_fences = before_ids + n
local before_lease_ends = before_fences + n
local names = {}
for i = 1, n do
  local id = argv[before_ids + i]
  names[2 * i - 1] = id .. ':rc'
  names[2 * i] = id .. ':fr'
end
local scores = redis.call('ZMSCORE', KEYS[1], unpack(argv, before_ids + 1, before_ids + n))
local receipts = redis.call('HMGET', KEYS[2], unpack(names))

-- Check each message's receipt.
local reply = {time[1], time[2]}
local ids = {}
local fields = {}
local length = 0
for i = 1, n do
  local id = argv[before_ids + i]
  local fence = common_fence or argv[before_fences + i]
  local fr = 2 * i
  local rc = fr - 1
  local count = receipts[rc]
  local first_received = receipts[fr]
  local score = scores[i]
  -- hot path: comparing as stored spares most messages fence_of, which comes to the same
  local is_equal = count and first_received and count .. ' ' .. first_received == fence
  local is_current = score and (is_equal or fence == '' or fence_of(count, first_received) == fence)
  if is_current then
    local last = 3 * length
    fields[last + 1] = id
    fields[last + 2] = names[rc]
    fields[last + 3] = names[fr]
    length = length + 1
    ids[length] = id
  else
    local lease_end = tonumber(argv[before_lease_ends + i]) or math.huge
    local deleted_before = is_retry and not score and lease_end >= now_ms()
    if not deleted_before then
      reply[#reply + 1] = i - 1
    end
  end
end

-- Write.
if length > 0 then
  redis.call('HDEL', KEYS[2], unpack(fields))
  redis.call('ZREM', KEYS[1], unpack(ids))
end
return reply
