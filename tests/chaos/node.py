"""What Node rsmq 0.12.4 sends to the server, by redis-py: another port on the same queue."""

RECEIVE = """
local msg = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", KEYS[2], "LIMIT", "0", "1")
if #msg == 0 then
  return {}
end
redis.call("ZADD", KEYS[1], KEYS[3], msg[1])
redis.call("HINCRBY", KEYS[1] .. ":Q", "totalrecv", 1)
local mbody = redis.call("HGET", KEYS[1] .. ":Q", msg[1])
local rc = redis.call("HINCRBY", KEYS[1] .. ":Q", msg[1] .. ":rc", 1)
local o = {msg[1], mbody, rc}
if rc == 1 then
  redis.call("HSET", KEYS[1] .. ":Q", msg[1] .. ":fr", KEYS[2])
  table.insert(o, KEYS[2])
else
  local fr = redis.call("HGET", KEYS[1] .. ":Q", msg[1] .. ":fr")
  table.insert(o, fr)
end
return o
"""
POP = """
local msg = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", KEYS[2], "LIMIT", "0", "1")
if #msg == 0 then
  return {}
end
redis.call("HINCRBY", KEYS[1] .. ":Q", "totalrecv", 1)
local mbody = redis.call("HGET", KEYS[1] .. ":Q", msg[1])
local rc = redis.call("HINCRBY", KEYS[1] .. ":Q", msg[1] .. ":rc", 1)
local o = {msg[1], mbody, rc}
redis.call("ZREM", KEYS[1], msg[1])
redis.call("HDEL", KEYS[1] .. ":Q", msg[1], msg[1] .. ":rc", msg[1] .. ":fr")
return o
"""
CHANGE_VISIBILITY = """
local msg = redis.call("ZSCORE", KEYS[1], KEYS[2])
if not msg then
  return 0
end
redis.call("ZADD", KEYS[1], KEYS[3], KEYS[2])
return 1
"""


class Node:
    """Each verb takes the server's time in ms, as Node asks for it before each. It announces."""

    def __init__(self, site, qname):
        self.site = site
        self.qname = qname
        self.messages, self.queue = site.key(qname), site.key(f"{qname}:Q")

    @property
    def redis(self):
        return self.site.redis

    def create(self, now, vt, delay, maxsize):
        created = self.redis.hsetnx(self.queue, "vt", vt)
        if created:
            times = {"created": now // 1000, "modified": now // 1000}
            for name, value in ({"delay": delay, "maxsize": maxsize} | times).items():
                self.redis.hsetnx(self.queue, name, value)
            self.redis.sadd(self.site.key("QUEUES"), self.qname)
        return bool(created)

    def delete_queue(self):
        with self.redis.pipeline() as all_or_none:
            all_or_none.delete(self.queue, self.messages).srem(
                self.site.key("QUEUES"), self.qname
            ).execute()

    def set_vt(self, now, vt):
        self.redis.hset(self.queue, mapping={"modified": now // 1000, "vt": vt})

    def send(self, now, id, body, delay_ms):
        with self.redis.pipeline() as all_or_none:
            all_or_none.zadd(self.messages, {id: now + delay_ms}).hset(self.queue, id, body)
            all_or_none.hincrby(self.queue, "totalsent", 1).zcard(self.messages)
            *_, count = all_or_none.execute(raise_on_error=False)
        self.redis.publish(self.site.key(f"rt:{self.qname}"), count)

    def receive(self, now, vt_ms):
        return self.redis.eval(RECEIVE, 3, self.messages, now, now + vt_ms)

    def pop(self, now):
        return self.redis.eval(POP, 2, self.messages, now)

    def change_visibility(self, now, id, vt_ms):
        return self.redis.eval(CHANGE_VISIBILITY, 3, self.messages, id, now + vt_ms) == 1

    def delete(self, id):
        with self.redis.pipeline() as all_or_none:
            removed, fields = (
                all_or_none.zrem(self.messages, id)
                .hdel(self.queue, id, id + b":rc", id + b":fr")
                .execute()
            )
        return removed == 1 and fields > 0
