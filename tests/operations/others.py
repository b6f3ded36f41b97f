"""What other programs store in a queue."""

from support import now_ms

NODE_ID = "fo0bar1q2w" + "Zz9" * 7 + "A"
"""As Node and PyRSMQ make them; of the year 2020."""


def base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits


def id_of(us: int, suffix: str = "") -> str:
    """The id of a message that was sent then."""
    return base36(us).rjust(10, "0") + suffix.ljust(22, "x")


def send(server, body: str | bytes, *, id=None, age=0.0, score=None, qname="jobs") -> str:
    """As Node and PyRSMQ send; `age` is for how many seconds it has been there."""
    ms = now_ms(server)
    id = id or id_of(round((ms / 1000 - age) * 1_000_000))
    with server.redis.pipeline() as pipeline:
        pipeline.zadd(f"rsmq:{qname}", {id: ms if score is None else score})
        pipeline.hset(f"rsmq:{qname}:Q", id, body)
        pipeline.hincrby(f"rsmq:{qname}:Q", "totalsent", 1)
        pipeline.execute()
    return id if isinstance(id, str) else id.decode(errors="surrogateescape")


def sent_bytes(server) -> int:
    """What the server has sent to clients."""
    return server.redis.info("stats")["total_net_output_bytes"]
