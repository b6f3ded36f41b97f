"""PyRSMQ's API with coroutines: port a PyRSMQ program by adding `await`.

A thin layer over AsyncRSMQ. Start with `RedisSMQ`.
https://aiorsmq.github.io/aiorsmq/how-to/from-pyrsmq/ shows programs before and after, and lists
every deliberate difference.
"""

from __future__ import annotations

from ..errors import (
    InvalidParameterValue,
    MessageTooLong,
    NoMessageInQueue,
    QueueAlreadyExists,
    QueueDoesNotExist,
    RedisSMQException,
)
from .commands import Attributes, Command, Parameters, ReceivedMessage
from .consumer import RedisSMQConsumer
from .controller import RedisSMQ

__all__ = [
    "Attributes",
    "Command",
    "InvalidParameterValue",
    "MessageTooLong",
    "NoMessageInQueue",
    "Parameters",
    "QueueAlreadyExists",
    "QueueDoesNotExist",
    "ReceivedMessage",
    "RedisSMQ",
    "RedisSMQConsumer",
    "RedisSMQException",
]
