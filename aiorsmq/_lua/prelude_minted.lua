-- Inserted after prelude.lua in scripts that store messages under ids that the client has minted.

-- Whether the time in the ids is not the server's, `max_age` us ago at most: 1 s if nil.
local function is_off(us, max_age)
  local age = time[1] * 1000000 + time[2] - us
  return age < -100000 or age > (max_age or 1000000)
end

-- Writes to the queue's hash without changing it. WAIT covers what precedes the last write of its
-- own connection: without a write it would confirm what no replica has. Returns the status.
local function rewrite(queue, total)
  local written = redis.pcall('HSET', queue, 'totalsent', total)
  return type(written) == 'table' and 'unwritten' or 'stored'
end
