"""Sending: stored in one script call, in order, announced once."""

import pytest

from aiorsmq import MessageTooLong


async def test_a_send_is_one_script_call(server, queue):
    """A send is one script call."""
    await queue.send("warm up: load the script")
    server.reset_stats()
    await queue.send("hello")
    assert server.script_calls() == 1


async def test_too_long(queue):
    with pytest.raises(MessageTooLong) as caught:
        await queue.send("x" * 65537)
    assert (caught.value.qname, caught.value.size, caught.value.maxsize) == ("jobs", 65537, 65536)
