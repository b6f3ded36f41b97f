"""What the worker does."""

from typing import Any

from aiorsmq import Message
from aiorsmq.integrations.django import rsmq

from .models import Order

news = rsmq.queue("django-news")


def prepare(message: Message[dict[str, Any]]) -> None:
    """Prepare one order. The message is redelivered if this raises: so it may be done twice."""
    Order.objects.filter(id=message.body["id"]).update(state="done")
    news.send(f"{message.body['id']} is done")
