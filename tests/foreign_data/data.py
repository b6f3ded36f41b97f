"""What another program may have stored."""

from datetime import UTC, datetime

import anyio

from support import PATIENCE

FOREIGN_ID = "f" * 32


EARLY = 1_000_000_000_000  # ms: before anything that is sent here


NUMBERS = [
    b"abc",
    b"-5",
    b"3.7",
    b"1e300",
    b"-1e300",
    b"9" * 30,
    b"nan",
    b"-nan",
    b"inf",
    b"-inf",
    b"",
    b" 7 ",
    b"\xff",
]


def put(server, id=FOREIGN_ID, body="foreign", *, score=EARLY, **fields):
    """Another program stores a message; its fields are named without the id (rc, fr)."""
    prefix = id if isinstance(id, bytes) else id.encode()
    server.redis.zadd("rsmq:jobs", {id: score})
    if body is not None:
        server.redis.hset("rsmq:jobs:Q", id, body)
    for name, value in fields.items():
        server.redis.hset("rsmq:jobs:Q", prefix + b":" + name.encode(), value)


def set_attribute(server, name, value):
    if value is None:
        server.redis.hdel("rsmq:jobs:Q", name)
    else:
        server.redis.hset("rsmq:jobs:Q", name, value)


def score_of(server, id):
    return int(server.redis.zscore("rsmq:jobs", id))


def messages_left(server):
    """Members of the queue, and the fields that belong to messages."""
    attributes = {b"vt", b"delay", b"maxsize", b"created", b"modified", b"totalsent", b"totalrecv"}
    return server.redis.zcard("rsmq:jobs"), set(server.redis.hkeys("rsmq:jobs:Q")) - attributes


async def stream(queue, count, **options):
    """The first messages of a stream; it must not take long."""
    messages = []
    with anyio.fail_after(PATIENCE):
        async with queue.messages(**options) as received:
            while len(messages) < count:
                messages.append(await anext(received))
    return messages


def is_sensible(message):
    """Everything that a message says of itself can be read."""
    assert message.receive_count >= 0
    for time in (message.sent_at, message.first_received_at, message.visible_until):
        assert time is None or (isinstance(time, datetime) and time.tzinfo is UTC)
    assert isinstance(message.id, str)
    assert isinstance(repr(message), str)
