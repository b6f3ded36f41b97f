"""An app whose responses never end by themselves: server-sent events and WebSockets."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from aiorsmq import AsyncRSMQ, Message, PydanticCodec, Queue
from aiorsmq.integrations.fastapi import Client, ServerShutdown, attach, health_routes
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


class Order(BaseModel):
    n: int


def get_orders(rsmq: Client) -> Queue[Order]:
    return rsmq.queue("orders", codec=PydanticCodec(Order))


Orders = Annotated[Queue[Order], Depends(get_orders)]


async def work(message: Message[str]) -> None:
    await asyncio.sleep(float(message.body))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with AsyncRSMQ.from_url(os.environ["REDIS_URL"]) as rsmq:
        await get_orders(rsmq).create(vt=3600, exist_ok=True)
        await rsmq.queue("jobs").create(vt=3600, exist_ok=True)
        async with attach(app, rsmq, rsmq.queue("jobs").worker(work)):
            yield


app = FastAPI(lifespan=lifespan)
app.router.routes.extend(health_routes())


@app.post("/orders")
async def post_order(order: Order, orders: Orders) -> str:
    return await orders.send(order)


@app.get("/sse")
async def sse(orders: Orders) -> StreamingResponse:
    async def stream() -> AsyncGenerator[str]:
        yield ": connected\n\n"
        async for message in orders.messages(prefetch=2):
            async with message:
                yield f"data: {message.body.n}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.websocket("/ws")
async def ws(websocket: WebSocket, orders: Orders) -> None:
    await websocket.accept()
    async for message in orders.messages(prefetch=2):
        async with message:
            await websocket.send_text(str(message.body.n))
    await websocket.close(1001)  # "going away"


@app.get("/ticks")
async def ticks(shutdown: ServerShutdown) -> StreamingResponse:
    async def count() -> AsyncGenerator[str]:
        yield ": connected\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(shutdown.stream(count()), media_type="text/event-stream")
