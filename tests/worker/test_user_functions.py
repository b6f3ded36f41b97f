"""What user code returns or raises, whatever it is, ends as a counted, settled outcome, and the
worker goes on.
"""

import asyncio
import functools
import inspect
import logging
from contextlib import contextmanager
from datetime import timedelta

import pytest
from aiorsmq import InvalidParameterValue, Reject, Retry

from support import at_once, wait_until


class Strange(BaseException):
    """As other languages' panics, or pytest's own failures."""


class OwnRetry(Retry):
    def __init__(self):  # without super().__init__()
        pass


class OwnReject(Reject):
    def __init__(self):
        pass


class OddDelay(Retry):
    def __init__(self):
        super().__init__()
        self.delay = "soon"


class Hostile(Exception):
    """Looking at it raises."""

    def __str__(self):
        raise Strange

    __repr__ = __str__

    @property
    def __cause__(self):
        raise RuntimeError

    @property
    def __traceback__(self):
        raise RecursionError


class HostileReject(Reject):
    @property
    def __cause__(self):
        raise RuntimeError

    @property
    def reason(self):
        raise Strange

    @reason.setter
    def reason(self, _):
        pass


class HostileRetry(Retry):
    @property
    def delay(self):
        raise RuntimeError

    @delay.setter
    def delay(self, _):
        pass


class Masked(Exception):
    @property
    def __class__(self):
        raise RuntimeError


class Endless(BaseExceptionGroup):
    @property
    def exceptions(self):
        return (self,)


class ExitInWords(Exception):
    def __str__(self):
        raise asyncio.CancelledError


def circle():
    one, other = Reject("one"), Retry(0, "other")
    one.__cause__, other.__cause__ = other, one
    return one


def own_cause():
    own = Retry(0)
    own.__cause__ = own
    return own


def deep():
    error = ValueError("deepest")
    for _ in range(5000):
        error = ExceptionGroup("deeper", [error])
    return error


def raiser(error):
    """A function of any arguments that raises it."""

    def fail(*_):
        raise error() if callable(error) else error

    return fail


def giver(result):
    """A function of any arguments that returns it, or what it makes."""
    return lambda *_: result() if inspect.isfunction(result) else result


async def coroutine(*_):
    return 1.0


def generator(*_):
    yield


class AsyncCallable:
    async def __call__(self, *_):
        return 1.0


async def cancel_itself(message):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def cancel_itself_and_fail(message):
    asyncio.current_task().cancel()
    raise ValueError


async def cancel_itself_soon(message):
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
    raise Retry(0)


async def cancel_itself_and_release(message):
    if message.receive_count == 1:
        await message.release()
        asyncio.current_task().cancel()


async def return_a_coroutine(message):
    return coroutine()


@contextmanager
def quiet_logging():
    """What the standard library's handlers do with a record that they cannot format, outside of
    tests.
    """
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = before


async def check(queue, handler, **options):
    """Have a message "odd" handled, up to three times, and then another: all is counted, and
    nothing is left behind.

    Returns the worker's counts.
    """

    async def odd_or_not(message):
        if message.body == "odd":
            result = handler(message)
            return await result if asyncio.iscoroutinefunction(handler) else result
        return None

    await queue.send("odd")
    with quiet_logging():
        async with queue.worker(odd_or_not, **options) as worker:
            await wait_until(lambda: worker.stats.received and not worker.stats.in_flight)
            await wait_until(lambda: done(worker.stats))
            before = worker.stats.succeeded
            await queue.send("usual")
            await wait_until(lambda: worker.stats.succeeded == before + 1)
            assert worker.healthy
    stats = worker.stats
    assert (
        stats.received
        == stats.succeeded + stats.retried + stats.dead + stats.dropped + stats.lost_leases
    )
    assert stats.lost_leases == 0
    assert (await queue.attributes()).msgs == 0
    return stats


def done(stats):
    return stats.succeeded + stats.dead == 1


@pytest.fixture(autouse=True)
def no_caplog(caplog):
    """pytest's own handler fails a test whose records cannot be formatted; the logger is not to
    blame here.
    """
    caplog.handler.handleError = lambda record: None


@pytest.fixture
async def jobs(rsmq):
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=3, dead_letter_queue="dead")
    return queue


FAILURES = {
    "strange": raiser(Strange),
    "cancelled": raiser(asyncio.CancelledError),
    "generator-exit": raiser(GeneratorExit),
    "stop-iteration": raiser(StopIteration),
    "stop-async-iteration": raiser(StopAsyncIteration),
    "hostile": raiser(Hostile),
    "masked": raiser(Masked),
    "endless-group": raiser(lambda: Endless("x", [Strange()])),
    "deep-group": raiser(deep),
    "text-cancels": raiser(ExitInWords),
    "cancels-itself": cancel_itself,
    "cancels-itself-and-fails": cancel_itself_and_fail,
    "false": giver(False),
    "returns-an-exception": giver(ValueError("as a value")),
    "returns-a-retry": giver(lambda: Retry(0)),
    "returns-reject": giver(Reject),
    "returns-a-generator": generator,
    "returns-a-coroutine": return_a_coroutine,
    "returns-a-future": giver(lambda: asyncio.get_running_loop().create_future()),
}


