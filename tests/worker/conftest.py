"""What the tests of workers share."""

import pytest


@pytest.fixture
async def with_dead_letters(rsmq):
    """A queue with a dead-letter queue, and that one."""
    queue, dead = rsmq.queue("jobs"), rsmq.queue("dead")
    await queue.create(max_receives=2, dead_letter_queue="dead")
    return queue, dead
