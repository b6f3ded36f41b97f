"""Ids and the server's clock; the limits are in test_bad_input."""

import re
import time
from itertools import pairwise

from aiorsmq._protocol import id_time
from aiorsmq._server.clock import Clock

ID = re.compile(r"[0-9a-z]{10}[A-Za-z0-9]{22}")


def test_form():
    """An id is the server's microseconds in base 36, ten characters until 2085, and 22 letters or
    digits.
    """
    us, ids = Clock().mint(100)
    assert all(ID.fullmatch(id) for id in ids)
    assert {int(id[:10], 36) for id in ids} == {us}


def test_ascending():
    """Ids of one client ascend strictly, in a batch and from batch to batch."""
    clock = Clock()
    ids = [id for _ in range(100) for id in clock.mint(50)[1]]
    assert all(a < b for a, b in pairwise(ids))


def test_server_time():
    """They carry the server's time once a reply has told it, whatever this machine's clock says."""
    clock = Clock()
    clock.learn(b"1000000000", b"500000", time.monotonic())
    clock.restart()
    assert 0 <= clock.now_us() - 1_000_000_000_500_000 < 1_000_000


def test_a_reply_that_is_read_late():
    """It does not set the clock back, as long as it may have been on its way for so long; a later
    question does.
    """
    clock = Clock()
    clock.learn(b"1000000000", b"0", time.monotonic())
    clock.learn(b"999999998", b"0", time.monotonic() - 3)
    assert 0 <= clock.now_us() - 1_000_000_000_000_000 < 1_000_000
    clock.learn(b"999999998", b"0", time.monotonic() - 1)
    assert 0 <= clock.now_us() - 999_999_998_000_000 < 1_000_000


def test_id_time():
    """An id tells its time; one of another form tells none."""
    now = time.time()
    assert abs(id_time(Clock().mint(1)[1][0]) - now) < 1
    assert id_time("0" * 30) is None
    assert id_time("!" * 32) is None
    assert id_time("0" * 10 + "!" * 30) is None


def test_jumps():
    """A clock that jumps is told from a reply that is read late: once, and by how much at least."""
    clock = Clock()
    now = time.monotonic()
    assert clock.learn(b"1000000000", b"0", now - 5) == 0  # the first, and read late
    assert clock.learn(b"1000000000", b"0", now) == 0
    assert -3601 < clock.learn(b"999996400", b"0", time.monotonic()) < -3599
    assert clock.learn(b"999996400", b"0", time.monotonic()) == 0
    assert 7199 < clock.learn(b"1000003600", b"0", time.monotonic()) < 7201
    assert (
        clock.learn(b"1000003600", b"500000", time.monotonic()) == 0
    )  # within what two clocks may drift apart
