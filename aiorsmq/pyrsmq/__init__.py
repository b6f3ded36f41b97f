"""PyRSMQ's API, awaitable: a program that uses PyRSMQ ports by adding `await`.

A thin layer over AsyncRSMQ. examples/migrating-from-pyrsmq.md has before and after, and every
deliberate difference.
"""

from ..errors import (
    InvalidParameterValue,
    MessageTooLong,
    NoMessageInQueue,
    QueueAlreadyExists,
    QueueDoesNotExist,
    RedisSMQException,
)
from ._commands import Attributes, Command, Parameters, ReceivedMessage
from ._consumer import RedisSMQConsumer
from ._controller import RedisSMQ

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
