-- Mends what an audit has found in the keys of a queue, unless it is right by now.
-- Include: prelude_findings
-- KEYS     messages (ZSET), queue (HASH), purged (ZSET)
-- ARGV     1: 'first', or 'retry' if an earlier attempt may have repaired it
--          2: the channel, or '' to announce nothing
--          3...: per finding: 'phantom', 'leaked field' or 'stranded body', name of the member or
--          field
-- Returns  {s, us, per finding: 1 if it was repaired, 0 if it was right; to a retry always 1}

-- Look.
local phantoms = {}
local leaked = {}
local places = {}
local reply = {time[1], time[2]}
local now = text(now_ms())
for i = 3, #ARGV, 2 do
  local finding = ARGV[i]
  local name = ARGV[i + 1]
  local is_member = redis.call('ZSCORE', KEYS[1], name)
  local is_field = redis.call('HEXISTS', KEYS[2], name) == 1
  local is_wrong = false
  if finding == 'phantom' and is_member then
    is_wrong = member_finding(KEYS[2], name) == finding
  elseif finding ~= 'phantom' and is_field then
    is_wrong = field_finding(KEYS[1], KEYS[2], KEYS[3], name) == finding
  end
  if is_wrong and finding == 'phantom' then
    phantoms[#phantoms + 1] = name
  elseif is_wrong and finding == 'leaked field' then
    leaked[#leaked + 1] = name
  elseif is_wrong then
    put(places, #places, now, name)
  end
  reply[#reply + 1] = (is_wrong or ARGV[1] == 'retry') and 1 or 0
end

-- Write. A body that nothing refers to becomes a visible message; its receive count stays.
redis.call('ZREM', KEYS[1], '') -- first write, see prelude.lua
redis.call('HDEL', KEYS[2], ':rc') -- dry run, as is the next
redis.call('ZADD', KEYS[1], 'XX', 0, '')
if #phantoms > 0 then
  redis.call('ZREM', KEYS[1], unpack(phantoms))
end
if #leaked > 0 then
  redis.call('HDEL', KEYS[2], unpack(leaked))
end
if #places > 0 then
  redis.call('ZADD', KEYS[1], unpack(places))
  announce(ARGV[2], KEYS[1])
end
return reply
