-- Inserted after prelude.lua in receive.lua: messages are looked at and taken page by page.

-- Visible messages in order. Returns three lists with two entries a message: id and score; the
-- names of the fields with body and receive count; the values of these fields.
local function visible_page(messages, queue, now, offset, size)
  local range = {'-inf', now, 'WITHSCORES', 'LIMIT', offset, size}
  local page = redis.call('ZRANGEBYSCORE', messages, unpack(range))
  local names = {}
  for i = 1, #page, 2 do
    names[i] = page[i]
    names[i + 1] = page[i] .. ':rc'
  end
  local values = #page > 0 and redis.call('HMGET', queue, unpack(names))
  return page, names, values
end

-- The receive count and the time of the first receipt, both as text, after one more receipt.
local function next_receipt(queue, count, fr, now)
  local received = text((integer(count) or 0) + 1)
  local first_received = received ~= '1' and redis.call('HMGET', queue, fr)[1]
  local first_ms = integer(first_received)
  return received, first_ms and text(first_ms) or now
end

-- Takes the messages of a page, up to the claim's limit of bytes, and removes those without a body.
-- Edits the page's values for the reply, and returns when each message was first received, if it
-- has been received before. The claim collects what is to be written.
local function take_page(messages, queue, page, names, values, claim)
  local places = claim.places
  local fields = claim.fields
  local length = claim.length
  local bytes = claim.bytes
  local firsts = {}
  for i = 1, #page, 2 do
    local id = page[i]
    local body = values[i]
    local count = values[i + 1]
    local rc = names[i + 1]
    local fr = id .. ':fr'
    if bytes >= claim.max_bytes then -- leave the rest: the server ends an array at the first nil
      page[i] = nil
      values[i] = nil
      break
    elseif not body then
      redis.call('HDEL', queue, rc, fr)
      claim.phantoms = claim.phantoms + redis.call('ZREM', messages, id)
      values[i + 1] = false
    else
      local received = '1'
      local first_ms = claim.now
      if count then
        received, first_ms = next_receipt(queue, count, fr, first_ms)
        values[i + 1] = received
        firsts[#firsts + 1] = first_ms
      end
      -- hot path: `put` instead of these lines would cost 2 % of the script
      if claim.pop then
        local field = 3 * length
        fields[field + 1] = id
        fields[field + 2] = rc
        fields[field + 3] = fr
        places[length + 1] = id
      else
        local field = 4 * length
        fields[field + 1] = rc
        fields[field + 2] = received
        fields[field + 3] = fr
        fields[field + 4] = first_ms
        local place = 2 * length
        places[place + 1] = claim.visible_at
        places[place + 2] = id
      end
      length = length + 1
      bytes = bytes + #body
    end
  end
  claim.length = length
  claim.bytes = bytes
  return firsts
end
