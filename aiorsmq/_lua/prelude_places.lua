-- Inserted after prelude.lua in scripts that go through a queue in several calls.

-- Whether a member comes before another one of the same score. Not `<`: that asks the locale.
local function is_before(id, other_id)
  for i = 1, math.min(#id, #other_id) do
    local difference = string.byte(id, i) - string.byte(other_id, i)
    if difference ~= 0 then
      return difference < 0
    end
  end
  return #id < #other_id
end

-- The rank behind a place in the order of score and id, even if its message is gone or has moved.
local function rank_behind(messages, score, id)
  local current_score = redis.call('ZSCORE', messages, id)
  if current_score and tonumber(current_score) == tonumber(score) then
    return redis.call('ZRANK', messages, id) + 1
  end
  local low = redis.call('ZCOUNT', messages, '-inf', '(' .. score)
  local high = redis.call('ZCOUNT', messages, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = redis.call('ZRANGE', messages, middle, middle)[1]
    if is_before(member, id) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end
