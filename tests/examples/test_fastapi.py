"""A client and its workers in a FastAPI app, and in a plain Starlette app."""

import asyncio
import contextlib
import json
import re
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import httpx
import pytest
from aiorsmq import AsyncRSMQ, PydanticCodec, Queue
from aiorsmq.integrations.fastapi import (
    Client,
    attach,
    get_rsmq,
    get_service,
    health_routes,
)
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from examples.program import EXAMPLES, Program, talking_to
from support import make_it_theirs, wait_until

FOLDER = Path(__file__).parent


class Order(BaseModel):
    n: int


def get_orders(rsmq: Client) -> Queue[Order]:
    return rsmq.queue("orders", codec=PydanticCodec(Order))


Orders = Annotated[Queue[Order], Depends(get_orders)]

router = APIRouter()


@router.post("/orders")
async def post_order(order: Order, orders: Orders) -> str:
    return await orders.send(order)


@router.get("/orders")
async def list_orders(orders: Orders) -> list[Order]:
    return [message.body for message in await orders.peek()]


@router.websocket("/orders")
async def follow_orders(websocket: WebSocket, orders: Orders) -> None:
    await websocket.accept()
    async for message in orders.messages():
        async with message:
            await websocket.send_text(str(message.body.n))


def get_second(connection: HTTPConnection) -> AsyncRSMQ:
    return get_service(connection, "second").rsmq


@router.get("/clients")
async def list_clients(
    rsmq: Client, second: Annotated[AsyncRSMQ, Depends(get_second)]
) -> list[str]:
    return [repr(rsmq), repr(second)]


def make_app(url: str) -> FastAPI:
    """A factory, as `uvicorn --factory` calls it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncRSMQ.from_url(url) as rsmq:
            await get_orders(rsmq).create(exist_ok=True)
            async with attach(app, rsmq):
                yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    app.router.routes.extend(health_routes())
    return app


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio", {"debug": True}


@pytest.fixture
def url(running_server):
    running_server.redis.flushall()
    running_server.redis.config_set("save", "3600 1000000")
    return running_server.url


class TestRoutes:
    def test_http_and_websocket(self, url):
        """A route gets the typed queue, over HTTP and over a WebSocket."""
        with TestClient(make_app(url)) as http:
            assert http.post("/orders", json={"n": 1}).status_code == 200
            assert http.get("/orders").json() == [{"n": 1}]
            with http.websocket_connect("/orders") as websocket:
                assert websocket.receive_text() == "1"
            assert http.get("/orders").json() == []

    def test_a_second_time(self, url):
        """The same app can be started again, with a new client."""
        app = make_app(url)
        for n in range(2):
            with TestClient(app) as http:
                assert http.post("/orders", json={"n": n}).status_code == 200
        with TestClient(app) as http:
            assert http.get("/orders").json() == [{"n": 0}, {"n": 1}]

    def test_without_its_lifespan(self, url):
        """Without its lifespan, a route raises one line with what to write; and so after it."""
        app = make_app(url)
        with TestClient(app):
            pass
        with pytest.raises(
            RuntimeError, match=r"no service 'aiorsmq': .* `with TestClient\(app\)`"
        ):
            TestClient(app).get("/orders")
        with pytest.raises(RuntimeError, match="no service 'aiorsmq'"):
            TestClient(FastAPI(routes=health_routes())).get("/readyz")

    def test_a_mounted_app(self, url):
        """An app that is mounted in another finds its client if it shares its state."""
        app = make_app(url)
        mounted = FastAPI()
        mounted.include_router(router)
        app.mount("/api", mounted)
        advice = re.escape("mounted.state = app.state")
        with TestClient(app) as http, pytest.raises(RuntimeError, match=advice):
            http.post("/api/orders", json={"n": 1})
        mounted.state = app.state
        with TestClient(app) as http:
            assert http.post("/api/orders", json={"n": 1}).status_code == 200
            assert http.get("/orders").json() == [{"n": 1}]

    def test_two_clients(self, url):
        """Two clients in one app, by name, each with its lifespan in the other's."""

        @contextlib.asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
            async with (
                AsyncRSMQ.from_url(url) as rsmq,
                AsyncRSMQ.from_url(url, ns="second") as second,
                attach(app, rsmq),
                attach(app, second, name="second"),
            ):
                yield

        app = FastAPI(lifespan=lifespan)
        app.include_router(router)
        with TestClient(app) as http:
            first, second = http.get("/clients").json()
        assert first.startswith("<AsyncRSMQ 'rsmq'")
        assert second.startswith("<AsyncRSMQ 'second'")

    async def test_same_name(self, url):
        """A second client of the same name would take the place of the first: it is refused."""
        app = Starlette()
        async with AsyncRSMQ.from_url(url) as rsmq, attach(app, rsmq) as service:
            with pytest.raises(RuntimeError, match=r'write attach\(app, rsmq, name="second"\)'):
                async with attach(app, rsmq):
                    pass
            assert app.state.aiorsmq is service
        assert not hasattr(app.state, "aiorsmq")

    def test_overridden(self, url):
        """FastAPI's own way to replace a dependency in tests works."""
        app = make_app(url)
        other = AsyncRSMQ.from_url(url, ns="other")
        app.dependency_overrides[get_rsmq] = lambda: other
        app.dependency_overrides[get_second] = lambda: other
        assert TestClient(app).get("/clients").json() == [repr(other)] * 2

    async def test_without_a_server(self, url):
        """httpx's transport works with the lifespan entered by hand, in one event loop."""
        app = make_app(url)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as http,
        ):
            assert (await http.post("/orders", json={"n": 1})).status_code == 200
            assert (await http.get("/orders")).json() == [{"n": 1}]

    def test_starlette(self, url):
        """Without FastAPI, a route asks for the client itself."""

        async def post_order(request: Request) -> PlainTextResponse:
            orders = get_orders(get_rsmq(request))
            return PlainTextResponse(await orders.send(Order(n=1)))

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncGenerator[None]:
            async with AsyncRSMQ.from_url(url) as rsmq, attach(app, rsmq):
                await get_orders(rsmq).create()
                yield

        routes = [Route("/orders", post_order, methods=["POST"]), *health_routes()]
        with TestClient(Starlette(routes=routes, lifespan=lifespan)) as http:
            assert len(http.post("/orders").text) == 32
            assert http.get("/readyz").text == "ready"


