-- What stands, after prelude.lua, in front of the scripts that deal with dead letters.

-- Where the dead messages of a queue go, and after how many receipts; nil for what is missing or senseless. A number
-- without a name: they are dropped. A senseless name takes the number with it, so that nothing is dropped by mistake.
local function policy(queue, qname)
  local given = redis.call('HMGET', queue, 'dead_letter_queue', 'max_receives')
  local name, most = given[1] or '', given[2]
  most = most and #most <= 15 and string.match(most, '^[1-9]%d*$') and tonumber(most) or nil
  if name == '' then
    return nil, most
  elseif name ~= qname and name ~= 'QUEUES' and #name <= 160 and string.match(name, '^[%w_-]+$') then
    return name, most
  end
end

-- nil if a chain of dead-letter queues, hashes from KEYS[key] on and names from ARGV[arg] on, is the whole one; else
-- how many of them are right, and the name that follows these or ''.
local function other_chain(key, arg)
  for i = 0, #KEYS - key do
    local following = policy(KEYS[key + i], ARGV[arg + i]) or ''
    if following ~= (ARGV[arg + i + 1] or '') then
      return i + 1, following
    end
  end
end

local function exists(queue)
  local given = redis.call('HMGET', queue, 'vt', 'delay', 'maxsize')
  return given[1] or given[2] or given[3]
end

-- Makes a queue; without attributes, one with RSMQ's defaults. As for Node, what is there of it stays.
local function create(queue, queues, qname, vt, delay, maxsize, ...)
  local fields = {'vt', vt or vt_of({}), ...}
  local values = {delay or delay_of({}), maxsize or maxsize_of({}), time[1], time[1]}
  for i, name in ipairs({'delay', 'maxsize', 'created', 'modified'}) do
    if not redis.call('HMGET', queue, name)[1] then
      fields[#fields + 1] = name
      fields[#fields + 1] = values[i]
    end
  end
  local new = redis.call('SADD', queues, qname)
  if type(redis.pcall('HSET', queue, unpack(fields))) == 'table' then -- refused
    local _ = new == 1 and redis.pcall('SREM', queues, qname)
    redis.call('HSET', queue, unpack(fields)) -- raises it
  end
end
