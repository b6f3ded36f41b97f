"""A handler fails: its message is retried or dies, with a reason, and is counted once."""

import asyncio

import anyio
import pytest
from aiorsmq import JSON, Reject, Retry, exponential

from support import at_once, wait_until


async def test_backoff(queue):
    """A failed message is redelivered after `backoff`, which is called with its receive count."""
    counts = []

    def backoff(receive_count):
        counts.append(receive_count)
        return 0.05

    async def handler(message):
        if message.receive_count < 4:
            raise ValueError

    await queue.send("x")
    async with queue.worker(handler, backoff=backoff) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert counts == [1, 2, 3]
    assert (worker.stats.failed, worker.stats.retried) == (3, 3)


def test_exponential():
    """The usual backoff doubles, has a cap, and is cut at random by up to a half."""
    backoff = exponential(first=2, longest=10)
    for receive_count, longest in ((1, 2), (2, 4), (3, 8), (4, 10), (10**9, 10)):
        delays = [backoff(receive_count) for _ in range(200)]
        assert longest / 2 <= min(delays) < longest * 0.6
        assert longest * 0.9 < max(delays) <= longest


async def test_retry(queue):
    """`Retry` is no failure, and says when the message is redelivered; without a delay the backoff
    does.
    """
    events = []

    async def handler(message):
        if message.receive_count == 1:
            raise Retry(delay=0.1)
        if message.receive_count == 2:
            raise Retry

    await queue.send("x")
    async with queue.worker(
        handler, backoff=lambda receive_count: 0.2, on_event=events.append
    ) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [event.delay for event in events if event.kind == "retried"] == [0.1, 0.2]
    assert worker.stats.failed == 0


