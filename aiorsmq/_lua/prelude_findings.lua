-- Inserted after prelude.lua in scripts that look for what is wrong in the keys of a queue.

local SETTINGS = {
  vt = true,
  delay = true,
  maxsize = true,
  created = true,
  modified = true,
  totalsent = true,
  totalrecv = true,
  max_receives = true,
  dead_letter_queue = true,
  paused = true,
}

-- Whether a name can only be that of a message: base36 of a time, then letters and digits. One that
-- is hexadecimal throughout is a hash or a UUID.
local function is_id(name)
  local digits = string.rep('[0-9a-z]', 8)
  local is_possible = #name >= 30 and #name <= 32 and string.match(name, '^' .. digits .. '%w+$')
  return is_possible and not string.match(name, '^%x+$')
end

-- The id in the name of a receive count or of a first receipt, or nil.
local function owner_of(field)
  return string.match(field, '^(.*):rc$') or string.match(field, '^(.*):fr$')
end

-- Whether a message belongs to an unfinished purge.
local function is_purged(purged, id)
  local score = redis.pcall('ZSCORE', purged, id)
  return type(score) == 'string' -- not if another program's key
end

-- What is wrong with a member of the ZSET, or nil.
local function member_finding(queue, id)
  if SETTINGS[id] or owner_of(id) then
    return 'unknown member'
  end
  return redis.call('HEXISTS', queue, id) == 0 and 'phantom' or nil
end

-- What is wrong with a field of the HASH, or nil.
local function field_finding(messages, queue, purged, field)
  if SETTINGS[field] then
    return nil
  end
  local owner = owner_of(field)
  local is_used
  if owner then
    is_used = redis.call('HEXISTS', queue, owner) == 1
  else
    is_used = redis.call('ZSCORE', messages, field)
  end
  local id = owner or field
  if is_used or is_purged(purged, id) then
    return nil
  end
  return is_id(id) and (owner and 'leaked field' or 'stranded body') or 'unknown field'
end
