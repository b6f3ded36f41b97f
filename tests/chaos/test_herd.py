"""Many consumers that wait for one queue: woken one for a message, and in turn."""

import asyncio
import json
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from support import wait_until

HERD = Path(__file__).with_name("herd.py")
WORK = 0.002
"""Seconds that each message takes its consumer."""


# One at a time, a message cannot cost less than a send, a delete, and a look by each process that
# it is announced to.
@pytest.mark.parametrize(("burst", "limit"), [(1, 4.2), (10, 2.5), (200, 2.5)])
async def test_two_processes_of_thirty(server, queue, seed, scale, report, burst, limit):
    """Sixty consumers in two processes cost few script calls a message, and get about the same
    number of messages each.
    """
    herds = [
        await asyncio.create_subprocess_exec(
            sys.executable, str(HERD), server.url, stdin=PIPE, stdout=PIPE
        )
        for _ in range(2)
    ]
    await wait_until(lambda: server.redis.pubsub_numsub("rsmq:rt:jobs")[0][1] == 2)
    server.reset_stats()
    count, sends = scale(800, 6000), 0
    fair = scale(2.5, 2)  # fewer messages, more chance
    for _ in range(count // burst):
        await queue.send_many([str(seed.uniform(0, 2 * WORK)) for _ in range(burst)])
        sends += 1
        await asyncio.sleep(seed.uniform(0, 2 * WORK * burst / 10))
    await wait_until(lambda: not server.redis.zcard("rsmq:jobs"))
    calls = server.script_calls() / count
    had = []
    for herd in herds:
        out, _ = await herd.communicate(b"")  # ends its input
        had += json.loads(out)
    share = max(had) / (count / len(had))
    report(
        f"{count} messages in bursts of {burst}: {calls:.2f} script calls a message (sends: "
        f"{sends / count:.2f}), "
        f"largest share {share:.2f} of the mean",
        f"{limit} calls, share {fair}",
    )
    assert sum(had) == count
    assert calls <= limit
    assert share <= fair
