"""What the server has stored and announced, byte for byte."""

from contextlib import contextmanager

import redis

from support import PATIENCE


def score(server, id, qname="jobs"):
    """The score as the server says it."""
    return server.redis.eval(
        "return redis.call('ZSCORE', KEYS[1], ARGV[1])", 1, f"rsmq:{qname}", id
    )


@contextmanager
def announcements(server, qname="jobs"):
    """Yields a function that returns the payloads announced so far."""
    channel = f"rsmq:rt:{qname}"
    with (
        redis.Redis(unix_socket_path=server.socket, protocol=2) as client,
        client.pubsub() as pubsub,
    ):
        pubsub.subscribe(channel)
        assert pubsub.get_message(timeout=PATIENCE)["type"] == "subscribe"

        def heard():
            server.redis.publish(channel, "that was all")
            payloads = []
            while (payload := pubsub.get_message(timeout=PATIENCE)["data"]) != b"that was all":
                payloads.append(payload)
            return payloads

        yield heard
