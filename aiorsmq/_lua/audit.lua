-- Looks for what is wrong in the keys of a queue, step by step; changes nothing. Each step judges
-- what is there at its moment. Raises the error only if nothing of the queue exists.
-- Include: prelude_findings
-- KEYS     messages (ZSET), queue (HASH), queues (SET), purged (ZSET)
-- ARGV     1: qname
--          2: 'members' of messages or 'fields' of queue
--          3: cursor; '0' at the beginning
--          4: members or fields after which to stop
--          5: bytes after which to stop
-- Returns  {s, us, 1 if the queue has a vt, 1 if it is in the set of queues, messages, messages of
--          an unfinished purge, next cursor, how many were looked at, per finding: what it is, name
--          of the member or field}
-- Errors   QUEUE_DOES_NOT_EXIST
local total = redis.call('ZCARD', KEYS[1])
local has_fields = redis.call('HLEN', KEYS[2]) > 0
local has_vt = redis.call('HEXISTS', KEYS[2], 'vt')
local is_listed = redis.call('SISMEMBER', KEYS[3], ARGV[1])
local backlog = redis.pcall('ZCARD', KEYS[4])
backlog = type(backlog) == 'number' and backlog or 0 -- if another program's key
local is_first = ARGV[2] == 'members' and ARGV[3] == '0'
if is_first and total == 0 and not has_fields and is_listed == 0 then
  error('QUEUE_DOES_NOT_EXIST')
end

local CURSOR = 7
local LOOKS = 8
local reply = {time[1], time[2], has_vt, is_listed, total, backlog, ARGV[3], 0}
local max_looks = tonumber(ARGV[4])
local bytes_left = tonumber(ARGV[5])
local looks = 0
repeat
  local page
  if ARGV[2] == 'members' then
    page = redis.call('ZSCAN', KEYS[1], reply[CURSOR], 'COUNT', '10')
  else
    page = redis.call('HSCAN', KEYS[2], reply[CURSOR], 'COUNT', '10')
  end
  local entries = page[2]
  for i = 1, #entries, 2 do
    local name = entries[i]
    local finding
    if ARGV[2] == 'members' then
      finding = member_finding(KEYS[2], name)
    else
      finding = field_finding(KEYS[1], KEYS[2], KEYS[4], name)
      bytes_left = bytes_left - #entries[i + 1]
    end
    if finding then
      put(reply, #reply, finding, name)
    end
    looks = looks + 1
  end
  reply[CURSOR] = page[1]
until page[1] == '0' or looks >= max_looks or bytes_left <= 0
reply[LOOKS] = looks
return reply
