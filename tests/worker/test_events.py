"""What a worker tells of its messages: events, and records in the log, with the same facts."""

import asyncio
import logging
from typing import get_args

import pytest
from aiorsmq import JSON, EventKind, Reject, Retry

from support import at_once, fields_in, wait_until


def records_of(caplog):
    return [record for record in caplog.records if record.name == "aiorsmq.worker"]


@pytest.fixture(autouse=True)
def log_level(caplog):
    caplog.set_level(logging.INFO, "aiorsmq")


def test_kinds_are_words():
    """Kinds can be labels of a metric."""
    assert all(kind.isidentifier() for kind in get_args(EventKind))


async def test_success(queue):
    """An event has the message, how old it is, and how long its handler ran."""
    events = []

    async def handler(message):
        await asyncio.sleep(0.05)

    id = await queue.send("s3cret", delay=0.3)
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    received, succeeded = events
    assert (received.kind, received.duration) == ("received", None)
    assert (succeeded.kind, succeeded.reason) == ("succeeded", "")
    for event in events:
        message = event.message
        assert (message.id, message.body, message.queue) == (id, "s3cret", "jobs")
        assert "s3cret" not in repr(event)
    assert received.age >= 0.3  # the server's clock is this machine's
    assert succeeded.age > received.age
    assert succeeded.duration > 0.04