class TestHealth:
    def test_answers(self, url):
        """Alive at any time; ready until the shutdown begins. Neither is in the API's schema."""
        app = make_app(url)
        with TestClient(app) as http:
            assert (http.get("/livez").status_code, http.get("/livez").text) == (200, "alive")
            assert (http.get("/readyz").status_code, http.get("/readyz").text) == (200, "ready")
            app.state.aiorsmq.shutdown._beginning.set()
            assert http.get("/livez").status_code == 200
            answer = http.get("/readyz")
            assert (answer.status_code, answer.text) == (503, "the program is stopping")
        assert not {"/livez", "/readyz"} & set(app.openapi()["paths"])


@pytest.fixture
def start(server, url):
    with contextlib.ExitStack() as programs:

        def start(*command, **options):
            options = {"cwd": FOLDER, "redis_url": url, **options}
            program = Program(sys.executable, "-m", "uvicorn", "--port", "0", *command, **options)
            return programs.enter_context(contextlib.closing(program))

        yield start


async def answers(http, path, status):
    with contextlib.suppress(httpx.TransportError):
        return (await http.get(path)).status_code == status


class TestUvicorn:
    async def test_an_outage(self, start, own_server):
        """While the queues' server is away the app is alive and not ready; then ready again, and
        its worker works.
        """
        server = own_server("--appendonly", "yes", "--appendfsync", "always")
        app = start("streaming_app:app", redis_url=server.url)
        async with talking_to(app) as http:
            await wait_until(lambda: answers(http, "/readyz", 200))
            server.kill()
            await wait_until(lambda: answers(http, "/readyz", 503))
            assert (await http.get("/livez")).status_code == 200
            server.start()
            await wait_until(lambda: answers(http, "/readyz", 200))
            app.process.terminate()
            await app.ended()
        assert "Traceback" not in app.output

    @pytest.mark.foreign_data
    async def test_a_worker_that_dies(self, start, server):
        """A worker that dies stops the server, with its tabs open, and the log says why."""
        app = start("streaming_app:app")
        async with talking_to(app) as http:
            await wait_until(lambda: answers(http, "/readyz", 200))
            async with http.stream("GET", "/sse", timeout=None) as reply:
                lines = reply.aiter_lines()
                assert await anext(lines) == ": connected"
                make_it_theirs(server, "jobs")
                with anyio.fail_after(20):
                    assert [line async for line in lines if line] == []
        assert await app.ended() == -signal.SIGTERM
        assert "the worker has stopped: WRONGTYPE" in app.output
        assert "Application shutdown failed" in app.output

    async def test_a_reload_with_a_job_running(self, start, server, tmp_path):
        """With `--reload`, the job in hand is done by the old process, once; the new process serves
        on.
        """
        shutil.copy(FOLDER / "streaming_app.py", tmp_path)
        app = start("streaming_app:app", "--reload", cwd=tmp_path)
        async with talking_to(app) as http, AsyncRSMQ.from_url(server.url) as rsmq:
            await wait_until(lambda: answers(http, "/readyz", 200))
            jobs = rsmq.queue("jobs")
            await jobs.send("2")
            await wait_until(lambda: server.redis.hget("rsmq:jobs:Q", "totalrecv") == b"1")
            (tmp_path / "streaming_app.py").touch()
            await wait_until(lambda: "Reloading" in app.output)
            await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)
            await wait_until(lambda: app.output.count("Application startup complete") == 2)
            await wait_until(lambda: answers(http, "/readyz", 200))
            assert (await jobs.attributes()).totalrecv == 1
            await jobs.send("0")
            await wait_until(lambda: server.redis.zcard("rsmq:jobs") == 0)
        app.process.terminate()
        assert await app.ended() == 0
        assert "Traceback" not in app.output


