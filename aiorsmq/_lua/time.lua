-- Tells the server's time, as all scripts do, to a caller who asks for nothing else.
-- KEYS     none
-- ARGV     none
-- Returns  {s, us, s, us}
return {time[1], time[2], time[1], time[2]}
