"""Errors call a parameter what the caller calls it: each parameter of each public method."""

import inspect
from inspect import Parameter, isawaitable

import aiorsmq
import pytest
from aiorsmq import (
    AsyncRSMQ,
    InvalidParameterValue,
    Message,
    MsgspecCodec,
    PydanticCodec,
    Queue,
    Retry,
    Worker,
    exponential,
    fsync,
    replicas,
)

from bad_input.calls import ANY_ID


def handler(message):
    """A worker's."""


BAD = object()
"""No parameter takes it, except for flags, which are true or false like anything."""

FLAGS = {
    *("exist_ok", "missing_ok", "create", "pop", "realtime", "signals"),
    *("repair", "dry_run", "keep_ids", "keep_times"),
}

NEEDED = {
    "qname": "jobs",
    "name": "jobs",
    "url": "redis://",
    "body": "x",
    "bodies": ["x"],
    "message": "x",
    "id": ANY_ID,
    "ids": [ANY_ID],
    "limit": 1,
    "lines": [b"{}"],
    "vt": 30,
    "handler": handler,
    "queues": ["jobs"],
    "type": int,
    "n": 1,
    "timeout": 1,
}
"""Good values of what must be given."""


def public_callables():
    for owner in (AsyncRSMQ, Queue, Message, Worker):
        for name, method in inspect.getmembers(owner, inspect.isroutine):
            if not name.startswith("_"):
                yield owner, name, method
    for function in (
        *(AsyncRSMQ, Retry, exponential, MsgspecCodec, PydanticCodec, replicas, fsync),
    ):
        yield None, function.__name__, function


def parameters_of(method):
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is not Parameter.VAR_KEYWORD:  # those are redis-py's
            yield name


CASES = [
    pytest.param(owner, name, parameter, id=f"{owner.__name__ if owner else ''}.{name}-{parameter}")
    for owner, name, method in public_callables()
    for parameter in parameters_of(method)
    if parameter != "self" and parameter not in FLAGS and (name, parameter) != ("Retry", "reason")
]


def needed_by(method):
    return {
        name: NEEDED[name]
        for name, parameter in inspect.signature(method).parameters.items()
        if (parameter.default is Parameter.empty and name in NEEDED) or name == "qname"
    }


async def owner_of(method, rsmq, queue):
    if method is AsyncRSMQ:
        return rsmq
    if method is Queue:
        return queue
    if method is Worker:
        return queue.worker(handler)
    await queue.send("x")
    return await queue.receive()


@pytest.mark.parametrize(("owner", "name", "parameter"), CASES)
async def test_parameter(rsmq, queue, owner, name, parameter):
    """A bad value is refused under the name that the signature has for it."""
    holder = aiorsmq if owner is None else await owner_of(owner, rsmq, queue)
    call = getattr(holder, name)
    with pytest.raises(InvalidParameterValue) as refused:
        result = call(**needed_by(call) | {parameter: BAD})
        if isawaitable(result):
            await result
    assert refused.value.parameter == parameter
    assert refused.value.value == ("..." if parameter == "url" else BAD)
