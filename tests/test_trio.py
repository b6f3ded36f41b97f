"""Trio is not supported, and says so."""

import pytest
import trio
from aiorsmq import AsyncRSMQ, WrongEventLoop

from entrances import ENTRANCES


@pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)
def test_trio(entrance):
    """Under trio, every use says in one line that aiorsmq runs on asyncio only."""

    async def use():
        await entrance(AsyncRSMQ())

    with pytest.raises(WrongEventLoop) as caught:
        trio.run(use)
    assert str(caught.value) == (
        "aiorsmq runs on asyncio only, because redis-py does: it cannot be used under trio"
    )
    assert caught.value.__suppress_context__
