"""What the tests of dead letters share."""

import pytest


@pytest.fixture
async def jobs(rsmq):
    """A queue whose messages die when they are received a second time."""
    queue = rsmq.queue("jobs")
    await queue.create(max_receives=1, dead_letter_queue="dead")
    return queue


@pytest.fixture
def dead(rsmq):
    return rsmq.queue("dead")
