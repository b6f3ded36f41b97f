-- Undoes the receipt of messages that reached no consumer: each gets its former score and count.
-- KEYS     messages (ZSET), queue (HASH)
-- ARGV     1: the channel, or '' to announce nothing
--          2...: per message: id, fence, the score that the receipt set, the former score
-- Returns  {s, us, how many were handed back}
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua
redis.call('ZADD', KEYS[1], 'XX', 0, '') -- dry run
redis.call('HDEL', KEYS[2], ':rc') -- dry run

local total = 0
for i = 2, #ARGV, 4 do
  -- Look, and check that nobody has received the message or changed its visibility since.
  local id = ARGV[i]
  local fence = ARGV[i + 1]
  local new_score = tonumber(ARGV[i + 2])
  local former_score = ARGV[i + 3]
  local score = redis.call('ZSCORE', KEYS[1], id)
  local receipt = redis.call('HMGET', KEYS[2], id .. ':rc', id .. ':fr')
  local is_unchanged = score and tonumber(score) == new_score
  if is_unchanged and fence_of(unpack(receipt)) == fence then
    -- Write: the former receipt, then the score.
    local count = integer(receipt[1])
    if count == 1 then
      redis.call('HDEL', KEYS[2], id .. ':rc', id .. ':fr')
    else
      redis.call('HSET', KEYS[2], id .. ':rc', text(count - 1))
    end
    redis.call('ZADD', KEYS[1], former_score, id)
    total = total + 1
  end
end

if total > 0 then
  redis.pcall('HINCRBY', KEYS[2], 'totalrecv', -total)
  announce(ARGV[1], KEYS[1])
end
return {time[1], time[2], total}
