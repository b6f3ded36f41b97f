-- Inserted after prelude.lua in scripts that store messages under ids that the client has minted.

-- Whether the time in the ids is not the server's.
local function is_off(us)
  local age = time[1] * 1000000 + time[2] - us
  return age < -100000 or age > 1000000
end