async def test_foreign_id(server, queue):
    """What another library sent without a time in the id has no age."""
    events = []
    id = "-" * 32
    server.redis.hset("rsmq:jobs:Q", id, "x")
    server.redis.zadd("rsmq:jobs", {id: 1})
    async with queue.worker(print, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [event.age for event in events] == [None, None]


async def test_last_attempt_fails(with_dead_letters, caplog):
    """A failed attempt is one record, with the traceback, and says what follows; so is the last."""
    queue, _ = with_dead_letters
    events = []

    async def handler(message):
        raise ValueError("broken")

    id = await queue.send("s3cret")
    async with queue.worker(handler, backoff=lambda _: 0.2, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    assert [(event.kind, event.receive_count, event.delay) for event in events] == [
        ("received", 1, None),
        ("failed", 1, None),
        ("retried", 1, 0.2),
        ("received", 2, None),
        ("failed", 2, None),
        ("dead", 2, None),
    ]
    for event in events:
        has_ended = event.kind != "received"
        assert event.reason == "ValueError: broken" * has_ended
        assert (event.duration is not None) == has_ended
        assert (event.error is not None) == (event.kind == "failed")
    first, last = records_of(caplog)
    assert first.getMessage() == (
        f"message {id} of queue 'jobs', attempt 1: failed, redelivered in 0.2 seconds"
    )
    assert last.getMessage() == (
        f"message {id} of queue 'jobs', attempt 2: failed, moved to dead-letter queue 'dead'"
    )
    for attempt, record in enumerate((first, last), 1):
        assert record.levelname == "ERROR"
        assert record.exc_info[0] is ValueError
        fields = fields_in(record)
        assert fields.pop("seconds") >= 0
        assert fields == {
            "queue": "jobs",
            "id": id,
            "attempt": attempt,
            "reason": "ValueError: broken",
        }
    assert [record for record in caplog.records if record not in (first, last)] == []


async def fail(message):
    raise ValueError


async def reject(message):
    raise Reject("no such customer")


async def retry(message):
    if message.receive_count == 1:
        raise Retry(0.1) from KeyError("busy")


async def retry_for_no_reason(message):
    if message.receive_count == 1:
        raise Retry(0)


async def release(message):
    if message.receive_count == 1:
        await message.release()


def give_up(message, error):
    return Reject("given up")


DEAD = "moved to dead-letter queue 'dead'"
ONE_RECORD = {
    "reject": (reject, {}, "WARNING", f"{DEAD}: no such customer", "no such customer"),
    "on-error-rejects": (
        fail,
        {"on_error": give_up},
        "ERROR",
        f"failed, {DEAD}: given up",
        "given up",
    ),
    "retry": (retry, {}, "INFO", "redelivered in 0.1 seconds", "KeyError: 'busy'"),
    "retry-for-no-reason": (retry_for_no_reason, {}, "INFO", "redelivered in 0.0 seconds", None),
    "release": (release, {}, "INFO", "redelivered in 0.0 seconds", None),
}


@pytest.mark.parametrize(
    ("handler", "options", "level", "text", "reason"), ONE_RECORD.values(), ids=ONE_RECORD
)
async def test_one_record(with_dead_letters, caplog, handler, options, level, text, reason):
    """Each attempt that does not succeed is one record."""
    queue, _ = with_dead_letters
    id = await queue.send("x")
    async with queue.worker(handler, backoff=at_once, **options) as worker:
        await wait_until(lambda: worker.stats.dead + worker.stats.succeeded == 1)
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage() == f"message {id} of queue 'jobs', attempt 1: {text}"
    assert fields_in(record).get("reason") == reason
    assert (record.exc_info is not None) == (level == "ERROR")


async def test_lease_lost(queue, server, caplog):
    """So is a failed one whose message is gone."""
    events = []

    async def handler(message):
        server.redis.delete("rsmq:jobs", "rsmq:jobs:Q")
        raise ValueError

    id = await queue.send("x")
    async with queue.worker(handler, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.lost_leases == 1)
    assert [event.kind for event in events] == ["received", "failed", "lease_lost"]
    (record,) = [record for record in records_of(caplog) if record.levelno > logging.WARNING]
    assert record.getMessage() == f"message {id} of queue 'jobs', attempt 1: failed, lease lost"


async def test_cannot_be_settled(own_server, rsmq, caplog):
    """So is a failed one whose outcome the server does not learn; no event follows."""
    events = []
    server = own_server()
    async with type(rsmq).from_url(server.url, deadline=1) as client:
        queue = client.queue("jobs")
        await queue.create()

        async def handler(message):
            server.kill()
            raise ValueError

        id = await queue.send("x")
        async with queue.worker(handler, on_event=events.append) as worker:
            await wait_until(lambda: worker.stats.failed and not worker.stats.in_flight)
    assert [event.kind for event in events] == ["received", "failed"]
    (record,) = [record for record in records_of(caplog) if record.levelname == "ERROR"]
    assert record.getMessage().startswith(
        f"message {id} of queue 'jobs', attempt 1: failed, could not be settled; it will be "
        "redelivered when its lease expires: "
    )
    assert record.exc_info[0] is ValueError


async def test_death_without_a_handler(rsmq, caplog):
    """What no handler got, because it cannot be decoded, has neither message nor duration; the
    queue logs it, and not the worker.
    """
    events = []
    queue = rsmq.queue("jobs", codec=JSON)
    await queue.create(dead_letter_queue="dead", max_receives=5)
    id = await queue.send(b"{no json")
    async with queue.worker(print, on_event=events.append) as worker:
        await wait_until(lambda: worker.stats.dead == 1)
    (event,) = events
    assert (event.kind, event.id, event.message, event.duration) == ("dead", id, None, None)
    assert event.age >= 0
    (record,) = caplog.records
    assert record.name == "aiorsmq.queue"
    assert fields_in(record) == {
        "queue": "jobs",
        "id": id,
        "attempt": 1,
        "reason": event.reason,
    }


async def test_log_at_debug(queue, caplog):
    """At DEBUG each message is told of as it comes and goes."""
    caplog.set_level(logging.DEBUG, "aiorsmq")
    id = await queue.send("x")
    async with queue.worker(print) as worker:
        await wait_until(lambda: worker.stats.succeeded == 1)
    assert [(record.getMessage(), record.levelname) for record in records_of(caplog)] == [
        (f"message {id} of queue 'jobs', attempt 1: received", "DEBUG"),
        (f"message {id} of queue 'jobs', attempt 1: succeeded", "DEBUG"),
    ]
    received, succeeded = map(fields_in, records_of(caplog))
    assert received == {"queue": "jobs", "id": id, "attempt": 1}
    assert succeeded.pop("seconds") >= 0
    assert succeeded == received
