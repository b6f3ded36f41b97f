-- KEYS     queues (SET)
-- Returns  {s, us, qname...}
local reply = redis.call('TIME')
for _, qname in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  reply[#reply + 1] = qname
end
return reply
