-- Looks at messages in the order in which they become visible, hidden ones included; changes nothing.
-- KEYS     messages (ZSET), queue (HASH), reasons (HASH) unless these are not asked for
-- ARGV     how many at the most; bytes of bodies after which to stop; the highest score, or 'now'; where to go on:
--          score and id of the last message that was seen, or '-inf' and ''
-- Returns  {s, us, highest score, id of the last member that was looked at, or '' if there are no more, its score,
--          per message: id, body, receive count, first received or '', score, reason or ''}; members without a body
--          are left out
-- Errors   QUEUE_DOES_NOT_EXIST
attributes(KEYS[2])
local wanted, left, highest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == 'now' and text(now_ms()) or ARGV[3]
local at = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[4])
local score = redis.call('ZSCORE', KEYS[1], ARGV[5])
if score and tonumber(score) == tonumber(ARGV[4]) then -- else it has left its place, and its equals are seen again
  at = redis.call('ZRANK', KEYS[1], ARGV[5]) + 1
end
local reply, stop, far = {time[1], time[2], highest, '', ''}, redis.call('ZCOUNT', KEYS[1], '-inf', highest), at + 2000
while at < stop and at < far and wanted > 0 and left > 0 do
  local some = redis.call('ZRANGE', KEYS[1], at, math.min(at + wanted, stop) - 1, 'WITHSCORES')
  for i = 1, #some, 2 do
    if left > 0 then
      local id, r = some[i], #reply
      local values = redis.call('HMGET', KEYS[2], id, id .. ':rc', id .. ':fr')
      at, reply[4], reply[5] = at + 1, id, some[i + 1]
      if values[1] then
        local since, why = whole(values[3]), KEYS[3] and redis.pcall('HMGET', KEYS[3], id)[1]
        reply[r + 1], reply[r + 2], reply[r + 3] = id, values[1], text(whole(values[2]) or 0)
        reply[r + 4], reply[r + 5] = since and text(since) or '', some[i + 1]
        reply[r + 6] = type(why) == 'string' and why or '' -- another program's key has none
        wanted, left = wanted - 1, left - #values[1]
      end
    end
  end
end
if at >= stop then
  reply[4] = ''
end
return reply
