"""Handlers: what may be one, how they run, and what they may do themselves."""

import asyncio
import functools
import random
import threading
from unittest import mock

import pytest
from aiorsmq import JSON, InvalidParameterValue, Reject, Retry, exponential
from aiorsmq.testing import advance
from redis.exceptions import ResponseError

from support import PATIENCE, at_once, make_it_theirs, wait_until


async def test_success(queue):
    """A message whose handler returns is deleted."""
    bodies = []

    async def handler(message):
        bodies.append(message.body)

    await queue.send_many(["a", "b"])
    async with queue.worker(handler) as worker:
        await wait_until(lambda: worker.stats.succeeded == 2)
    assert bodies == ["a", "b"]
    assert (await queue.attributes()).msgs == 0


async def test_plain_function(queue):
    """Plain functions run in threads, up to `concurrency` at a time."""
    together = threading.Barrier(3)
    threads = set()

    def handler(message):
        threads.add(threading.get_ident())
        together.wait(PATIENCE)

    await queue.send_many(["a", "b", "c"])
    async with queue.worker(handler, concurrency=3) as worker:
        await wait_until(lambda: worker.stats.succeeded == 3)
    assert threading.get_ident() not in threads


async def test_concurrency(queue):
    """It claims for free handlers only: what it cannot start stays visible for others."""
    go_on = asyncio.Event()

    async def handler(message):
        await go_on.wait()

    await queue.send_many(["a", "b", "c", "d"])
    async with queue.worker(handler, concurrency=3) as worker:
        await wait_until(lambda: worker.stats.in_flight == 3)
        assert (await queue.attributes()).hiddenmsgs == 3
        other = await queue.receive()
        assert other.body == "d"
        await other.release()
        go_on.set()
        await wait_until(lambda: worker.stats.succeeded == 4)


async def test_threads_are_bounded(queue):
    """Threads that cannot be cancelled keep their places: there are never more than
    `concurrency`.
    """
    go_on = threading.Event()
    most = 0

    def handler(message):
        nonlocal most
        most = max(most, threading.active_count())
        go_on.wait()

    before = threading.active_count()
    await queue.send_many(["x"] * 10)
    async with queue.worker(handler, concurrency=2, timeout=0.02, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.failed > 10)
        go_on.set()
    assert most <= before + 2
    await queue.purge()


async def test_body_that_cannot_be_decoded(rsmq, queue):
    """A handler is not given what the codec cannot decode; the others go on."""
    bodies = []

    async def handler(message):
        bodies.append(message.body)

    await queue.send_many(["no JSON", "1", "2"])
    async with rsmq.queue("jobs", codec=JSON).worker(handler) as worker:
        await wait_until(lambda: worker.stats.succeeded == 2)
    assert bodies == [1, 2]
    assert (await queue.attributes()).hiddenmsgs == 1
    await queue.purge()


@pytest.mark.parametrize("fails", [False, True])
async def test_handler_settles_by_itself(queue, server, renew, fails):
    """A handler may delete or release its message itself; then the worker leaves it alone, and does
    not cancel it.
    """
    go_on = asyncio.Event()

    async def handler(message):
        if message.id == other:
            await go_on.wait()
            return
        if message.receive_count == 1:
            assert await message.release(0.05)
        else:
            assert await message.delete()
        before = server.redis.zscore("rsmq:jobs", other)
        renew(worker)
        await wait_until(lambda: server.redis.zscore("rsmq:jobs", other) > before)
        if fails:
            raise ValueError

    other = await queue.send("in hand too")
    await queue.send("x")
    async with queue.worker(handler, concurrency=2, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.received == 3 and worker.stats.in_flight == 1)
        go_on.set()
    assert worker.stats.lost_leases == 0
    assert worker.stats.failed == (2 if fails else 0)
    assert (await queue.attributes()).msgs == 0


