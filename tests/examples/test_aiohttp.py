"""An aiohttp app with `setup`, in the process of the test: what no signal is needed for."""

import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiorsmq import QueueDoesNotExist
from aiorsmq.integrations.aiohttp import RSMQ, health_routes, setup

from support import PATIENCE, wait_until


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    async for message in request.app[RSMQ].queue("jobs").messages():
        await response.write(message.body.encode())
    return response


async def test_streams_end_without_a_signal(server):
    """Streams end when the app is shut down, also if no signal did it, and before aiohttp waits for
    them.
    """
    app = web.Application()
    app.add_routes([web.get("/", stream)])
    setup(app, server.url)
    async with TestClient(TestServer(app)) as client:
        queue = app[RSMQ].queue("jobs")
        await queue.ensure(vt=30)
        await queue.send("hello")
        reply = await client.get("/")
        assert await reply.content.readany() == b"hello"
        with anyio.fail_after(PATIENCE):  # less than aiohttp's patience
            await client.server.runner.cleanup()
        assert await reply.content.read() == b""


async def test_options(server):
    """The options are the client's."""
    app = web.Application()
    setup(app, server.url, ns="own")
    async with TestClient(TestServer(app)):
        await app[RSMQ].queue("jobs").ensure()
    assert server.redis.exists("own:jobs:Q")


async def test_probes(server):
    """The app lives, and is ready while its worker can claim."""
    app = web.Application()
    app.add_routes(health_routes())

    async def start(app):
        queue = app[RSMQ].queue("jobs")
        await queue.ensure(vt=30)
        return [queue.worker(print)]

    setup(app, server.url, start)
    async with TestClient(TestServer(app)) as client:

        async def answer(*expected):
            statuses = [(await client.get(path)).status for path in ("/livez", "/readyz")]
            return statuses == list(expected)

        await wait_until(lambda: answer(200, 200))
        await app[RSMQ].queue("jobs").delete()
        await wait_until(lambda: answer(200, 503))
        await app[RSMQ].queue("jobs").ensure()
        await wait_until(lambda: answer(200, 200))


async def test_an_app_that_cannot_start(server):
    """What `start` raises comes out, and the client is closed."""
    app = web.Application()

    async def start(app):
        await app[RSMQ].queue("jobs").attributes()

    setup(app, server.url, start)
    runner = web.AppRunner(app)
    with pytest.raises(QueueDoesNotExist):
        await runner.setup()
    await runner.cleanup()
    assert server.clients() == 0
