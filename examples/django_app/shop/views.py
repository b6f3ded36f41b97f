"""The pages: sync and async ones, which work under ASGI, WSGI and `runserver`."""

from collections.abc import AsyncIterator

from aiorsmq import JSON
from aiorsmq.integrations.django import arsmq, rsmq
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path

from .models import Order

orders = rsmq.queue("django-orders", codec=JSON)


def post_order(request: HttpRequest) -> HttpResponseBase:
    with transaction.atomic():
        order = Order.objects.create(text=request.POST["text"])
        # Not before the commit: the worker may be faster than the transaction.
        transaction.on_commit(lambda: orders.send({"id": order.id}))
    return JsonResponse({"id": order.id}, status=202)


async def post_order_async(request: HttpRequest) -> HttpResponseBase:
    order = await Order.objects.acreate(text=request.POST["text"])
    await arsmq().queue("django-orders", codec=JSON).send({"id": order.id})
    return JsonResponse({"id": order.id}, status=202)


def get_order(_request: HttpRequest, id: int) -> HttpResponseBase:
    order = Order.objects.filter(id=id).values().first()
    return JsonResponse(order or {}, status=200 if order else 404)


async def events(_request: HttpRequest) -> HttpResponseBase:
    """What is done, as server-sent events; under ASGI only. Each message goes to one reader."""

    async def stream() -> AsyncIterator[str]:
        async for message in arsmq().queue("django-news").messages():
            async with message:
                yield f"data: {message.body}\n\n"

    return StreamingHttpResponse(stream(), content_type="text/event-stream")


urlpatterns = [
    path("orders", post_order),
    path("async-orders", post_order_async),
    path("orders/<int:id>", get_order),
    path("events", events),
]
