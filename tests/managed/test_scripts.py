"""A user without EVAL: the scripts are loaded by an administrator."""

import aiorsmq
import pytest
from aiorsmq import AsyncRSMQ, NotPermitted

from support import next_millisecond

RIGHTS = ("~*", "&*", "+@all", "-eval", "-script")


@pytest.fixture
def restricted(server):
    """The URL of a user that may not bring scripts along."""
    server.redis.script_flush()
    server.redis.execute_command("ACL", "SETUSER", "restricted", "reset", "on", ">p", *RIGHTS)
    server.redis.acl_log_reset()
    yield f"unix://restricted:p@{server.socket}"
    server.redis.acl_deluser("restricted")
    server.redis.acl_log_reset()


def load_scripts(server):
    """As an administrator does."""
    for source in aiorsmq.scripts().values():
        server.redis.script_load(source)


async def test_loaded(server, restricted):
    """With the scripts that `aiorsmq.scripts()` gives, it lacks nothing, on new connections too."""
    load_scripts(server)
    async with AsyncRSMQ.from_url(restricted) as rsmq:
        queue = rsmq.queue("jobs")
        await rsmq.queue("dead").create()
        await queue.ensure(max_receives=1, dead_letter_queue="dead")
        await queue.send_many(["a", "b", "c"])
        assert (await queue.pop()).body == "a"
        message = await queue.receive()
        assert await message.extend(60)
        assert await message.release()
        async for found in queue.messages():
            assert await found.delete()
            break
        await next_millisecond()
        assert await queue.receive() is None  # it moves to the dead letters
        server.redis.execute_command("CLIENT", "KILL", "USER", "restricted")
        assert await rsmq.list_queues() == {"jobs", "dead"}
        assert (await queue.attributes()).msgs == 0
        assert await rsmq.queue("dead").redrive() == 1
        await queue.purge()
        await queue.delete()
        await rsmq.queue("dead").delete()
    assert "eval" not in server.commands()
    assert server.redis.acl_log() == []


async def test_not_loaded(server, queue, restricted):
    """Without them, and after SCRIPT FLUSH or a restart, the error says who can help, and how."""
    async with AsyncRSMQ.from_url(restricted) as rsmq:
        sending = rsmq.queue("jobs").send
        for _ in range(2):
            server.redis.script_flush()
            with pytest.raises(NotPermitted, match=r"load aiorsmq\.scripts\(\)") as refused:
                await sending("x")
            assert refused.value.command == "EVAL"
            load_scripts(server)
            assert await sending("x")
    await queue.purge()


async def test_source_is_sent_once(server):
    """The source of a script is sent to a server that does not know it, and to no other."""
    server.redis.script_flush()
    server.reset_stats()
    for _ in range(3):
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            await rsmq.list_queues()
    assert server.commands()["eval"] == 1


async def test_all_scripts(server):
    """They are all there is, each whole: the server names them as the library calls them."""
    loaded = {name: server.redis.script_load(source) for name, source in aiorsmq.scripts().items()}
    assert {"send", "receive", "delete", "time"} <= loaded.keys()
    assert not [name for name in loaded if "prelude" in name]
    assert len({*loaded.values()}) == len(loaded)
