-- Inserted after prelude_places.lua in scripts that choose messages by conditions.

-- The conditions from ARGV[arg] on, '' for each that is not made: text in the body, 'visible' or
-- 'hidden', us since it was sent, receive count, text in the reason why it died.
local function conditions_from(arg)
  local age = tonumber(ARGV[arg + 2])
  return {
    text = ARGV[arg],
    state = ARGV[arg + 1],
    latest_us = age and time[1] * 1000000 + time[2] - age,
    min_receives = tonumber(ARGV[arg + 3]) or 0,
    reason = ARGV[arg + 4],
  }
end

-- When a message was sent, in us, as its id says; later than ever if its id carries no time.
local function sent_us(id)
  local digits = #id == 32 and string.match(id, '^%w%w%w%w%w%w%w%w%w%w')
  local us = digits and tonumber(digits, 36)
  return us and us < 4102444800000000 and us or math.huge
end

-- When and why a message died, see move.lua; '' if that is not known.
local function death_of(reasons, id)
  local death = redis.pcall('HMGET', reasons, id)[1] -- no list if it is another program's key
  return type(death) == 'string' and death or ''
end

-- A message that meets the conditions, or nil; and how many bytes were read.
local function match(conditions, queue, reasons, id, score)
  if conditions.latest_us and sent_us(id) > conditions.latest_us then
    return nil, 0
  end
  if conditions.reason ~= '' then
    local reason = string.match(death_of(reasons, id), '^%d+ %d+ [%w_-]+ (.*)$') or ''
    if not string.find(reason, conditions.reason, 1, true) then
      return nil, 0
    end
  end
  local values = redis.call('HMGET', queue, id, id .. ':rc', id .. ':fr')
  local body = values[1]
  local count = integer(values[2]) or 0
  if not body or count < conditions.min_receives then
    return nil, body and #body or 0
  end
  if conditions.text ~= '' and not string.find(body, conditions.text, 1, true) then
    return nil, #body
  end
  local first_ms = integer(values[3])
  return {id = id, score = score, body = body, count = count, first_ms = first_ms}, #body
end

-- Puts a message with the beginning of its body behind a reply.
local function put_message(reply, message, max_bytes, reasons)
  local first_ms = message.first_ms
  put(reply, #reply, message.id, string.sub(message.body, 1, max_bytes), text(#message.body))
  put(reply, #reply, text(message.count), first_ms and text(first_ms) or '', message.score)
  put(reply, #reply, tonumber(message.score) <= now_ms() and 1 or 0, death_of(reasons, message.id))
end

-- Looks at messages in their order, behind the place (ARGV[arg], ARGV[arg + 1]), up to a number of
-- messages, of matches, and of bytes that are read. The conditions begin at ARGV[arg + 2]. Returns
-- the matches, how many were looked at, and the place of the last one: '' and '' if none is left.
local function search(messages, queue, reasons, arg, max_looks, max_matches, max_bytes)
  local conditions = conditions_from(arg + 2)
  local rank = rank_behind(messages, ARGV[arg], ARGV[arg + 1])
  local end_rank = redis.call('ZCOUNT', messages, '-inf', '+inf')
  local first_hidden = redis.call('ZCOUNT', messages, '-inf', text(now_ms()))
  if conditions.state == 'hidden' then
    rank = math.max(rank, first_hidden)
  elseif conditions.state == 'visible' then
    end_rank = first_hidden
  end
  local last_rank = math.min(rank + max_looks, end_rank) - 1
  local is_over = rank > last_rank
  local page = is_over and {} or redis.call('ZRANGE', messages, rank, last_rank, 'WITHSCORES')
  local matches = {}
  local looks = 0
  while 2 * looks < #page and #matches < max_matches and max_bytes > 0 do
    local id = page[2 * looks + 1]
    local score = page[2 * looks + 2]
    local message, bytes = match(conditions, queue, reasons, id, score)
    matches[#matches + 1] = message
    max_bytes = max_bytes - bytes
    looks = looks + 1
  end
  local has_more = looks > 0 and rank + looks < end_rank
  return matches, looks, has_more and page[2 * looks] or '', has_more and page[2 * looks - 1] or ''
end
