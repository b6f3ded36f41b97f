"""What a type checker knows of the integration with FastAPI; read by pyright in strict mode, never
run."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, assert_type

from aiorsmq import AsyncRSMQ, Message, PydanticCodec, Queue, Worker
from aiorsmq.integrations.fastapi import (
    Client,
    ServerShutdown,
    attach,
    get_service,
    health_routes,
)
from aiorsmq.integrations.service import Service
from aiorsmq.integrations.shutdown import Shutdown
from fastapi import Depends, FastAPI, WebSocket
from pydantic import BaseModel


class Order(BaseModel):
    item: str


def get_orders(rsmq: Client) -> Queue[Order]:
    return rsmq.queue("orders", codec=PydanticCodec(Order))


Orders = Annotated[Queue[Order], Depends(get_orders)]


async def fulfil(message: Message[Order]) -> None:
    assert_type(message.body, Order)


async def fulfil_other(message: Message[int]) -> None: ...


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with AsyncRSMQ.from_url("redis://h") as rsmq:
        get_orders(rsmq).worker(fulfil_other)  # pyright: ignore[reportArgumentType]
        async with attach(app, rsmq, get_orders(rsmq).worker(fulfil), name="a") as service:
            assert_type(service, Service)
            assert_type(service.rsmq, AsyncRSMQ)
            assert_type(service.workers, tuple[Worker[Any], ...])
            yield


app = FastAPI(lifespan=lifespan)
app.router.routes.extend(health_routes())


@app.post("/orders")
async def post_order(order: Order, orders: Orders, rsmq: Client, shutdown: ServerShutdown) -> str:
    assert_type(orders, Queue[Order])
    assert_type(rsmq, AsyncRSMQ)
    assert_type(shutdown, Shutdown)
    async for message in shutdown.stream(orders.messages()):
        assert_type(message, Message[Order])
    await orders.send(1)  # pyright: ignore[reportArgumentType]
    return await orders.send(order)


@app.websocket("/orders")
async def follow_orders(websocket: WebSocket, orders: Orders) -> None:
    assert_type(orders, Queue[Order])
    assert_type(get_service(websocket, "a"), Service)
    async for message in orders.messages():
        assert_type(message.body, Order)