@pytest.mark.parametrize("handler", FAILURES.values(), ids=FAILURES)
async def test_handler_fails(jobs, handler):
    """A handler fails, whatever it raises, and if what it returns cannot mean that the work is
    done: three attempts.
    """
    stats = await check(jobs, handler, backoff=at_once)
    assert (stats.retried, stats.dead) == (2, 1)


@pytest.mark.parametrize("error", [Strange, asyncio.CancelledError, StopIteration, Hostile, Masked])
async def test_handler_in_a_thread_fails(jobs, error):
    """So does a plain function in its thread."""

    def handler(message):
        raise error

    await jobs.send("odd")
    with quiet_logging():
        async with jobs.worker(handler, backoff=at_once) as worker:
            await wait_until(lambda: worker.stats.dead == 1)
    assert (worker.stats.received, worker.stats.retried, worker.stats.in_flight) == (3, 2, 0)


@pytest.mark.parametrize(
    "make",
    [OwnRetry, OddDelay, HostileRetry, own_cause, lambda: Retry(timedelta(0)), cancel_itself_soon],
)
async def test_retries(jobs, make):
    """Anything that is a Retry has the message redelivered, and is no failure."""
    handler = make if asyncio.iscoroutinefunction(make) else raiser(make)
    stats = await check(jobs, handler, backoff=at_once)
    assert (stats.failed, stats.retried, stats.dead) == (0, 2, 1)


@pytest.mark.parametrize("make", [OwnReject, HostileReject, circle])
async def test_rejects(rsmq, jobs, make):
    """Anything that is a Reject is followed at once, and has a reason."""
    stats = await check(jobs, raiser(make))
    assert (stats.failed, stats.retried, stats.dead) == (0, 0, 1)
    (letter,) = await rsmq.queue("dead").reasons()
    assert letter.reason


async def test_cancels_itself_after_a_release(jobs):
    """A handler that has released its message, and cancels its own task then, has had it
    retried.
    """
    stats = await check(jobs, cancel_itself_and_release, backoff=at_once)
    assert (stats.failed, stats.retried, stats.succeeded) == (0, 1, 2)


@pytest.mark.parametrize("result", [None, True, 0, "", [], "False", 0.0])
async def test_other_results(jobs, result):
    """What else a handler returns does not matter."""
    stats = await check(jobs, giver(result))
    assert (stats.succeeded, stats.received) == (2, 2)


async def test_false_says_what_to_do(jobs, caplog):
    """A handler that returns False, rsmq-worker's way to keep a message, is told how to do that
    here.
    """
    await check(jobs, giver(False), backoff=at_once)
    assert "the handler returned False: raise Retry to redeliver the message" in caplog.text


@pytest.mark.parametrize("settle", ["delete", "release"])
async def test_false_after_settling(jobs, settle):
    """If it has settled the message itself, that is what counts."""

    async def handler(message):
        if message.receive_count == 1:
            await getattr(message, settle)()
            return False
        return None

    stats = await check(jobs, handler, backoff=at_once)
    assert (stats.failed, stats.retried) == (0, 0 if settle == "delete" else 1)


NO_VERDICTS = {
    "strange": raiser(Strange),
    "cancelled": raiser(asyncio.CancelledError),
    "hostile": raiser(Hostile),
    "class-with-arguments": giver(UnicodeDecodeError),
    "retry-with-arguments": giver(type("Needs", (Retry,), {"__init__": lambda self, why: None})),
    "exception": giver(ValueError("as a value")),
    "true": giver(True),
    "text": giver("reject"),
    "coroutine": giver(coroutine),
    "generator": giver(generator),
    "masked": giver(Masked),
}


@pytest.mark.parametrize("on_error", NO_VERDICTS.values(), ids=NO_VERDICTS)
async def test_on_error(jobs, on_error, caplog):
    """`on_error` that fails, or returns what makes no sense, is logged; the attempt has failed as
    without it.
    """
    stats = await check(jobs, raiser(ValueError), on_error=on_error, backoff=at_once)
    assert (stats.failed, stats.retried, stats.dead) == (3, 2, 1)
    assert "on_error failed for message" in caplog.text


@pytest.mark.parametrize("verdict", [OwnReject, OwnReject(), Reject, circle])
async def test_verdict(jobs, verdict):
    """It may return any Retry or Reject, or its class."""
    stats = await check(jobs, raiser(ValueError), on_error=giver(verdict), backoff=at_once)
    assert (stats.failed, stats.retried, stats.dead) == (1, 0, 1)


BACKOFFS = {
    "nan": giver(float("nan")),
    "inf": giver(float("inf")),
    "negative": giver(-1),
    "text": giver("soon"),
    "none": giver(None),
    "bool": giver(True),
    "huge": giver(10**5000),
    "huge-float": giver(1e308),
    "complex": giver(1j),
    "coroutine": giver(coroutine),
    "generator": giver(generator),
    "strange": raiser(Strange),
    "cancelled": raiser(asyncio.CancelledError),
    "hostile": raiser(Hostile),
}