async def test_release_by_the_handler(queue):
    """A message that its handler releases is one that is retried."""
    events = []

    async def handler(message):
        if message.receive_count == 1:
            assert await message.release(0.2)

    await queue.send("x")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [(event.kind, event.delay) for event in events[:2]] == [
        ("received", None),
        ("retried", 0.2),
    ]


async def test_message_as_context_manager(with_dead_letters):
    """`async with message` in a handler does not stand in the way of what it raises: that
    decides.
    """
    queue, _ = with_dead_letters
    attempts = []

    async def handler(message):
        attempts.append(message.body)
        async with message:
            if message.body == "reject":
                raise Reject("hopeless")
            if message.receive_count == 1:
                raise Retry(delay=60)

    await queue.send_many(["reject", "retry"])
    async with queue.worker(handler) as worker:
        await wait_until(lambda: (worker.stats.dead, worker.stats.retried) == (1, 1))
        await advance(queue, "1m")
        await wait_until(lambda: worker.stats.succeeded)
    assert sorted(attempts) == ["reject", "retry", "retry"]
    assert worker.stats.lost_leases == 0
    assert (await queue.attributes()).msgs == 0


async def test_what_is_no_handler(queue):
    """Generators, which nobody would run, and asynchronous callbacks, which nobody would await, are
    refused.
    """

    def generator(message):
        yield message

    async def generate(message):
        yield message

    async def callback(*_):
        pass

    for handler in (generator, generate, None):
        with pytest.raises(InvalidParameterValue, match="handler="):
            queue.worker(handler)
    for option in ("backoff", "on_error", "on_event"):
        with pytest.raises(InvalidParameterValue, match=f"{option}="):
            queue.worker(print, **{option: callback})


class Handling:
    """Handlers of all kinds; an object of it is one, too."""

    def __init__(self, *options):
        pass

    def __call__(self, message):
        pass

    async def method(self, message, retries=3):
        pass

    @staticmethod
    def static(message):
        pass

    @classmethod
    async def of_class(cls, message):
        pass


async def nothing():
    pass


async def two(message, database):
    pass


async def keyword(message, *, database):
    pass


class Annotated:
    """A handler whose annotations name what is imported for type checkers only, as `inspect` finds
    it in Python 3.14.
    """

    @property
    def __signature__(self):
        raise NameError("name 'Message' is not defined")

    def __call__(self, message):
        pass


GOOD_HANDLERS = {
    "defaults": lambda message, database=None, *, retries=3: None,
    "any": lambda *_, **__: None,
    "partial": functools.partial(two, database=None),
    "partial-first": functools.partial(lambda database, message: None, None),
    "method": Handling().method,
    "static": Handling.static,
    "of-class": Handling.of_class,
    "object": Handling(),
    "builtin": print,
    "builtin-without-signature": [].append,
    "type-without-signature": int,
    "mock": mock.AsyncMock(),
    "annotations-for-type-checkers": Annotated(),
}


@pytest.mark.parametrize("handler", GOOD_HANDLERS.values(), ids=GOOD_HANDLERS)
async def test_takes_a_message(queue, handler):
    """Whatever can be called with one message is a handler."""
    queue.worker(handler)


ONE = "must take 1 argument, as in `async def handler(message): ...`"
CALLED = "is the result of a call: pass the function itself, as in `worker(handler)`"
BAD_HANDLERS = {
    "no-argument": (lambda: nothing, ONE),
    "two-arguments": (lambda: two, ONE),
    "keyword": (lambda: keyword, ONE),
    "partial": (lambda: functools.partial(Handling().method, 1, 2), ONE),
    "coroutine": (nothing, CALLED),
    "class": (lambda: Handling, "must be an object of this class: `worker(Handling(...))`"),
    "class-without-argument": (lambda: type("Job", (), {"__init__": lambda self: None}), ONE),
    "text": (lambda: "handler", "must be a function: `async def handler(message): ...`"),
}


