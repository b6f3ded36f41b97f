"""The example of a queue in several namespaces, on a single server."""

import sys

import pytest

from examples.program import EXAMPLES, Program

OUTPUT = [
    "rsmq:{orders-0}: an order of ann",
    "rsmq:{orders-0}: an order of eve",
    "rsmq:{orders-1}: an order of cat",
    "rsmq:{orders-2}: an order of ben",
    "rsmq:{orders-2}: an order of dan",
    "rsmq:{orders-2}: an order of fay",
]


@pytest.fixture(scope="module")
def anyio_backend():
    """The event loop is the example's own."""
    return "asyncio", {"debug": True}


@pytest.mark.parametrize("with_own_server", [False, True], ids=["embedded", "redis_url"])
async def test_partitions(server, with_own_server):
    """Each key has its partition, one worker works on all of them, and nothing is left behind."""
    server.redis.config_set("save", "3600 1000000")  # else the program would warn
    url = server.url if with_own_server else None
    program = Program(sys.executable, EXAMPLES / "partitions.py", redis_url=url)
    try:
        assert await program.ended() == 0, program.output
        assert sorted(program.output.splitlines()) == OUTPUT
        assert program.left_behind() == []
        assert server.redis.keys() == []
        assert (server.script_calls() > 0) == with_own_server
    finally:
        program.close()