@pytest.mark.parametrize("backoff", BACKOFFS.values(), ids=BACKOFFS)
async def test_backoff(jobs, backoff, caplog):
    """A backoff that fails, or returns no seconds, is logged, and the usual one stands in for
    it.
    """
    delays = []

    def handler(message):
        if message.receive_count == 1:
            raise ValueError

    stats = await check(
        jobs, handler, backoff=backoff, on_event=lambda event: delays.append(event.delay)
    )
    assert (stats.failed, stats.retried, stats.succeeded) == (1, 1, 2)
    assert all(0.5 <= delay <= 1 for delay in delays if delay is not None)
    assert "backoff failed for message" in caplog.text


async def test_backoff_of_a_timedelta(jobs):
    """A backoff may return a timedelta."""
    stats = await check(jobs, raiser(ValueError), backoff=giver(timedelta(milliseconds=1)))
    assert (stats.retried, stats.dead) == (2, 1)


EVENTS = [
    raiser(Strange),
    raiser(asyncio.CancelledError),
    raiser(Hostile),
    raiser(GeneratorExit),
    giver(coroutine),
]


@pytest.mark.parametrize(
    "on_event", EVENTS, ids=["strange", "cancelled", "hostile", "generator-exit", "coroutine"]
)
async def test_on_event(jobs, on_event, caplog):
    """`on_event` that fails, or that nobody has awaited, is logged, and changes nothing."""
    stats = await check(jobs, raiser(ValueError), on_event=on_event, backoff=at_once)
    assert (stats.retried, stats.dead) == (2, 1)
    assert "on_event failed for message" in caplog.text


async def test_log_handler(jobs):
    """A handler of the log that fails does not matter either."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError

    broken = Broken()
    logging.getLogger("aiorsmq.worker").addHandler(broken)
    try:
        stats = await check(jobs, raiser(ValueError), backoff=at_once)
    finally:
        logging.getLogger("aiorsmq.worker").removeHandler(broken)
    assert (stats.failed, stats.retried, stats.dead) == (3, 2, 1)


class Decoding:
    def __init__(self, decode):
        self._decode = decode

    def encode(self, body):
        return body.encode()

    def decode(self, raw):
        return self._decode(raw) if raw == b"odd" else raw.decode()


CODECS = [raiser(Strange), raiser(asyncio.CancelledError), raiser(Hostile), giver(coroutine)]


@pytest.mark.parametrize("decode", CODECS, ids=["strange", "cancelled", "hostile", "coroutine"])
async def test_codec(rsmq, jobs, decode):
    """What a codec cannot decode, whatever it raises, or whose coroutine nobody awaits, is dead;
    the next is not.
    """
    queue = rsmq.queue("jobs", codec=Decoding(decode))
    await queue.send_many(["odd", "usual"])
    async with queue.worker(lambda message: None) as worker:
        await wait_until(lambda: (worker.stats.dead, worker.stats.succeeded) == (1, 1))
        assert worker.healthy
    assert (await queue.attributes()).msgs == 0


async def test_async_codec(rsmq):
    """A codec whose methods are coroutine functions is refused when it is given."""

    class Wrong(Decoding):
        async def decode(self, raw):
            return raw

    with pytest.raises(InvalidParameterValue, match="codec="):
        rsmq.queue("jobs", codec=Wrong(None))


LAZY = {
    "coroutine-function": coroutine,
    "async-callable": AsyncCallable(),
    "partial": functools.partial(coroutine, 1),
    "lambda": lambda *_: coroutine(),
    "async-partial": functools.partial(AsyncCallable()),
    "future": lambda *_: asyncio.get_running_loop().create_future(),
    "generator-function": generator,
    "generator": lambda *_: generator(),
}


@pytest.mark.parametrize("where", LAZY.values(), ids=LAZY)
async def test_where(server, jobs, rsmq, where):
    """A `where` that returns a coroutine, which is true whatever it would say, is refused before
    anything is moved.
    """
    dead = rsmq.queue("dead")
    await jobs.send_many(["a", "b"])
    records = [message._record for message in await jobs.receive_many(2)]
    await jobs._core.bury(records, "why")
    while (
        await dead.attributes()
    ).hiddenmsgs:  # a message that moves in the millisecond of its receipt is shown later
        pass
    with pytest.raises(InvalidParameterValue, match=r"where=.*must be a plain function"):
        async for _ in dead.redrive(where=where):
            pytest.fail("moved")
    assert server.redis.zcard("rsmq:dead") == 2


@pytest.mark.parametrize("option", ["backoff", "on_error", "on_event"])
@pytest.mark.parametrize(
    "lazy", ["coroutine-function", "async-callable", "partial", "generator-function"]
)
async def test_lazy_option(queue, option, lazy):
    """What can be seen to be asynchronous is refused when the worker is made."""
    with pytest.raises(InvalidParameterValue, match=f"{option}="):
        queue.worker(print, **{option: LAZY[lazy]})
