"""Which primary is believed, and how long calls wait for another: `Primary`, without a server."""

import asyncio

import pytest
from aiorsmq._server import failover
from aiorsmq._server.failover import Primary, View
from aiorsmq._server.home import Home
from redis.exceptions import ConnectionError

from support import PATIENCE

ONE = ("host", 1)
TWO = ("host", 2)


def old(address=ONE, *, is_replacing=False):
    return View(4, address, is_replacing)


def new(address=TWO):
    return View(5, address, False)


@pytest.fixture
async def moves():
    return []


@pytest.fixture
async def primary(moves):
    primary = Primary(Home(), 3, lambda: moves.append(primary.address))
    return primary


async def test_highest_epoch(primary, moves):
    """The sentinel with the highest epoch is right, whoever speaks last and however many object."""
    with pytest.raises(ConnectionError):
        primary.require_address()
    primary.learn("a", old())
    primary.learn("b", new())
    primary.learn("c", old())
    primary.learn("a", old())
    assert (primary.require_address(), moves) == (TWO, [TWO])


async def test_same_epoch(primary, moves):
    """Of two that have the highest epoch, the one that more sentinels name is right; the one known
    so far, if they are as many.
    """
    primary.learn("a", new(ONE))
    primary.learn("b", new(TWO))
    assert primary.address == ONE
    primary.learn("c", new(TWO))
    assert (primary.address, moves) == (TWO, [TWO])


async def test_forgotten(primary, moves):
    """Who cannot be asked any more has no say: sentinels that were set up anew begin with epoch 0.
    Nobody's silence moves the primary.
    """
    primary.learn("a", new(TWO))
    primary.forget("a")
    primary.forget("b")
    assert primary.address == TWO
    primary.learn("b", View(0, ONE, False))
    primary.learn("c", View(0, ONE, False))
    assert (primary.address, moves) == (ONE, [ONE])


async def test_few_that_are_left(primary, moves):
    """If only sentinels can be asked that do not know of the latest failover, and they are not the
    most, the primary stays what it is: another one may have hung along with them.
    """
    for name in "abc":
        primary.learn(name, new(TWO))
    for name in "abc":
        primary.forget(name)
    primary.learn("c", old(ONE))
    assert (primary.address, moves) == (TWO, [])
    primary.learn("a", new(TWO))
    primary.learn("c", new(ONE))
    primary.forget("a")
    assert primary.address == ONE


async def test_held(primary, moves):
    """From the moment at which a failover takes its place nobody connects to the primary, until
    another is named.
    """
    primary.learn("a", old())
    with primary.opening() as opening:
        primary.hold()
    assert opening.cancel_called
    assert moves == [ONE]
    waiting = asyncio.create_task(primary.settled())
    primary.learn("b", old())
    await asyncio.sleep(0)
    assert not waiting.done()
    primary.learn("a", new())
    await waiting
    assert moves == [ONE, TWO]


async def test_held_for_a_while(primary, monkeypatch):
    """If nothing is heard any more, the primary is asked again."""
    monkeypatch.setattr(failover, "HOLD", 0.05)
    primary.learn("a", old())
    primary.hold()
    assert primary.is_held()
    await asyncio.wait_for(primary.settled(), PATIENCE)
    assert not primary.is_held()


async def test_given_up(primary):
    """A failover that is given up holds nobody up."""
    primary.learn("a", old())
    primary.hold()
    primary.release()
    await primary.settled()


async def test_asked_during_a_failover(primary):
    """Who asks only then is told, too; once, however long the failover takes."""
    primary.learn("a", old(is_replacing=True))
    assert primary.is_held()
    primary.learn("a", old())
    assert not primary.is_held()
    primary.learn("a", old(is_replacing=True))
    assert not primary.is_held()


async def test_opening(primary):
    """What was opened to the same primary may be used, even if a sentinel has said so again."""
    primary.learn("a", new())
    with primary.opening() as opening:
        primary.learn("b", new())
        primary.learn("c", old())
    assert not opening.cancel_called
