"""Each shortcut for speed does what the long way does: both run on the same table."""

import asyncio
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import aiorsmq
import hiredis
import pytest
from aiorsmq import ClientClosed, InvalidParameterValue, QueueDoesNotExist, WrongEventLoop
from aiorsmq._commands.receive import _new_record
from aiorsmq._consuming.waiter import Mailbox, Waiter
from aiorsmq._protocol import check_seconds
from aiorsmq._record import Record
from aiorsmq._server.clock import Clock
from aiorsmq._server.futures import resolve, wait_until_done
from aiorsmq._server.home import Home
from aiorsmq._server.wire import Bounds, _has_long_array, _long_arrays, pack
from redis.connection import PythonRespSerializer

from support import wait_until

SHORTCUTS = {
    "_commands/receive.py": 1,  # test_record
    "_consuming/line.py": 3,  # test_take_one, test_join_one (and what it asks first)
    "_consuming/waiter.py": 1,  # test_serve
    "_protocol.py": 1,  # test_whole_seconds
    "_server/batch.py": 1,  # test_result_of_an_item
    "_server/clock.py": 1,  # test_now_ms
    "_server/futures.py": 1,  # test_wait_until_done
    "_server/home.py": 1,  # test_admit
    "_server/listener.py": 1,  # the only way; what it bought is noted there
    "_server/wire.py": 3,  # test_pack, test_long_arrays, test_plain_reads
    "_working/leases.py": 1,  # tests/worker/test_leases.py: one claim, and claims of several leases
    "_json.py": 2,  # tests/test_codecs.py: infinite numbers; depth with and without backslashes
    "stream.py": 1,  # tests/test_stream.py: served in the order of the line, and in another
}
"""How often the marker stands in each file, and the test of each pair."""


def test_each_shortcut_has_a_test():
    """A shortcut carries the marker `# hot path:`, and is in the table above."""
    package = Path(aiorsmq.__file__).parent
    found = Counter()
    for path in package.rglob("*.py"):
        if number := len(re.findall(r"\bhot path:", path.read_text())):
            found[str(path.relative_to(package))] = number
    assert found == SHORTCUTS


RECORD = Record(b"id", b"body", b"1", b"2", b"3", b"4")


def test_record():
    """A record made of a tuple is a record."""
    made = _new_record(tuple(RECORD))
    assert made == RECORD
    assert type(made) is Record


@pytest.mark.parametrize("case", ["a message", "no message", "no queue", "cancelled"])
async def test_take_one(rsmq, queue, case):
    """`take_one()` and `take(1, 0)` return the same, raise the same, and leave the same line."""
    outcomes = []
    for _ in range(2):
        line = rsmq.queue("missing" if case == "no queue" else "jobs")._core.receiving(30)
        if case == "a message":
            await queue.send("x")
        for take in (line.take_one, lambda line=line: line.take(1, 0)):
            taking = asyncio.ensure_future(take())
            if case == "cancelled":
                await asyncio.sleep(0)
                taking.cancel()
            (outcome,) = await asyncio.gather(taking, return_exceptions=True)
            if isinstance(outcome, list):
                outcome = outcome[0] if outcome else None
            if isinstance(outcome, Record):
                assert await queue._core.settler.change_visibility(outcome, 0)
                outcome = outcome.raw
            await wait_until(lambda line=line: not line._claimed_for)
            outcomes.append((type(outcome), str(outcome), len(line._line)))
    expected = {"a message": bytes, "no message": type(None), "no queue": QueueDoesNotExist}
    assert {kind for kind, _, _ in outcomes} == {expected.get(case, asyncio.CancelledError)}
    assert len(set(outcomes)) == 1


@pytest.mark.parametrize("patient", [True, False])
async def test_join_one(queue, patient):
    """`join_one()` puts the same waiter into the line as `join(1)`, and plans the same look."""
    states = []
    for join in (
        lambda line: line.join_one(patient=patient),
        lambda line: line.join(1, patient=patient)[0],
    ):
        line = queue._core.receiving(None)
        waiter = join(line)
        state = {name: getattr(waiter, name) for name in Waiter.__slots__ if name != "until"}
        states.append((state, waiter.until == float("inf"), line._look_planned, len(line._line)))
        line.leave((waiter,))
        await wait_until(lambda line=line: not line._look_planned)
    assert states[0] == states[1]


@pytest.mark.parametrize("readers", [0, 1, 2])
async def test_serve(readers):
    """A waiter that is served is in its mailbox, and wakes one reader, as one that is delivered."""
    loop = asyncio.get_running_loop()
    woken = []
    for deliver in (
        lambda waiter, _: waiter.serve(RECORD),
        lambda waiter, box: box.deliver(waiter),
    ):
        mailbox = Mailbox()
        waiter = Waiter(loop, True, mailbox)
        mailbox.readers.extend(loop.create_future() for _ in range(readers))
        futures = list(mailbox.readers)
        deliver(waiter, mailbox)
        assert list(mailbox.delivered) == [waiter]
        woken.append([future.done() for future in futures])
    assert woken[0] == woken[1]


