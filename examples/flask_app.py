"""Take orders over HTTP in Flask, and ship them in a worker, which is a process of its own.

It needs flask and pydantic, and a server, because it takes two processes:

    export REDIS_URL=redis://127.0.0.1:6379
    flask --app flask_app run      # or: gunicorn --preload -w 2 "flask_app:create_app()"
    flask --app flask_app work

Then: curl --json '{"item": "tea"}' http://127.0.0.1:5000/orders
"""

import os
import time
from typing import Any

from aiorsmq import PydanticCodec
from aiorsmq.sync import RSMQ, Message, Queue
from flask import Flask, request
from pydantic import BaseModel, Field, ValidationError


class Order(BaseModel):
    """What a message holds."""

    item: str = Field(min_length=1, max_length=100)


# It connects at the first call, also in the processes that gunicorn forks, and is closed when the
# program ends.
rsmq = RSMQ.from_url(os.environ["REDIS_URL"])
orders: Queue[Order] = rsmq.queue("flask-orders", codec=PydanticCodec(Order))


def ship(message: Message[Order]) -> None:
    """Do one order, in a thread of the worker.

    The message is deleted when this returns. It is redelivered when this raises, and after the
    queue's `vt` if the process is killed: an order is never lost, but it may be shipped twice.
    """
    time.sleep(0.01)  # instead of the work
    print(f"shipped {message.body.item}", flush=True)


def create_app() -> Flask:
    app = Flask(__name__)
    orders.ensure(vt=30, max_receives=5, dead_letter_queue="flask-dead-orders")

    @app.post("/orders")
    def post_order() -> tuple[dict[str, Any], int]:
        try:
            order = Order.model_validate_json(request.get_data())
        except ValidationError as error:
            return {"errors": [fault["msg"] for fault in error.errors()]}, 422
        # When this returns, the server has stored the message.
        return {"id": orders.send(order)}, 202

    @app.get("/orders")
    def count_orders() -> dict[str, int]:
        attributes = orders.attributes()
        return {"waiting": attributes.msgs - attributes.hiddenmsgs, "all": attributes.msgs}

    @app.cli.command("work")
    def work() -> None:
        """Ship orders until SIGTERM or Ctrl-C."""
        orders.worker(ship, concurrency=10, grace=20).run()

    return app