class TestExample:
    """`examples/fastapi_app.py` as production runs it; the tests of all examples run it alone."""

    async def test_needs_a_server(self, start):
        """Where it may have several processes, it does not start without REDIS_URL, and says so."""
        app = start("fastapi_app:app", cwd=EXAMPLES, redis_url=None)
        assert await app.ended() != 0
        assert "KeyError: 'REDIS_URL'" in app.output

    async def test_stopped_under_load(self, start, server):
        """Stopped while jobs come in and a page is open, it loses none: each was received once and
        done, or is in the queue as it was sent.
        """
        app = start("fastapi_app:app", cwd=EXAMPLES)
        accepted = set()
        done = 0

        async def post_jobs(http):
            with contextlib.suppress(httpx.TransportError):
                while True:
                    reply = await http.post("/jobs", json={"text": "x"})
                    assert reply.status_code == 202
                    accepted.add(reply.json()["id"])

        async with talking_to(app) as http:
            await wait_until(lambda: answers(http, "/readyz", 200))
            async with (
                asyncio.TaskGroup() as group,
                http.stream("GET", "/events", timeout=None) as reply,
            ):
                for _ in range(10):
                    group.create_task(post_jobs(http))
                async for line in reply.aiter_lines():
                    job = json.loads(line.removeprefix("data: ")) if line else {}
                    done += job.get("state") == "done"
                    if done == 50:
                        app.process.terminate()
        assert await app.ended() == -signal.SIGTERM
        assert "Traceback" not in app.output
        async with AsyncRSMQ.from_url(server.url) as rsmq:
            jobs = rsmq.queue("fastapi-jobs")
            attributes = await jobs.attributes()
            left = await jobs.peek(1000)
            assert (await rsmq.queue("fastapi-dead").attributes()).totalsent == 0
        assert [message.receive_count for message in left] == [0] * len(left)
        assert attributes.hiddenmsgs == 0
        assert attributes.totalsent - attributes.totalrecv == len(left)
        assert attributes.totalsent >= len(accepted) >= 50

    async def test_a_body_that_is_no_job(self, start, server):
        """What another program sends and is no job goes to the dead-letter queue, with the reason;
        the other jobs are done.
        """
        app = start("fastapi_app:app", cwd=EXAMPLES)
        async with talking_to(app) as http, AsyncRSMQ.from_url(server.url) as rsmq:
            await wait_until(lambda: answers(http, "/readyz", 200))
            bad = await rsmq.queue("fastapi-jobs").send('{"no text": "in this one"}')
            dead = rsmq.queue("fastapi-dead")
            await wait_until(lambda: server.redis.zcard("rsmq:fastapi-dead"))
            (letter,) = await dead.reasons()
            assert letter.id == bad
            assert "cannot be decoded" in letter.reason
            reply = await http.post("/jobs", json={"text": "a good one"})
            await wait_until(lambda: is_done(http, reply.json()["id"]))
        app.process.terminate()
        await app.ended()


async def is_done(http, id):
    return (await http.get(f"/jobs/{id}")).json()["state"] == "done"