@pytest.mark.parametrize("value", [0, 1, 30, 9_999_999, -1, 10_000_000])
def test_whole_seconds(value):
    """Whole seconds are checked as fractions and timedeltas are."""
    outcomes = []
    for kind in (int, float, lambda value: timedelta(seconds=value)):
        try:
            outcomes.append(check_seconds("vt", kind(value)))
        except InvalidParameterValue as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.parametrize("outcome", [True, False, "id", ValueError("x")], ids=repr)
@pytest.mark.parametrize("state", ["waits", "cancelled", "expired"])
async def test_result_of_an_item(queue, outcome, state):
    """A batch resolves the future of each item as `resolve` does, whatever its caller has done."""
    futures = []

    def commit(items, on_results, _until):
        on_results([outcome] * len(items))

    batch = queue._core.sender._batch
    batch._commit = commit
    for submit in (batch.submit, lambda _: asyncio.get_running_loop().create_future()):
        future = submit((b"x", None))
        if state == "cancelled":
            future.cancel()
        elif state == "expired":
            resolve(future, TimeoutError("late"))
        futures.append(future)
    resolve(futures[1], outcome)
    await wait_until(lambda: not batch._waiting)
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert repr(results[0]) == repr(results[1])


def test_now_ms():
    """Both forms of the server's time tell the same."""
    clock = Clock()
    before = clock.now_us()
    now_ms = clock.now_ms()
    assert before <= now_ms * 1000 <= clock.now_us()


async def test_wait_until_done():
    """It waits as `asyncio.wait` does: a result, an error or a cancellation of the future ends it,
    and cancelling the waiting leaves the future alone.
    """
    loop = asyncio.get_running_loop()
    for wait in (wait_until_done, lambda future: asyncio.wait([future])):
        for end in (
            lambda future: future.set_result(1),
            lambda future: future.set_exception(ValueError()),
            lambda future: future.cancel(),
        ):
            future = loop.create_future()
            loop.call_soon(end, future)
            await wait(future)
            assert future.done()
            assert future.cancelled() or future.exception() or future.result() == 1
        future = loop.create_future()
        waiting = asyncio.ensure_future(wait(future))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert not future.done()


def test_admit():
    """`admit()` returns and raises what `loop()` does, and turns everybody away once closing."""
    home = Home()

    async def loops():
        return home.admit(), home.loop(), asyncio.get_running_loop()

    async def refuse(call, error):
        with pytest.raises(error):
            call()

    with asyncio.Runner() as runner:
        assert len(set(runner.run(loops()))) == 1
        for call in (home.admit, home.loop):
            asyncio.run(refuse(call, WrongEventLoop))
        home.closing = True
        runner.run(refuse(home.admit, ClientClosed))


@pytest.mark.parametrize(
    "command",
    [("PING",), ("SET", "k", b"\r\n\0\xff"), ("DEL", *["k"] * 100), ("X", "\u20ac", 5, -1, 2**40)],
    ids=lambda command: command[0],
)
def test_pack(command):
    """A command is packed as redis-py packs it, but for its own splitting into pieces."""
    slow = PythonRespSerializer(
        2**30, lambda value: str(value).encode() if not isinstance(value, bytes) else value
    )
    assert pack(command) == b"".join(slow.pack(*command))


ARRAYS = [
    b"*99999\r\n",
    b"*9999\r\n",
    b"~12345\r\n",
    b">12345\r\n",
    b"|12345\r\n",
    b"x*12345",
    b"+ok\r\n",
]


@pytest.mark.parametrize("first", ARRAYS)
@pytest.mark.parametrize("second", ARRAYS)
def test_long_arrays(first, second):
    """The quick looks find a long array just where the one expression for all does."""
    data = first + second
    assert bool(_has_long_array(data)) == bool(list(_long_arrays(data)))


@pytest.mark.parametrize("reply", [b"+OK\r\n", b"*2\r\n$1\r\na\r\n:1\r\n", b"$5\r\n*1\r\n:\r\n"])
@pytest.mark.parametrize("number", [1, 3])
def test_plain_reads(reply, number):
    """A read that is fed whole gives the replies that it gives in pieces."""
    replies = []
    for in_pieces in (False, True):
        reader = hiredis.Reader()
        pieces = Bounds(reader).pieces(reply * number) if in_pieces else [reply * number]
        got = []
        for piece in pieces:
            reader.feed(piece)
            while (one := reader.gets()) is not False:
                got.append(one)
        replies.append(got)
    assert len(replies[0]) == number
    assert replies[0] == replies[1]
