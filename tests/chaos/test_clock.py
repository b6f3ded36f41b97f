"""The server's clock jumps an hour back, and two hours forward; libfaketime (Debian's package
`faketime`) does that.
"""

import asyncio
import logging
import time
from pathlib import Path

import anyio
import pytest
from aiorsmq import AsyncRSMQ

from support import PATIENCE, wait_for_listener, wait_until

HOUR = 3600


@pytest.fixture
def skewed(own_server, monkeypatch, tmp_path):
    """A server, and a function that sets its clock so many seconds before or after the real one."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    offset = tmp_path / "offset"

    def set_clock(seconds):
        (tmp_path / "new").write_text(f"{seconds:+d}")
        (tmp_path / "new").rename(offset)

    set_clock(0)
    with monkeypatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(library))
        environment.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
        environment.setenv("FAKETIME_NO_CACHE", "1")
        environment.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        server = own_server()

    async def jump(seconds):
        set_clock(seconds)
        await wait_until(lambda: abs(server.redis.time()[0] - time.time() - seconds) < 5)

    return server, jump


@pytest.fixture
def jumps(caplog):
    """What the log says of jumps."""
    caplog.set_level(logging.WARNING, "aiorsmq")
    return lambda: [
        record.message for record in caplog.records if "clock jumped by" in record.message
    ]


async def test_an_hour_back(skewed, jumps, report):
    """It is warned of once; new messages come at once; what it has hidden, change_visibility(id, 0)
    shows again.
    """
    server, jump = skewed
    async with (
        AsyncRSMQ.from_url(server.url) as other,
        AsyncRSMQ.from_url(server.url, poll_interval=HOUR) as rsmq,
    ):
        theirs, queue = other.queue("jobs"), rsmq.queue("jobs")
        await queue.create()
        await theirs.send_many(["leased", "a", "b", "c"])
        await theirs.send("delayed", delay=1)
        held = await theirs.receive(vt=30)
        await jump(-HOUR)

        assert await queue.receive() is None
        assert len(jumps()) == 1
        assert (await queue.attributes()).hiddenmsgs == 5
        asking = asyncio.ensure_future(queue.receive(wait=60))
        sent = await queue.send("new")
        message = await asyncio.wait_for(asking, PATIENCE)
        assert message.id == sent
        assert abs(message.sent_at.timestamp() - time.time() + HOUR) < 5
        assert await message.delete()

        since = time.monotonic()
        for message in await theirs.peek(1000):  # the repair
            assert await theirs.change_visibility(message.id, 0)
        with anyio.fail_after(PATIENCE):
            messages = [await anext(queue.messages()) for _ in range(5)]
        took = time.monotonic() - since
        assert {message.body for message in messages} == {"leased", "a", "b", "c", "delayed"}
        assert not await held.delete()  # it has been handed out again
        assert all([await message.delete() for message in messages])
        assert len(jumps()) == 2  # each client says it
    report(
        f"5 of 5 hidden by it were shown again and received, in {took * 1000:.0f} ms; "
        f"{len(jumps())} warnings",
        "5; 2",
    )


async def test_two_hours_forward(skewed, jumps, report):
    """It is warned of once; the leases that it ends are fenced; back again, which is a jump too,
    all goes on.
    """
    server, jump = skewed
    async with AsyncRSMQ.from_url(server.url, poll_interval=0.1) as rsmq:
        queue = rsmq.queue("jobs")
        await queue.create()
        await queue.send_many(["a", "b"])
        early = [await queue.receive(vt=60) for _ in "ab"]
        asking = [asyncio.ensure_future(queue.receive(vt=60, wait=60)) for _ in "ab"]
        await wait_for_listener(server)
        await jump(2 * HOUR)

        late = await asyncio.wait_for(asyncio.gather(*asking), PATIENCE)
        assert [message.receive_count for message in late] == [2, 2]
        refused = [await message.delete() for message in early] + [
            await message.extend(60) for message in early
        ]
        assert not any(refused)
        assert await late[0].delete()
        assert len(jumps()) == 1

        await jump(0)
        await queue.send("new")
        message = await queue.receive()
        assert message.body == "new"
        assert await message.delete()
        assert len(jumps()) == 2
        assert await late[1].release()
        again = await queue.receive()
        assert (again.body, again.receive_count) == (late[1].body, 3)
        assert await again.delete()
        assert (await queue.attributes()).msgs == 0
    report(
        f"{len(refused)} of 4 late deletes and extensions refused; {len(jumps())} warnings of "
        "2 jumps",
        "4; 2",
    )