async def test_reject_without_a_dead_letter_queue(queue, caplog):
    """`Reject` without a dead-letter queue is logged, and the message is redelivered."""

    async def handler(message):
        if message.receive_count == 1:
            raise Reject("hopeless")

    await queue.send("x")
    async with queue.worker(handler, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert "has no dead-letter queue" in caplog.text
    assert worker.stats.retried == 1


async def test_reject(with_dead_letters):
    """`Reject` moves the message to the dead-letter queue at once, with its reason."""
    queue, dead = with_dead_letters
    events = []

    async def handler(message):
        raise Reject("no such customer")

    id = await queue.send("x")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    (letter,) = await dead.reasons()
    assert (letter.id, letter.reason, letter.receive_count) == (id, "no such customer", 1)
    assert [(event.kind, event.reason) for event in events] == [
        ("received", ""),
        ("dead", "no such customer"),
    ]
    assert worker.stats.failed == 0


async def test_last_attempt_fails(with_dead_letters):
    """What fails for the `max_receives`th time dies at once, of its exception."""
    queue, dead = with_dead_letters

    async def handler(message):
        raise ValueError("broken")

    await queue.send("x")
    async with queue.worker(handler, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    (letter,) = await dead.reasons()
    assert (letter.reason, letter.receive_count, letter.queue) == (
        "ValueError: broken",
        2,
        "jobs",
    )
    assert (worker.stats.failed, worker.stats.retried) == (2, 1)


async def test_death_at_a_claim(with_dead_letters):
    """What has killed its consumers too often never reaches a handler, and is counted as dead."""
    queue, dead = with_dead_letters
    events, bodies = [], []

    async def handler(message):
        bodies.append(message.body)

    await queue.send("kills")
    for _ in range(2):  # two that received it and were never heard of again
        await (await queue.receive()).release()
    await queue.send("good")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: (worker.stats.dead, worker.stats.succeeded) == (1, 1))
    assert bodies == ["good"]
    assert "dead" in [event.kind for event in events]
    assert [letter.raw for letter in await dead.reasons()] == [b"kills"]


async def test_dead_because_nobody_can_read_it(rsmq, with_dead_letters):
    """What the codec cannot decode dies at once."""
    queue, dead = with_dead_letters
    await queue.send("no JSON")
    async with rsmq.queue("jobs", codec=JSON).worker(print) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    (letter,) = await dead.reasons()
    assert "JsonCodec" in letter.reason


async def test_on_error(queue):
    """`on_error` may turn an exception into a Retry; if it fails itself, the backoff decides."""
    seen = []

    def on_error(message, error):
        seen.append(type(error))
        if isinstance(error, KeyError):
            return Retry(0)
        raise RuntimeError

    async def handler(message):
        if message.receive_count == 1:
            raise KeyError
        if message.receive_count == 2:
            raise ValueError

    await queue.send("x")
    async with queue.worker(handler, on_error=on_error, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert seen == [KeyError, ValueError]
    assert (worker.stats.failed, worker.stats.retried) == (2, 2)


class Strange(BaseException):
    """As other languages' panics, or pytest's own failures."""


@pytest.mark.parametrize("error", [Strange("x"), BaseExceptionGroup("two", [Strange(), Strange()])])
async def test_any_exception(with_dead_letters, error):
    """An error that is no Exception is a failed attempt as well: the handler's place is free again,
    its message is redelivered.
    """
    queue, _ = with_dead_letters

    async def handler(message):
        if message.body == "x":
            raise error

    await queue.send_many(["x", "y"])
    async with queue.worker(handler, concurrency=1, backoff=at_once) as worker:
        await wait_until(lambda: (worker.stats.dead, worker.stats.succeeded) == (1, 1))
    assert (worker.stats.failed, worker.stats.retried, worker.stats.in_flight) == (2, 1, 0)


async def test_exception_without_words(with_dead_letters):
    """An exception that cannot be told is a reason all the same."""
    queue, dead = with_dead_letters

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    async def handler(message):
        raise Mute

    await queue.send("x")
    async with queue.worker(handler, backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert [letter.reason for letter in await dead.reasons()] == ["Mute"]


async def test_group_of_one(with_dead_letters):
    """A Reject that comes out of a task group is a Reject."""
    queue, dead = with_dead_letters

    async def reject():
        raise Reject("in a group")

    async def handler(message):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reject)

    await queue.send("x")
    async with queue.worker(handler) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert [letter.reason for letter in await dead.reasons()] == ["in a group"]


@pytest.mark.parametrize(
    ("say", "reasons"),
    [
        (lambda: Reject(ValueError("no text")), {"no text"}),
        (ValueError, {"ValueError"}),
        (lambda: Retry(0), {"retried too often"}),
        (lambda: Retry(0, "still no answer"), {"still no answer"}),
    ],
)
async def test_reasons(with_dead_letters, say, reasons):
    """The reason of a death is what the handler has said."""
    queue, dead = with_dead_letters

    async def handler(message):
        raise say()

    await queue.send("x")
    async with queue.worker(handler) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert {letter.reason for letter in await dead.reasons()} == reasons


async def test_reason_of_a_retry_is_its_cause(with_dead_letters):
    """If a Retry is raised from an exception, that is what the message has died of."""
    queue, dead = with_dead_letters

    async def handler(message):
        raise Retry(0) from KeyError("the real reason")

    await queue.send("x")
    async with queue.worker(handler) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert [letter.reason for letter in await dead.reasons()] == ["KeyError: 'the real reason'"]


@pytest.mark.parametrize("option", ["backoff", "on_event"])
async def test_callbacks_that_fail(queue, option, caplog):
    """A callback that fails, or returns something senseless, is logged, and the message is
    redelivered all the same.
    """
    bad = {
        "backoff": lambda receive_count: "soon",
        "on_event": lambda event: (_ for _ in ()).throw(asyncio.CancelledError),
    }

    async def handler(message):
        if message.receive_count == 1:
            raise ValueError

    await queue.send("x")
    async with queue.worker(handler, **{"backoff": at_once} | {option: bad[option]}) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert f"{option} failed for message" in caplog.text


async def test_on_error_returns_a_class(with_dead_letters):
    """`on_error` may return Reject itself."""
    queue, _ = with_dead_letters

    async def handler(message):
        raise ValueError

    await queue.send("x")
    async with queue.worker(handler, on_error=lambda message, error: Reject) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert worker.stats.retried == 0


async def test_function_that_returns_a_generator(with_dead_letters):
    """A plain function that returns a generator has done nothing: its attempt has failed."""
    queue, _ = with_dead_letters
    await queue.send("x")
    async with queue.worker(lambda message: (n for n in ()), backoff=at_once) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert worker.stats.failed == 2


async def test_deaths_are_counted_once(with_dead_letters):
    """Of two workers in one program, one counts what a claim has found dead."""
    queue, _ = with_dead_letters
    await queue.send("x")
    for _ in range(2):
        await (await queue.receive()).release()
    async with queue.worker(print) as one, queue.worker(print) as other:
        await wait_until(lambda: one.stats.dead + other.stats.dead == 1)
        await queue.send("y")
        await wait_until(lambda: one.stats.succeeded + other.stats.succeeded == 1)
        assert one.stats.dead + other.stats.dead == 1