@pytest.mark.parametrize(("make", "reason"), BAD_HANDLERS.values(), ids=BAD_HANDLERS)
async def test_takes_no_message(queue, make, reason):
    """What cannot is refused when the worker is made, with the line to write."""
    with pytest.raises(InvalidParameterValue) as raised:
        queue.worker(make())
    assert (raised.value.parameter, raised.value.reason) == ("handler", reason)


OPTIONS = {
    "backoff": (
        [lambda n: 1, exponential(), exponential(longest=5), random.expovariate, float],
        [lambda: 1, lambda n, m: 1],
        "must take 1 argument, as in `def backoff(receive_count): ...`",
    ),
    "on_error": (
        [lambda message, error: None, print, lambda *_: None],
        [lambda message: None, lambda a, b, c: None],
        "must take 2 arguments, as in `def on_error(message, error): ...`",
    ),
    "on_event": (
        [[].append, print, lambda event, more=(): None],
        [lambda: None, lambda message, event: None],
        "must take 1 argument, as in `def on_event(event): ...`",
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
async def test_arguments_of_options(queue, option):
    """So are `backoff`, `on_error` and `on_event`."""
    good, bad, reason = OPTIONS[option]
    for function in good:
        queue.worker(print, **{option: function})
    for function in bad:
        with pytest.raises(InvalidParameterValue) as raised:
            queue.worker(print, **{option: function})
        assert (raised.value.parameter, raised.value.reason) == (option, reason)


async def test_backoff_that_is_not_called(queue):
    """`exponential`, which makes a backoff, is none."""
    with pytest.raises(InvalidParameterValue, match=r"backoff=.*must be called: exponential\(\)"):
        queue.worker(print, backoff=exponential)


async def test_events(queue):
    """Each event says which message of which queue it is about."""
    events = []

    async def handler(message):
        pass

    id = await queue.send("x")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [(event.kind, event.queue, event.id, event.receive_count) for event in events] == [
        ("received", "jobs", id, 1),
        ("succeeded", "jobs", id, 1),
    ]


async def test_event_callback_fails(queue, caplog):
    """An `on_event` that fails is logged, and keeps nothing from being done."""

    def on_event(event):
        raise RuntimeError("no")

    async def handler(message):
        pass

    await queue.send("x")
    async with queue.worker(handler, on_event=on_event) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert "on_event failed" in caplog.text


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"max_lease": -1}, "max_lease"),
        ({"vt": 0}, "vt"),
        ({"grace": "long"}, "grace"),
    ],
)
async def test_bad_options(queue, options, parameter):
    """An option that makes no sense is refused, by name."""

    async def handler(message):
        pass

    with pytest.raises(InvalidParameterValue) as raised:
        queue.worker(handler, **options)
    assert raised.value.parameter == parameter


async def test_bad_queues(rsmq, queue):
    """So are a handler that cannot be called, no queues, and a weight of nothing."""
    for queues, handler in (
        (["jobs"], "handler"),
        ([], print),
        ("jobs", print),
        ({"jobs": 0}, print),
    ):
        with pytest.raises(InvalidParameterValue):
            rsmq.worker(queues, handler)


async def test_again_after_a_failure(server, queue):
    """A worker that has ended, for whatever reason, works when it is run again; `stop()` in between
    says nothing.
    """
    worker = queue.worker(lambda message: None)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        async with worker:
            await wait_until(lambda: worker.healthy)
            make_it_theirs(server, "jobs")
            await wait_until(lambda: not worker.healthy)
    worker.stop()
    server.redis.delete("rsmq:jobs:Q")
    await queue.create()
    await queue.send("x")
    async with worker:
        await wait_until(lambda: worker.stats.succeeded == 1)


async def test_begun_twice_at_the_same_time(queue):
    """Of two runs that begin at the same moment, one is refused."""
    worker = queue.worker(print)
    running = [asyncio.create_task(worker.run()) for _ in range(2)]
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(RuntimeError, match="already running"):
        await done.pop()
    await wait_until(lambda: worker.healthy)
    worker.stop()
    await asyncio.wait(running)
