-- Inserted after prelude.lua in scripts that deal with dead letters.

-- A queue's dead_letter_queue and max_receives, nil for each that is missing or invalid. With
-- max_receives alone, dead messages are dropped; therefore an invalid name also voids the number.
local function policy(queue, qname)
  local values = redis.call('HMGET', queue, 'dead_letter_queue', 'max_receives')
  local name = values[1] or ''
  local digits = values[2]
  local is_number = digits and #digits <= 15 and string.match(digits, '^[1-9]%d*$')
  local max_receives = is_number and tonumber(digits) or nil
  if name == '' then
    return nil, max_receives
  end
  local is_reserved = name == qname or name == 'QUEUES'
  if not is_reserved and #name <= 160 and string.match(name, '^[%w_-]+$') then
    return name, max_receives
  end
end

-- Compares a chain of dead-letter queues, hashes from KEYS[key] on, with the caller's names for
-- them, from ARGV[arg] on. Returns nil if they agree; else how many names are right, and the name
-- that follows these on the server, or ''.
local function chain_mismatch(key, arg)
  for i = 0, #KEYS - key do
    local actual = policy(KEYS[key + i], ARGV[arg + i]) or ''
    local expected = ARGV[arg + i + 1] or ''
    if actual ~= expected then
      return i + 1, actual
    end
  end
end

local function exists(queue)
  local values = redis.call('HMGET', queue, 'vt', 'delay', 'maxsize')
  return values[1] or values[2] or values[3]
end

-- Creates a queue, by default with RSMQ's attributes. Like Node, it keeps fields that exist.
local function create(queue, queues, qname, vt, delay, maxsize, ...)
  local fields = {'vt', vt or vt_of({}), ...}
  local names = {'delay', 'maxsize', 'created', 'modified'}
  local values = {delay or delay_of({}), maxsize or maxsize_of({}), time[1], time[1]}
  for i, name in ipairs(names) do
    local value = redis.call('HMGET', queue, name)[1]
    if not value then
      fields[#fields + 1] = name
      fields[#fields + 1] = values[i]
    end
  end
  local is_new = redis.call('SADD', queues, qname)
  local is_refused = type(redis.pcall('HSET', queue, unpack(fields))) == 'table'
  if is_refused then
    if is_new == 1 then
      redis.pcall('SREM', queues, qname)
    end
    redis.call('HSET', queue, unpack(fields)) -- raises the error
  end
end

-- Stores the reasons of deaths, and deletes those of messages that are gone, as far as a random
-- sample finds them.
local function keep_reasons(reasons, deaths, ttl, messages)
  redis.call('HSET', reasons, unpack(deaths))
  redis.call('EXPIRE', reasons, ttl)
  local sample = redis.pcall('HRANDFIELD', reasons, #deaths + 8)
  local scores = #sample > 0 and redis.pcall('ZMSCORE', messages, unpack(sample))
  for i, id in ipairs(sample) do
    if scores[i] == false then
      redis.pcall('HDEL', reasons, id)
    end
  end
end

-- Which messages are stored, here or in the dead-letter queue if it is given. Their ids are every
-- second entry of a list. Returns their bodies by these positions, and whether there are any.
local function find_stored(queue, dead_letter_queue, list, first)
  local bodies = {}
  local has_bodies = false
  for i = first, #list, 2 do
    local body = redis.call('HMGET', queue, list[i])[1]
    bodies[i] = body or dead_letter_queue and redis.pcall('HMGET', dead_letter_queue, list[i])[1]
    has_bodies = has_bodies or bodies[i]
  end
  return bodies, has_bodies
end
