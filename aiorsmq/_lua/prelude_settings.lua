-- Inserted after prelude_dead_letters.lua in scripts that compare or change a queue's settings.

-- A queue's settings by name, as text, in the way that consumers read them; '' stands for none.
local function settings_of(queue, qname)
  local values = attributes(queue)
  local name, max_receives = policy(queue, qname)
  return {
    vt = text(vt_of(values)),
    delay = text(delay_of(values)),
    maxsize = text(maxsize_of(values)),
    max_receives = max_receives and text(max_receives) or '',
    dead_letter_queue = name or '',
  }
end

-- Changes settings, a list of names and values; '' removes one. First creates the dead-letter queue
-- that is called so, if any, unless it exists.
local function change(queue, changes, queues, dead_letters, name)
  local deletions = {}
  for i = 1, #changes, 2 do
    if changes[i + 1] == '' then
      deletions[#deletions + 1] = changes[i]
    end
  end
  if #deletions > 0 then
    redis.call('HDEL', queue, ':rc') -- dry run, see prelude.lua
  end
  if name and not exists(dead_letters) then
    create(dead_letters, queues, name)
  end
  if #changes > 0 then
    redis.call('HSET', queue, 'modified', time[1], unpack(changes))
  end
  if #deletions > 0 then
    redis.call('HDEL', queue, unpack(deletions))
  end
end
