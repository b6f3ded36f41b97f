-- Lists all queues.
-- KEYS     queues (SET)
-- ARGV     none
-- Returns  {s, us, qname...}
local reply = time
for _, qname in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  reply[#reply + 1] = qname
end
return reply
