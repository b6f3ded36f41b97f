"""RSMQ for asyncio: SQS-like message queues on Redis or Valkey, delivered in realtime.

    import asyncio
    from aiorsmq import AsyncRSMQ

    async def main():
        async with AsyncRSMQ.from_url("redis://localhost:6379") as rsmq:
            jobs = rsmq.queue("jobs")
            await jobs.ensure(vt=30)  # creates it, or changes its settings
            await jobs.send("hello")
            async for message in jobs.messages():
                async with message:  # deleted at the end of the block; visible again if it raises
                    print(message.body)

    asyncio.run(main())

The documentation is at https://aiorsmq.github.io/aiorsmq/

Start with `AsyncRSMQ`, the client. `AsyncRSMQ.queue` makes a `Queue`, which sends and receives;
`Queue.messages` gives each `Message` in turn, and `Queue.worker` makes a `Worker`, which calls a
function of yours with each. Times are seconds, or `timedelta`s. All errors are subclasses of
`RedisSMQException`, except redis-py's for a server that cannot be reached.

Further modules:

- aiorsmq.sync: the same API without `await`
- aiorsmq.integrations: fastapi, starlette, aiohttp and django; `service` is for other frameworks
- aiorsmq.testing: a real server, and time that can be advanced, for tests; a pytest plugin
- aiorsmq.pyrsmq: PyRSMQ's API, awaitable
- aiorsmq.doctor: finds what is wrong with queues and their server

`python -m aiorsmq` is the command line.

Loggers, all below "aiorsmq":

- aiorsmq.client: the connection, the listener, the server's clock
- aiorsmq.queue: claims, dead letters, settings that differ, messages that were replaced
- aiorsmq.stream: deletes of streams with prefetch
- aiorsmq.worker: what becomes of each message, one record an attempt; the worker's own troubles
- aiorsmq.work: start and end of the program `aiorsmq work`
- aiorsmq.pyrsmq: PyRSMQ's API
- aiorsmq.startup.channel, aiorsmq.startup.embedded, aiorsmq.startup.eviction,
  aiorsmq.startup.persistence, aiorsmq.startup.sentinel, aiorsmq.startup.tls: warnings about the
  server and the way to it, one logger for each to silence it

Records about a message or a queue have these attributes, by `extra=`, as far as they apply:
queue, id, attempt (the receive count), reason, seconds (for which the handler ran, or which the
text is about). No record has a body or a password in it, but the traceback of a handler's error is
the handler's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import names_of

if TYPE_CHECKING:
    from ._public import *  # noqa: F403
    from ._public import __version__ as __version__
else:
    # pytest imports the package in each run on a machine where it is installed, for the plugin in
    # `testing`. That must cost next to nothing, so the names come with the first use of one.
    __getattr__, __dir__ = names_of("aiorsmq._public")
