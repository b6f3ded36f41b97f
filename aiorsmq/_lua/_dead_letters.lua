-- What stands, after _common, in front of the scripts that deal with dead letters.

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

-- Makes a queue; without attributes, one with RSMQ's defaults.
local function create(queue, queues, qname, vt, delay, maxsize)
  redis.call('HSETNX', queue, 'vt', vt or vt_of({}))
  redis.pcall('HSETNX', queue, 'delay', delay or delay_of({}))
  redis.pcall('HSETNX', queue, 'maxsize', maxsize or maxsize_of({}))
  redis.pcall('HSETNX', queue, 'created', time[1])
  redis.pcall('HSETNX', queue, 'modified', time[1])
  redis.pcall('SADD', queues, qname)
end
